"""Right, but of another cotangent: a slice of it is left out, or it is summed, shifted or turned before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from gradharness.diagnosis.arrangements import Arrangement, arrangements
from gradharness.diagnosis.asking import due
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault

_FEWEST = 4  # wrong elements over all samples
_BLOCKS = (128, 64, 32, 16, 8, 4, 2)
_COPIES = (2, 3, 4)

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Reading:
    """How one output's cotangent is read.

    Attributes:
        output: Number among the cotangents.
        fault: What that is.
        words: In words.
        change: What is read, of the cotangent and the output.
    """

    output: int
    fault: Fault
    words: str
    change: Change


def explain(evidence: Evidence) -> Explanation | None:
    """Got is the right gradient of a changed cotangent, in every case."""
    samples = evidence.samples
    if not all(s.elementwise and s.leaf is not None for s in samples) or evidence.setting.subject.fixed_cotangent:
        return None
    if sum(int(s.wrong.sum()) for s in samples) < _FEWEST or evidence.first.found.got is None:
        return None
    oracle = evidence.setting.trusted or evidence.setting.own
    if oracle is None:
        return None
    for reading in _readings(evidence.first):

        def holds(sample: Sample, reading: _Reading = reading) -> bool:
            return _reads(evidence, sample, reading)

        if all(holds(s) for s in samples) and all(holds(s) for s in evidence.right):
            name = _name(evidence.first, reading.output)
            message = f"gradient of {evidence.label} {reading.words.format(name)}"
            return Explanation(reading.fault, message, holds=holds)
    return None


def _name(sample: Sample, output: int) -> str:
    case = sample.case
    if len(case.cotangents) == 1:
        return "the cotangent"
    return f"the cotangent of {case.output_labels[case.differentiable[output]]}"


def _reads(evidence: Evidence, sample: Sample, reading: _Reading) -> bool:
    case = sample.case
    if not sample.elementwise or reading.output >= len(case.cotangents):
        return False
    cotangents = list(case.cotangents)
    y = case.outputs[case.differentiable[reading.output]]
    try:
        cotangents[reading.output] = reading.change(cotangents[reading.output], y)
    except (IndexError, RuntimeError):
        return False
    if cotangents[reading.output].shape != y.shape:
        return False
    expected = due(evidence, case, cotangents)
    return expected is not None and close(sample.got, expected, sample.found.bound)


def _readings(sample: Sample) -> Iterator[_Reading]:
    for output, w in enumerate(sample.case.cotangents):
        for fault, words, change in _changes(w.dim()):
            yield _Reading(output, fault, words, change)


def _changes(dims: int) -> Iterator[tuple[Fault, str, Change]]:
    for axis in range(dims):
        along = f"along dimension {axis}"
        for place, name in ((0, "first"), (-1, "last")):
            words = f"uses the {name} place of {{}} {along} alone: the sum over the others is missing"
            yield Fault.MISSING_REDUCTION, words, _only(axis, place)
            yield Fault.WRONG_REGION, f"leaves out the {name} place of {{}} {along}", _leaving(axis, place)
        for block in _BLOCKS:
            words = f"leaves out the end of {{}} {along}, beyond the last whole block of {block}"
            yield Fault.WRONG_REGION, words, _whole_blocks(axis, block)
        for step in (1, -1, 2, -2):
            words = "one place" if abs(step) == 1 else "two places (by one in the wrong direction)"
            yield Fault.WRONG_ELEMENTS, f"reads {{}} shifted by {words} {along}", _rolled(axis, step)
            yield Fault.WRONG_ELEMENTS, f"reads {{}} shifted by {words} {along}", _pushed(axis, step)
        yield Fault.WRONG_ELEMENTS, f"reads {{}} reversed {along}", _reversed(axis)
        for copies in _COPIES:
            for last in (False, True):
                which = "last" if last else "first"
                for how in (_block, _every):
                    chosen = partial(how, axis=axis, copies=copies, last=last)
                    words = f"uses the {which} of {copies} copies in {{}} {along}, and not their sum"
                    yield Fault.DUPLICATES, words, _one_copy(chosen, axis, copies)
                    part = f"1/{copies}" if how is _block else f"of every {copies} places"
                    words = f"uses the {which} {part} of {{}} {along}: the others are missing"
                    yield Fault.MISSING_REDUCTION, words, _chosen(chosen)
        words = f"uses {{}} summed {along}, where each place has its own"
        yield Fault.EXTRA_REDUCTION, words, _reduced(torch.sum, axis)
        words = f"uses the mean of {{}} {along}, where each place has its own"
        yield Fault.EXTRA_REDUCTION, words, _reduced(torch.mean, axis)
    if dims:
        words = "uses the sum of {}, where each place has its own"
        yield Fault.EXTRA_REDUCTION, words, lambda w, _y: w.sum().expand_as(w)
        yield Fault.EXTRA_REDUCTION, words.replace("sum", "mean"), lambda w, _y: w.mean().expand_as(w)
    if dims >= 2:
        yield Fault.TRANSPOSED, "reads {} transposed", lambda w, _y: w.mT
    for words, arrange in arrangements(dims):
        yield Fault.TRANSPOSED, f"reads {{}} in another order: {words}", _arranged(arrange)
    yield Fault.WRONG_REGION, "leaves out {} where the output is negative", lambda w, y: w * (y >= 0)
    yield Fault.WRONG_REGION, "leaves out {} where the output is positive", lambda w, y: w * (y <= 0)


def _arranged(arrange: Arrangement) -> Change:
    return lambda w, _y: arrange(w)


Chosen = Callable[[torch.Tensor], torch.Tensor]


def _block(w: torch.Tensor, axis: int, copies: int, *, last: bool) -> torch.Tensor:
    """Where the first or the last of so many blocks lies."""
    place, count = _places(w, axis), w.shape[axis] // copies
    return (place >= w.shape[axis] - count if last else place < count).expand(w.shape)


def _every(w: torch.Tensor, axis: int, copies: int, *, last: bool) -> torch.Tensor:
    """Where the first or the last of every so many places lies."""
    return (_places(w, axis) % copies == (copies - 1 if last else 0)).expand(w.shape)


def _places(w: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.arange(w.shape[axis], device=w.device).reshape([-1 if d == axis else 1 for d in range(w.dim())])


def _chosen(chosen: Chosen) -> Change:
    return lambda w, _y: w * chosen(w)


def _one_copy(chosen: Chosen, axis: int, copies: int) -> Change:
    """Of an output that does hold copies."""

    def change(w: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        n, size = y.shape[axis] // copies, y.shape
        if n * copies != size[axis] or not n:
            raise IndexError("no copies of equal size")
        blocks = y.reshape(*size[:axis], copies, n, *size[axis + 1 :]), axis
        turns = y.reshape(*size[:axis], n, copies, *size[axis + 1 :]), axis + 1
        if not any(bool((t == t.narrow(d, 0, 1)).all()) for t, d in (blocks, turns)):
            raise IndexError("the output holds no copies")
        return w * chosen(w)

    return change


def _reversed(axis: int) -> Change:
    return lambda w, _y: w.flip(axis)


def _reduced(how: Callable[..., torch.Tensor], axis: int) -> Change:
    return lambda w, _y: how(w, axis, keepdim=True).expand_as(w)


def _only(axis: int, place: int) -> Change:
    return lambda w, _y: w - _leaving(axis, place)(w, _y)


def _leaving(axis: int, place: int) -> Change:
    def change(w: torch.Tensor, _y: torch.Tensor) -> torch.Tensor:
        found = w.clone()
        found.select(axis, place).zero_()
        return found

    return change


def _whole_blocks(axis: int, block: int) -> Change:
    def change(w: torch.Tensor, _y: torch.Tensor) -> torch.Tensor:
        found = w.clone()
        found.narrow(axis, w.shape[axis] // block * block, w.shape[axis] % block).zero_()
        return found

    return change


def _rolled(axis: int, step: int) -> Change:
    return lambda w, _y: w.roll(step, axis)


def _pushed(axis: int, step: int) -> Change:
    """Shifted, with zeros from outside."""

    def change(w: torch.Tensor, _y: torch.Tensor) -> torch.Tensor:
        moved = w.roll(step, axis)
        count = min(abs(step), w.shape[axis])
        moved.narrow(axis, 0 if step > 0 else w.shape[axis] - count, count).zero_()
        return moved

    return change
