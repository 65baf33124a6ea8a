"""One program on the tape beside autograd, and which node is to blame where they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch

from gradharness.errors import RuleError
from gradharness.model.subject import Gradients, Tensors
from gradharness.numerics.bits import same_bits
from gradharness.numerics.tolerance import tolerance_for
from gradharness.programs import graph, tape
from gradharness.programs.op import Call
from gradharness.programs.resolution import Step, Trace

# Below this share of the largest cotangent, in units of eps, a gradient may be all round-off: softmax summed up has
# the gradient zero.
_FLOOR = 2.0**16
_NUDGE = 2.0**-20  # of one, beside a kink
_NUDGES = (1, 2)
_WRITES = "writes into {}"


class Wrong(Enum):
    """What a node's VJP does wrong. The value says it of "the VJP of sin"."""

    GRADIENT = "gives a wrong gradient"
    WRITES = "writes into what is not its own"
    FORM = "gives no gradient that fits"


@dataclass(frozen=True, slots=True)
class Guilty:
    """The node whose VJP is wrong.

    Attributes:
        step: Number of its step in the trace.
        node: Number of its node in the trace's program.
        op: Name of its op.
        wrong: What it does.
        detail: The particulars, in words.
        got: Its gradient; None where it gave none.
        expected: Autograd's for the same cotangents; None where nothing was compared.
    """

    step: int
    node: int
    op: str
    wrong: Wrong
    detail: str
    got: torch.Tensor | None = None
    expected: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Gradients of one program that differ.

    Attributes:
        leaf: Number of the leaf that is worst; None where the tape came to no gradients.
        got: The tape's; None where it gave none.
        expected: Autograd's.
        excess: Largest difference in units of its tolerance.
        guilty: Whose VJP is wrong; None where round-off, or a kink, may be all there is to it: that is undecided.
    """

    leaf: int | None
    got: torch.Tensor | None
    expected: torch.Tensor | None
    excess: float
    guilty: Guilty | None


def disagreement(trace: Trace, cotangents: Sequence[torch.Tensor]) -> Disagreement | None:
    """How the tape differs from autograd; None where it does not.

    Args:
        trace: The steps, with the VJPs that are tried.
        cotangents: One for each of ``trace.outputs``; they are copied, and no VJP can spoil them.

    Raises:
        OracleUnavailable: If autograd itself raises.
    """
    expected = graph.backward(trace, cotangents)
    before = copies(trace.values)
    try:
        got = tape.backward(trace, copies(cotangents), _guarded)
    except RuleError as error:
        return Disagreement(None, None, None, float("inf"), _no_gradient(trace, error))
    finally:
        _restore(trace, before)
    leaf, worst = worst_of(got, expected, cotangents)
    if worst <= 1:
        return None
    return Disagreement(leaf, got[leaf], expected[leaf], worst, localise(trace, cotangents))


def copies(tensors: Sequence[torch.Tensor]) -> Tensors:
    """Copies of tensors."""
    return tuple(t.detach().clone() for t in tensors)


def _restore(trace: Trace, before: Tensors) -> None:
    """Undoes what a VJP wrote into saved values, so that it does not spoil the trace for who looks again."""
    for now, then in zip(trace.values, before, strict=True):
        overlaps = any(stride == 0 and size > 1 for stride, size in zip(now.stride(), now.shape, strict=True))
        if not overlaps and not same_bits(now, then):  # what overlaps is a view of another value
            now.copy_(then)


def _guarded(number: int, step: Step, call: Call, weights: Tensors) -> Gradients:
    """The step's VJP; one that writes is wrong even where nobody reads again what it wrote into."""
    saved = call.inputs + call.outputs
    before = [t._version for t in weights], [t._version for t in saved]
    gradients = tape.checked_pull(number, step, call, weights)
    if before[0] != [t._version for t in weights]:
        raise RuleError(number, step.op.name, _WRITES.format("its cotangent"))
    if before[1] != [t._version for t in saved]:
        raise RuleError(number, step.op.name, _WRITES.format("a saved value"))
    return gradients


def _no_gradient(trace: Trace, error: RuleError) -> Guilty:
    wrong = Wrong.WRITES if error.what.startswith(_WRITES.format("")) else Wrong.FORM
    return Guilty(error.step, trace.steps[error.step].node, error.op, wrong, error.what)


def worst_of(got: Gradients, expected: Gradients, cotangents: Sequence[torch.Tensor]) -> tuple[int, float]:
    """Number and ``excess`` of the gradient that is furthest off; 0 where there are none.

    Args:
        got: Gradients.
        expected: What they should be.
        cotangents: What they were made of.
    """
    if not got:
        return 0, 0.0
    floor = noise_floor([*cotangents, *expected])
    excesses = [excess(g, e, floor) for g, e in zip(got, expected, strict=True)]
    leaf = max(range(len(excesses)), key=excesses.__getitem__)
    return leaf, excesses[leaf]


def noise_floor(tensors: Sequence[torch.Tensor | None]) -> float:
    """Differences no larger than this may be round-off of cotangents that cancel.

    Args:
        tensors: Cotangents that meet in what is compared.
    """
    known = [t for t in tensors if t is not None and t.numel()]
    if not known:
        return 0.0
    largest = max(float(t.abs().max()) for t in known)
    return _FLOOR * torch.finfo(known[0].dtype).eps * largest


def excess(got: torch.Tensor | None, expected: torch.Tensor | None, floor: float) -> float:
    """Largest difference of two gradients in units of its tolerance; None counts as zero, NaN differs from all.

    Args:
        got: A gradient.
        expected: What it should be; nothing is said where it is not finite.
        floor: What is tolerated anywhere.
    """
    if got is None and expected is None:
        return 0.0
    one = got if got is not None else torch.zeros_like(expected)  # type: ignore[arg-type]
    other = expected if expected is not None else torch.zeros_like(one)
    if not other.numel():
        return 0.0
    allowed = tolerance_for(other.dtype).allowed(other) + (floor or torch.finfo(other.dtype).tiny)
    ratio = torch.where(other.isfinite(), (one - other).abs() / allowed, 0.0)
    return float(torch.nan_to_num(ratio, nan=torch.inf, posinf=torch.inf).max())


# --- whose VJP is wrong ----------------------------------------------------------------------------------------------


def localise(trace: Trace, cotangents: Sequence[torch.Tensor]) -> Guilty | None:
    """The first step, in the order of the tape, whose VJP is not what autograd makes of the same cotangents.

    A VJP is also wrong that writes into its cotangents or into saved values, for these may be others' as well.

    Args:
        trace: The steps, with the VJPs that are tried.
        cotangents: One for each of ``trace.outputs``.

    Returns:
        None where every VJP by itself is right: then round-off, or a kink, explains a difference.
    """
    found: list[Guilty] = []

    def watched(number: int, step: Step, call: Call, weights: Tensors) -> Gradients:
        before = copies((*weights, *call.inputs, *call.outputs))
        gradients = tape.checked_pull(number, step, call, weights)
        after = (*weights, *call.inputs, *call.outputs)
        if not found:
            written = next((k for k, (a, b) in enumerate(zip(before, after, strict=True)) if not same_bits(a, b)), None)
            if written is not None:
                found.append(_writer(number, step, "its cotangent" if written < len(weights) else "a saved value"))
            elif not step.prepares:
                found.extend(_judged(trace, number, before[: len(weights)], gradients))
        return gradients

    values = copies(trace.values)
    try:
        tape.backward(trace, copies(cotangents), watched)
    except RuleError as error:
        return found[0] if found else _no_gradient(trace, error)
    finally:
        _restore(trace, values)
    return found[0] if found else None


def _writer(number: int, step: Step, what: str) -> Guilty:
    return Guilty(number, step.node, step.op.name, Wrong.WRITES, _WRITES.format(what))


def _judged(trace: Trace, number: int, weights: Tensors, gradients: Gradients) -> list[Guilty]:
    step = trace.steps[number]
    operands = pristine(trace, step)
    expected = graph.local(step, operands, weights)
    place, size = worst_of(gradients, expected, weights)
    if size <= 1 or not _recurs(step, operands, weights, expected):
        return []
    got = gradients[place]
    detail = f"gives a wrong gradient of operand {place}"
    return [Guilty(number, step.node, step.op.name, Wrong.GRADIENT, detail, got, expected[place])]


def pristine(trace: Trace, step: Step) -> Tensors:
    """The operands of a step as they were before it: an in-place step has written into its copy of the first."""
    numbers = list(step.operands)
    if step.op.in_place:
        numbers[0] = next(s for s in trace.steps if numbers[0] in s.results).operands[0]
    return tuple(trace.values[i] for i in numbers)


def _recurs(step: Step, operands: Tensors, weights: Tensors, expected: Gradients) -> bool:
    """Whether a difference is there beside the point as well: at a kink every convention is right."""
    smooth = not step.op.kinks and all(e is None or bool(e.isfinite().all()) for e in expected)
    return smooth or all(_wrong_beside(step, _nudged(operands, k), weights) for k in _NUDGES)


def _wrong_beside(step: Step, operands: Tensors, weights: Tensors) -> bool:
    with torch.no_grad():
        taken = copies(operands[:1]) + operands[1:] if step.op.in_place else operands
        outputs = step.op.run(taken, step.parameters)
    if [y.shape for y in outputs] != [w.shape for w in weights]:
        return False
    try:
        with torch.no_grad():
            gradients = step.op.pull(Call(taken, outputs, step.parameters), copies(weights))
        expected = graph.local(step, operands, weights)
        return worst_of(gradients, expected, weights)[1] > 1
    except Exception:  # somebody's rule may raise anything; it did not at the point itself
        return False


def _nudged(operands: Tensors, number: int) -> Tensors:
    """Each tensor beside itself, by another amount for each element; one tensor stays one."""
    moved: dict[int, torch.Tensor] = {}
    for k, x in enumerate(operands):
        if id(x) not in moved:
            pattern = torch.cos(torch.arange(x.numel()) * 1.7 + number + 0.5 * k).reshape(x.shape)
            moved[id(x)] = x + _NUDGE * pattern.to(x.real.dtype)
    return tuple(moved[id(x)] for x in operands)
