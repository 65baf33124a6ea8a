"""Calling a subject more than once: where else to call it, whether results are the same, how a script shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gradharness.checks.base import Setting
from gradharness.comparison import compare
from gradharness.errors import SubjectError
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Linearization, Primals, Tensors
from gradharness.model.verdict import Discrepancy
from gradharness.numerics.bits import same_bits

SECOND = -0.5  # the second call's cotangent, in units of the first's: a power of two, and of another sign
_NOISE_MARGIN = 8.0  # two repetitions do not show the largest noise

# Values that the second call gets, as code and as the text of it: in another order if that is another point, else
# smaller. Both stay within a range and keep signs, symmetry and sums of rows.
_CHANGES: tuple[tuple[Callable[[torch.Tensor], torch.Tensor], str], ...] = (
    (lambda x: x.flip([*range(x.dim())]), "a.data.flip([*range(a.dim())])"),
    (lambda x: 0.75 * x, "0.75 * a.data"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, and what it gave when nothing came between: copies, so that no later call can change them.

    Attributes:
        primals: The point.
        cotangents: What backward got.
        outputs: Every output.
        gradients: One per leaf; None where none came.
    """

    primals: Primals
    cotangents: Tensors
    outputs: Tensors
    gradients: Gradients


@dataclass(frozen=True, slots=True)
class Pair:
    """Two different calls of one subject, and lines that make the second one's arguments in a script.

    Attributes:
        first: At the case.
        second: Elsewhere.
        lines: Define ``others``, ``other_leaves`` and ``other_cotangents``.
    """

    first: Call
    second: Call
    lines: tuple[str, ...]


def called(setting: Setting, primals: Primals, cotangents: Tensors) -> Call:
    """Forward and backward with nothing between them."""
    linearization = setting.subject.linearize(primals)
    outputs = copied(linearization.outputs)
    return Call(primals, cotangents, outputs, copied_gradients(linearization.pullback(cotangents)))


def pair_of(setting: Setting, case: Case, first: Call, fixed: Sequence[int] = ()) -> Pair | None:
    """The case's call, and one at another point with outputs of the same shapes; None if the subject has none.

    Args:
        setting: Whose subject.
        case: The point.
        first: The call there.
        fixed: Numbers of leaves that both calls share.
    """
    scale = 1.0 if setting.subject.fixed_cotangent else SECOND
    weights = tuple(scale * w for w in first.cotangents)
    for change, text in _CHANGES:
        leaves = [x if i in fixed else change(x) for i, x in enumerate(case.primals.leaves)]
        if all(torch.equal(x, y) for x, y in zip(leaves, case.primals.leaves, strict=True)):
            continue
        try:
            second = called(setting, case.primals.at(leaves), weights)
        except (SubjectError, RuntimeError):  # autograd refuses cotangents of other shapes
            continue
        if [y.shape for y in second.outputs] == [y.shape for y in first.outputs]:
            moved = [label for i, label in enumerate(case.primals.labels) if i not in fixed]
            return Pair(first, second, other_arguments(case.primals.labels, moved, text, scale))
    return None


def other_arguments(labels: Sequence[str], moved: Sequence[str], text: str, scale: float) -> tuple[str, ...]:
    """Lines that make a second set of arguments, in which ``a`` of the leaves ``moved`` is what the text says."""
    all_of_them = "other_leaves" if [*labels] == [*moved] else f"[{', '.join(map(_other, moved))}]"
    return (
        "others = copy.deepcopy(arguments)",
        f"other_leaves = [{', '.join(map(_other, labels))}]",
        f"other_cotangents = [{scale!r} * w for w in cotangents]",
        f"for a in {all_of_them}:",
        f"    a.data = {text}",
    )


def _other(label: str) -> str:
    name, bracket, rest = label.partition("[")
    return f"others[{name!r}]{bracket}{rest}"


def helpers(rtol: float) -> tuple[str, ...]:
    """Lines that define ``kept`` (copies) and ``differ`` (more than ``rtol`` of the largest element apart)."""
    allowed = f"atol={rtol!r} * e.abs().nan_to_num(posinf=0).max().item()" if rtol else "atol=0"
    return (
        "def kept(values):",
        "    return [v.detach().clone() for v in values]",
        "def differ(got, expected):",
        "    print('expected', expected, '\\ngot     ', got)",
        "    pairs = [(g, e) for g, e in zip(got, expected) if e.numel()]",
        f"    return not all(torch.allclose(g, e, rtol=0, {allowed}, equal_nan=True) for g, e in pairs)",
    )


def copied(tensors: Sequence[torch.Tensor]) -> Tensors:
    """Copies without grad."""
    return tuple(t.detach().clone() for t in tensors)


def copied_gradients(gradients: Gradients) -> Gradients:
    """The same for gradients."""
    return tuple(None if g is None else g.detach().clone() for g in gradients)


def total(*parts: Gradients) -> Gradients:
    """Sums of gradients; None counts as zero."""
    return tuple(_sum([g for g in column if g is not None]) for column in zip(*parts, strict=True))


def _sum(terms: Sequence[torch.Tensor]) -> torch.Tensor | None:
    found: torch.Tensor | None = None
    for term in terms:
        found = term if found is None else found + term
    return found


def differing(
    setting: Setting,
    labels: Sequence[str],
    got: Sequence[torch.Tensor | None],
    expected: Sequence[torch.Tensor | None],
    call: Call,
) -> list[Discrepancy]:
    """What differs beyond the tolerance, and beyond what the subject's own noise explains; the worst first.

    Args:
        setting: Whose subject and tolerance.
        labels: One per tensor.
        got: Where calls came together.
        expected: What isolated calls gave.
        call: Is made again, to see how much the subject's gradients move by themselves.
    """
    found = []
    noise: float | None = None
    for label, g, e in zip(labels, got, expected, strict=True):
        if g is None and e is None:
            continue
        truth = e if e is not None else torch.zeros_like(g)  # type: ignore[arg-type]
        if g is not None and same_bits(g, truth):
            continue
        if g is not None and g.shape != truth.shape:
            continue  # the contract check names shapes
        compared = compare(label, g, truth)
        if rule(compared, 0.0, setting.tolerance).excess <= 1:
            continue
        noise = own_noise(setting, call) if noise is None else noise
        ruling = rule(compared, _NOISE_MARGIN * noise * compared.rms, setting.tolerance)
        if ruling.excess > 1:
            found.append(Discrepancy(label=label, got=g, expected=truth, bound=ruling.tolerance, excess=ruling.excess))
    return sorted(found, key=lambda d: -d.excess)


def own_noise(setting: Setting, call: Call) -> float:
    """Largest difference between equal calls, relative to the rms of the gradient that differs."""
    largest = 0.0
    for _ in range(2):
        again = called(setting, call.primals, call.cotangents).gradients
        for g, e in zip(again, call.gradients, strict=True):
            if g is None or e is None or g.shape != e.shape or not e.numel():
                continue
            compared = compare("", g, e)
            difference = 0.0 if compared.difference is None else float(compared.difference.nan_to_num().max())
            largest = max(largest, difference / compared.rms if compared.rms > 0 else 0.0)
    return largest


def is_repeatable(setting: Setting, call: Call) -> bool:
    """Whether the same call gives the same outputs and gradients again, within the tolerance."""
    again = called(setting, call.primals, call.cotangents)
    if [y.shape for y in again.outputs] != [y.shape for y in call.outputs]:
        return False
    pairs = zip((*again.outputs, *again.gradients), (*call.outputs, *call.gradients), strict=True)
    return all(_is_close(setting, g, e) for g, e in pairs)


def _is_close(setting: Setting, got: torch.Tensor | None, expected: torch.Tensor | None) -> bool:
    if got is None or expected is None:
        return got is expected
    if same_bits(got, expected):
        return True
    if got.shape != expected.shape or not (expected.is_floating_point() or expected.is_complex()):
        return False
    return rule(compare("", got, expected), 0.0, setting.tolerance).excess <= 1


def linearized(setting: Setting, call: Call) -> Linearization:
    """The call's forward, with its backward still to come."""
    return setting.subject.linearize(call.primals)
