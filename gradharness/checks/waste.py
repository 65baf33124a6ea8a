"""Gradients that a backward computes although nobody asked for them: measured in elements, not in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gradharness.checks.base import Setting
from gradharness.errors import SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import RawReturn
from gradharness.model.verdict import Discrepancy, Fault

# After a node's backward its hook sees every gradient, and an input that needs none has no edge.
_WORTH_TELLING = 10  # % of the returned elements; a bias beside a weight is not
_STEPS = """
outputs = outputs_of(arguments)
nodes, wasted = [t.grad_fn for t in outputs], []
for node in nodes:  # grows while it is walked
    edges = [parent for parent, _ in node.next_functions]
    nodes += [parent for parent in edges if parent is not None and parent not in nodes]
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        node.register_hook(lambda given, _, edges=edges: wasted.extend(
            tuple(g.shape) for g, parent in zip(given, edges) if g is not None and parent is None))
torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
print('expected no gradients that nobody asked for, got some of these shapes:', wasted)
sys.exit(int(bool(wasted)))
""".strip()


def wasted(setting: Setting, case: Case, there: Case) -> Iterator[Discrepancy]:
    """A warning for each backward that gives gradients of inputs although only others were asked for.

    It is one, whichever inputs they are: the remedy is one, too. A gradient that is the cotangent itself, or shares
    its memory with one that was asked for, costs nothing.

    Args:
        setting: With the subject.
        case: All inputs require grad here: it gives the inputs' names.
        there: The same with fewer leaves.
    """
    try:
        returns = setting.subject.raw_returns(there.primals, there.cotangents)
    except SubjectError:
        return
    unasked = [_unasked(r, there.cotangents) for r in returns]
    if not any(unasked):
        return
    named = _names(setting, case)
    elements = sum(v.numel() for r in returns for v in r.returned if isinstance(v, torch.Tensor))
    for place, (returned, found) in enumerate(zip(returns, unasked, strict=True)):
        known = [(label, g) for number, g in found if (label := named.get((place, returned.place, number)))]
        thrown = sum(g.numel() for _, g in known)
        if thrown and 100 * thrown >= _WORTH_TELLING * elements:
            yield _told(returned.place, [label for label, _ in known], there.primals.labels, (thrown, elements))


def _told(place: str, labels: Sequence[str], asked: Sequence[str], counts: tuple[int, int]) -> Discrepancy:
    thrown, elements = counts
    what = "a gradient" if len(labels) == 1 else "gradients"
    requires = "requires" if len(asked) == 1 else "require"
    detail = (
        f"{place} computes {what} for {_listed(labels)} when only {_listed(asked)} {requires} one: {thrown} of "
        f"{elements} elements that it returns ({100 * thrown / elements:.0f} %) are thrown away; "
        "ctx.needs_input_grad tells"
    )
    return Discrepancy(label=place, fault=Fault.UNEXPECTED_GRADIENT, detail=detail, steps=tuple(_STEPS.splitlines()))


def _listed(labels: Sequence[str]) -> str:
    return " and ".join(f"`{label}`" for label in labels)


def _unasked(returned: RawReturn, cotangents: Sequence[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    """(number of the input, gradient) of each that was not asked for and cost something."""
    needed = [
        value
        for given, value in zip(returned.inputs, returned.returned, strict=False)
        if given.needed and isinstance(value, torch.Tensor)
    ]
    found = []
    for number, (given, value) in enumerate(zip(returned.inputs, returned.returned, strict=False)):
        if not given.needed and isinstance(value, torch.Tensor) and not _free(value, (*needed, *cotangents)):
            found.append((number, value))
    return found


def _free(value: torch.Tensor, others: Sequence[torch.Tensor]) -> bool:
    if value.layout is not torch.strided or not value.numel():
        return True
    return any(
        value.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        or (value.shape == other.shape and torch.equal(value, other.to(value.dtype)))
        for other in others
        if other.layout is torch.strided and other.device == value.device
    )


def _names(setting: Setting, case: Case) -> dict[tuple[int, str, int], str]:
    """How reports call each input of each hand-written backward, where it is one of the subject's own."""
    return {
        (place, returned.place, number): given.label
        for place, returned in enumerate(setting.subject.raw_returns(case.primals, case.cotangents))
        for number, given in enumerate(returned.inputs)
        if given.needed and given.label in case.primals.labels
    }
