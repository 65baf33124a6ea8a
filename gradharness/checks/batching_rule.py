"""The ``vmap`` of a Function, its own or a generated one: a batch of calls beside one call after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.autograd.function import Function

from gradharness.checks.arbitration import moved, nudged
from gradharness.checks.base import Setting
from gradharness.checks.roundoff import MARGIN, forward_roundoff
from gradharness.comparison import compare
from gradharness.errors import OracleUnavailable, SubjectError, first_line
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.subjects.calls import call_backward, call_forward, tensor_outputs
from gradharness.subjects.transformed import AnyCallable, is_random

_BATCH = (2, 3)  # numbers of the case's directions that make the other two samples


@dataclass(frozen=True, slots=True)
class _Sample:
    """One call of its own."""

    primals: Primals
    outputs: Tensors
    gradients: Tensors


@dataclass(frozen=True, slots=True)
class _Variant:
    """Along which dimension each leaf is batched; None if all samples share it."""

    words: str
    dims: tuple[int | None, ...]


def batched(
    setting: Setting, case: Case, function: AnyCallable, classes: Iterable[type[Function]]
) -> Iterator[tuple[bool, Discrepancy]]:
    """Outputs under ``vmap`` in several ways of batching, and gradients of a batch.

    All leaves are batched, then the first and the last alone, then all of them along their last dimension.
    Nothing is asked of a Function without a rule, of random subjects, and of tensors inside of containers. What raises
    is loud: a warning where the subject is the Function itself, and nobody's business where it is code around one.
    """
    rules = [c for c in classes if c.vmap is not Function.vmap or getattr(c, "generate_vmap_rule", False)]
    # Without setup_context there is no vmap at all.
    rules = [c for c in rules if c.setup_context is not Function.setup_context]
    if not rules or is_random(setting.subject) or any(len(path) > 1 for path in case.primals.active):
        return
    name, loud = rules[0].__name__, getattr(function, "__self__", None) in rules
    everything, *others = _variants(case.primals.leaves)
    try:
        whole = _samples(setting, case, everything)
        for variant in (everything, *others):
            samples = whole if variant is everything else _samples(setting, case, variant)
            forward = _forward(setting, function, samples, (name, variant))
            yield from _attempt(
                forward, name if loud else "", _script(case.primals, _FORWARD.format(dims=variant.dims))
            )
        gradients = _gradients(setting, case, function, (name, whole))
        yield from _attempt(gradients, name if loud else "", _script(case.primals, _BACKWARD + _BACKWARDS[0] + _END))
    except OracleUnavailable:  # the samples cannot be made
        return


def _attempt(found: Iterator[Discrepancy], name: str, steps: tuple[str, ...]) -> Iterator[tuple[bool, Discrepancy]]:
    """What is found is an error; what raises on the way is a warning, or nothing where no Function has the name."""
    try:
        for one in found:
            yield True, one
    except SubjectError as error:
        if name:
            detail = f"{name} defines vmap, which raises {type(error.original).__name__}: {first_line(error.original)}"
            yield False, Discrepancy(label="vmap", fault=Fault.WRONG_VMAP, detail=detail, steps=steps)


def _variants(leaves: Tensors) -> list[_Variant]:
    count = len(leaves)
    found = [_Variant("with every input batched", (0,) * count)]
    if count > 1:
        found.append(_Variant("with only the first input batched", (0,) + (None,) * (count - 1)))
        found.append(_Variant("with only the last input batched", (None,) * (count - 1) + (0,)))
    if any(x.dim() for x in leaves):
        found.append(_Variant("batched along the last dimension", tuple(x.dim() for x in leaves)))
    return found


def _samples(setting: Setting, case: Case, variant: _Variant) -> list[_Sample]:
    """Three calls that differ in the batched leaves alone.

    Raises:
        OracleUnavailable: If the subject rejects one of the points, or its outputs have other shapes there.
    """
    found = []
    for number in (None, *_BATCH):
        there = case.primals if number is None else nudged(case, number)
        leaves = [
            x if dim is None else y for x, y, dim in zip(case.primals.leaves, there.leaves, variant.dims, strict=True)
        ]
        point = case.primals.at(leaves)
        beside, gradients = moved(setting, case, point)
        filled = tuple(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, point.leaves, strict=True))
        found.append(_Sample(point, beside.outputs, filled))
    return found


def _stacked(samples: Sequence[_Sample], dims: Sequence[int | None]) -> list[torch.Tensor]:
    columns = zip(*(s.primals.leaves for s in samples), strict=True)
    return [xs[0].clone() if d is None else torch.stack(xs, d) for xs, d in zip(columns, dims, strict=True)]


def _on_leaves(primals: Primals, function: AnyCallable) -> Callable[..., Tensors]:
    """The function of its leaves alone."""

    def called(*leaves: torch.Tensor) -> Tensors:
        return tensor_outputs(function(*primals.arguments(leaves)), "")[0]

    return called


def _forward(
    setting: Setting, function: AnyCallable, samples: Sequence[_Sample], told: tuple[str, _Variant]
) -> Iterator[Discrepancy]:
    name, variant = told
    stacked = _stacked(samples, variant.dims)
    batch = torch.func.vmap(_on_leaves(samples[0].primals, function), in_dims=variant.dims)
    got: Tensors = call_forward(batch, stacked)  # type: ignore[assignment]
    words = f"{name} gives other outputs under vmap, {variant.words}, than sample by sample"
    for number, values in enumerate(got):
        expected = torch.stack([s.outputs[number] for s in samples])
        if values.shape == expected.shape and torch.equal(values, expected):
            continue
        noise = [forward_roundoff(setting.subject, s.primals, s.outputs)[number] for s in samples]
        found = _held(setting, values, expected, torch.stack(noise))
        if found is not None:
            excess, bound = found
            yield Discrepancy(
                label=f"output {number}",
                bound=bound,
                excess=excess,
                fault=Fault.WRONG_VMAP,
                detail=words,
                steps=_script(samples[0].primals, _FORWARD.format(dims=variant.dims)),
            )
            return


def _held(
    setting: Setting, got: torch.Tensor, expected: torch.Tensor, noise: torch.Tensor | float
) -> tuple[float, torch.Tensor | float] | None:
    """(excess, tolerance) if two batches differ by more than round-off."""
    if not expected.is_floating_point() and not expected.is_complex():
        expected = expected.to(torch.float64)
        got = got.to(torch.float64)
    ruling = rule(compare("", got, expected), MARGIN * noise, setting.tolerance)
    return (ruling.excess, ruling.tolerance) if ruling.excess > 1 else None


def _gradients(
    setting: Setting, case: Case, function: AnyCallable, told: tuple[str, Sequence[_Sample]]
) -> Iterator[Discrepancy]:
    """The vjp under vmap, and the vjp of vmap, beside the gradients of each sample."""
    name, samples = told
    alone = _on_leaves(samples[0].primals, function)
    stacked = _stacked(samples, (0,) * len(samples[0].primals.leaves))
    expected = [torch.stack(gs) for gs in zip(*(s.gradients for s in samples), strict=True)]
    weights = dict(zip(case.differentiable, case.cotangents, strict=True))

    def pulled(*leaves: torch.Tensor) -> Tensors:
        # torch.func.vjp refuses a function with an output of indices.
        _, pull, *_ = torch.func.vjp(lambda *xs: tuple(y for i, y in enumerate(alone(*xs)) if i in weights), *leaves)
        gradients: Tensors = pull(tuple(weights.values()))
        return gradients

    def through(*leaves: torch.Tensor) -> Tensors:
        attached = [x.detach().requires_grad_() for x in leaves]
        outputs = torch.func.vmap(alone)(*attached)
        chosen = [(y, weights[i].expand_as(y)) for i, y in enumerate(outputs) if i in weights and y.requires_grad]
        found = torch.autograd.grad([y for y, _ in chosen], attached, [w for _, w in chosen], allow_unused=True)
        gradients: Gradients = tuple(found)
        return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, leaves, strict=True))

    kinds = (("the vjp under vmap", torch.func.vmap(pulled)), ("the gradient through vmap", through))
    for number, (words, run) in enumerate(kinds):
        got: Tensors = call_backward(run, stacked)  # type: ignore[assignment]
        for label, a, b in zip(case.primals.labels, got, expected, strict=True):
            if torch.equal(a, b):
                continue
            found = _held(setting, a, b, 0.0)
            if found is not None:
                excess, bound = found
                detail = f"{name}: {words} for {label} is another one than sample by sample"
                steps = _script(samples[0].primals, _BACKWARD + _BACKWARDS[number] + _END)
                yield Discrepancy(
                    label=label, bound=bound, excess=excess, fault=Fault.WRONG_VMAP, detail=detail, steps=steps
                )
                return


def _script(primals: Primals, text: str) -> tuple[str, ...]:
    names = [primals.names[int(path[0])] for path in primals.active]
    return (f"places = {names!r}", *_START.splitlines(), *text.splitlines())


_START = """\
def function(*values):
    return tuple(outputs_of({**arguments, **dict(zip(places, values))}))
samples = [[x.detach() * s for x in leaves] for s in (1, 1.25, 0.75)]
def near(a, b):
    a, b = a.double() if not a.is_complex() else a, b.double() if not b.is_complex() else b
    size = 1e-6 if leaves[0].dtype in (torch.float64, torch.complex128) else 1e-3
    return bool((((a - b).abs() <= size * b.abs().max()) | (a == b) | ((a != a) & (b != b))).all())
"""
_FORWARD = """\
dims = {dims!r}
for sample in samples:
    sample[:] = [samples[0][i] if d is None else x for i, (x, d) in enumerate(zip(sample, dims))]
stacked = [xs[0] if d is None else torch.stack(xs, d) for xs, d in zip(zip(*samples), dims)]
got = torch.func.vmap(function, in_dims=dims)(*stacked)
expected = [torch.stack(ys) for ys in zip(*(function(*sample) for sample in samples))]
print('expected', expected, '\\ngot     ', got)
sys.exit(int(not all(map(near, got, expected))))
"""
_BACKWARD = """\
stacked = [torch.stack(xs) for xs in zip(*samples)]
def pulled(*values):
    values = [x.detach().requires_grad_() for x in values]
    outputs = [y for y in function(*values) if y.requires_grad]
    found = torch.autograd.grad(outputs, values, cotangents, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, values)]
expected = [torch.stack(gs) for gs in zip(*(pulled(*sample) for sample in samples))]
"""
_BACKWARDS = (
    """\
def under(*values):
    def floating(*xs):
        return tuple(y for y in function(*xs) if y.is_floating_point() or y.is_complex())
    return torch.func.vjp(floating, *values)[1](tuple(cotangents))
got = torch.func.vmap(under)(*stacked)
""",
    """\
values = [x.detach().requires_grad_() for x in stacked]
outputs = [y for y in torch.func.vmap(function)(*values) if y.requires_grad]
got = torch.autograd.grad(outputs, values, [w.expand_as(y) for w, y in zip(cotangents, outputs)], allow_unused=True)
got = [torch.zeros_like(x) if g is None else g for g, x in zip(got, values)]
""",
)
_END = """\
print('expected', expected, '\\ngot     ', got)
sys.exit(int(not all(map(near, got, expected))))
"""
