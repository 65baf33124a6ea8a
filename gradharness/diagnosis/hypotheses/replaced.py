"""Right at another point: with a mask that lets everything through, an index one further, or another operand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from gradharness.diagnosis.asking import due_at
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.subject import Primals
from gradharness.model.verdict import Fault
from gradharness.numerics import tree

_FEWEST = 6  # wrong elements over all samples

Other = Callable[[torch.Tensor, Sample], torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Replacement:
    """Another tensor in an argument's place.

    Attributes:
        path: Where in the arguments.
        fault: What that is.
        words: In words, after "gradient of x".
        other: Gives the other tensor.
    """

    path: tree.Path
    fault: Fault
    words: str
    other: Other


def explain(evidence: Evidence) -> Explanation | None:
    """Masks, indices and other tensors without a gradient."""
    return _first(evidence, _of_plain)


def explain_operands(evidence: Evidence) -> Explanation | None:
    """Tensors that are differentiated: another operand, one that is left out, or one that is moved."""
    return _first(evidence, _of_leaves)


def explain_conjugates(evidence: Evidence) -> Explanation | None:
    """A complex operand whose conjugate is due."""
    return _first(evidence, _of_complex)


def _first(evidence: Evidence, replacements: Callable[[Sample], Iterator[_Replacement]]) -> Explanation | None:
    samples = [s for s in evidence.samples if s.elementwise]
    if len(samples) < len(evidence.samples) or sum(int(s.wrong.sum()) for s in samples) < _FEWEST:
        return None
    trial = max(samples, key=lambda s: s.expected.numel())
    for one in replacements(trial):

        def holds(sample: Sample, one: _Replacement = one) -> bool:
            return _is_right_with(evidence, sample, one)

        everywhere = [trial, *samples, *(s for s in evidence.right if s.elementwise)]
        if all(map(holds, everywhere)):
            return Explanation(one.fault, f"gradient of {evidence.label} {one.words}", holds=holds)
    return None


def _is_right_with(evidence: Evidence, sample: Sample, one: _Replacement) -> bool:
    primals = sample.case.primals
    if not sample.elementwise:
        return False
    tensor = tree.get(primals.values, one.path)
    if not isinstance(tensor, torch.Tensor):
        return False
    try:
        other = one.other(tensor.detach(), sample)
    except (IndexError, RuntimeError):
        return False
    if other.shape != tensor.shape:
        return False
    place = int(one.path[0])
    values = list(primals.values)
    values[place] = other if len(one.path) == 1 else tree.replace(values[place], one.path[1:], other)
    there = due_at(evidence, sample.case, Primals(primals.names, tuple(values), primals.active))
    return there is not None and close(sample.got, there, sample.found.bound)


# --- tensors without a gradient --------------------------------------------------------------------------------------


def _of_plain(sample: Sample) -> Iterator[_Replacement]:
    primals = sample.case.primals
    for number, value in enumerate(primals.values):
        for path, leaf in tree.leaves(value):
            if not isinstance(leaf, torch.Tensor) or (number, *path) in primals.active or leaf.numel() < 2:
                continue
            name = tree.label(primals.names[number], path)
            for fault, words, other in _plain_others(leaf):
                yield _Replacement((number, *path), fault, f"is the right one for {words.format(name)}", other)


def _plain_others(leaf: torch.Tensor) -> Iterator[tuple[Fault, str, Other]]:
    if leaf.dtype is torch.bool:
        yield Fault.WRONG_REGION, "a {} that is True everywhere", lambda t, _s: torch.ones_like(t)
        yield Fault.WRONG_REGION, "a {} that is False everywhere", lambda t, _s: torch.zeros_like(t)
        yield Fault.WRONG_REGION, "the opposite of {}", lambda t, _s: ~t
    elif leaf.is_floating_point():
        yield Fault.MISSING_FACTOR, "a {} that is 1 everywhere", lambda t, _s: torch.ones_like(t)
        yield Fault.MISSING_TERM, "a {} that is 0 everywhere", lambda t, _s: torch.zeros_like(t)
        yield Fault.SIGN, "minus {}", lambda t, _s: -t
    elif not leaf.is_complex():
        for step, words in ((1, "{} + 1"), (-1, "{} - 1")):
            yield Fault.WRONG_ELEMENTS, f"the neighbouring places, {words}", _next(step, None)
            for axis in (-1, 0):
                yield Fault.WRONG_ELEMENTS, f"the neighbouring places, {words}", _next(step, axis)
    if leaf.dtype is not torch.bool and leaf.dim():
        yield Fault.WRONG_ELEMENTS, "{} in the reverse order", lambda t, _s: t.flip(0)


def _next(step: int, axis: int | None) -> Other:
    """The index one further; behind the last of an axis of the gradient comes the first."""

    def other(t: torch.Tensor, s: Sample) -> torch.Tensor:
        return t + step if axis is None else (t + step) % s.expected.shape[axis]

    return other


# --- tensors that are differentiated ---------------------------------------------------------------------------------


def _of_complex(sample: Sample) -> Iterator[_Replacement]:
    primals = sample.case.primals
    for path, label, leaf in zip(primals.active, primals.labels, primals.leaves, strict=True):
        if leaf.is_complex():
            words = f"lacks a conjugate: it takes {label} where its conjugate is due, or the other way round"
            yield _Replacement(path, Fault.MISSING_CONJUGATE, words, lambda t, _s: t.conj().resolve_conj())


def _of_leaves(sample: Sample) -> Iterator[_Replacement]:
    primals = sample.case.primals
    for path, label, leaf in zip(primals.active, primals.labels, primals.leaves, strict=True):
        for number, other in enumerate(primals.labels):
            if other != label and primals.leaves[number].shape == leaf.shape:
                words = f"takes {other} where {label} is due"
                yield _Replacement(path, Fault.WRONG_OPERAND, words, _leaf(number))
        for number in sample.case.differentiable:
            if sample.case.outputs[number].shape == leaf.shape:
                name = sample.case.output_labels[number] if len(sample.case.outputs) > 1 else "the output"
                yield _Replacement(path, Fault.WRONG_OPERAND, f"takes {name} where {label} is due", _output(number))
        for fault, words, how in _changed(leaf):
            yield _Replacement(path, fault, f"is the right one for {words.format(label)}", how)


def _leaf(number: int) -> Other:
    return lambda _t, s: s.case.primals.leaves[number].detach()


def _output(number: int) -> Other:
    return lambda t, s: s.case.outputs[number].to(t.dtype)


def _changed(leaf: torch.Tensor) -> Iterator[tuple[Fault, str, Other]]:
    yield Fault.SIGN, "minus {}", lambda t, _s: -t
    if leaf.numel() >= 2:
        yield Fault.MISSING_FACTOR, "a {} that is 1 everywhere", lambda t, _s: torch.ones_like(t)
        yield Fault.MISSING_TERM, "a {} that is 0 everywhere", lambda t, _s: torch.zeros_like(t)
    for axis in range(leaf.dim()):
        for step in (1, -1):
            words = f"{{}} shifted by {'minus ' if step < 0 else ''}one place along dimension {axis}"
            yield Fault.WRONG_ELEMENTS, words, _rolled(step, axis)
        yield Fault.WRONG_ELEMENTS, f"{{}} reversed along dimension {axis}", _flipped(axis)


def _rolled(step: int, axis: int) -> Other:
    return lambda t, _s: t.roll(step, axis)


def _flipped(axis: int) -> Other:
    return lambda t, _s: t.flip(axis)
