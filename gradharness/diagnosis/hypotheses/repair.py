"""One operation of the backward is wrong: with another in its place the gradient is right, in every case.

The sentence leads to the line. A change counts only if it mends all failing cases, to the accuracy of a hypothesis, and
leaves right what is right already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice

import torch

from gradharness.diagnosis.axes import along_others
from gradharness.diagnosis.changes import Change, scaled, structural, written
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.diagnosis.laws import Number, number
from gradharness.diagnosis.operations import Call, Place, Watching, known_tensors, run
from gradharness.diagnosis.substitutes import substitutes
from gradharness.model.verdict import Fault

_MOST_PLACES = 60
_MOST_CHANGES = 1500  # attempts on one sample
_MOST_OPERATIONS = 60_000  # that all attempts together run: a loop over rows is gone through for each of them
_LARGEST = 4096  # elements of a sample that serves for trying
_FEWEST = 6  # elements that have to come right together, over all samples
_NEUTRAL = 1e-9


def explain(evidence: Evidence) -> Explanation | None:
    """Tries the changes on one sample, the plainest first; what mends it has to mend all."""
    trial = _trial(evidence)
    if trial is None or sum(int(s.wrong.sum()) for s in evidence.samples) < _FEWEST:
        return None
    mode = Watching()
    again = _run(evidence, trial, mode)
    # A backward that gives something else the second time has no formula to mend.
    if again is None or not close(again, trial.got) or close(trial.got, trial.expected):
        return None
    calls = mode.calls
    places = [*dict.fromkeys(call.place for call in calls)]
    if not places or len(places) > _MOST_PLACES:
        return None
    most = min(_MOST_CHANGES, _MOST_OPERATIONS // len(calls))
    known = known_tensors(trial.case)
    once = [*{call.place: call for call in reversed(calls)}.values()][::-1]
    plain = chain(written(once), along_others(once), structural(once))
    found = _first(evidence, trial, islice(plain, most)) or _scale(evidence, trial, calls)
    return found or _first(evidence, trial, islice(substitutes(calls, known), most))


def _first(evidence: Evidence, trial: Sample, changes: Iterable[Change]) -> Explanation | None:
    """The first change that mends everything."""
    for change in changes:
        if _mends(evidence, trial, change) and _holds(evidence, change):
            return _told(evidence, change)
    return None


def _trial(evidence: Evidence) -> Sample | None:
    """The largest failing sample that is small enough: it tells most at once."""
    fit = [s for s in evidence.samples if s.elementwise and s.leaf is not None and s.expected.numel() <= _LARGEST]
    if len(fit) < len(evidence.samples):
        fit = [s for s in fit if s.elementwise]
    return max(fit, key=lambda s: s.expected.numel()) if fit else None


def _run(evidence: Evidence, sample: Sample, mode: Watching) -> torch.Tensor | None:
    number = sample.case.primals.labels.index(sample.found.label)
    return run(evidence.setting.subject, sample.case, mode, number)


def _mends(evidence: Evidence, sample: Sample, change: Change) -> bool:
    if not sample.elementwise or sample.leaf is None:
        return False
    mode = Watching(change.at, change.apply, known_tensors(sample.case))
    gradient = _run(evidence, sample, mode)
    return gradient is not None and close(gradient, sample.expected, sample.found.bound)


def _holds(evidence: Evidence, change: Change) -> bool:
    samples = (*evidence.samples, *evidence.right)
    return all(_mends(evidence, s, change) for s in samples if s.elementwise)


def _told(evidence: Evidence, change: Change) -> Explanation:
    message = f"gradient of {evidence.label} is wrong because {change.place} {change.words}"
    return Explanation(change.fault, message, holds=lambda s: _wrong(s) and _mends(evidence, s, change))


def _wrong(sample: Sample) -> bool:
    return sample.elementwise and bool(sample.wrong.any())


# --- a number times one result ---------------------------------------------------------------------------------------


def _scale(evidence: Evidence, trial: Sample, calls: Sequence[Call]) -> Explanation | None:
    """One result is a number times the right one: of a term or a step of the formula, not of the whole gradient."""
    seen = dict.fromkeys(
        c.place
        for c in calls
        if isinstance(c.result, torch.Tensor) and c.result.is_floating_point() and not c.operation.is_view
    )
    for place in seen:
        if _due_scale(evidence, trial, place) is None:
            continue
        scales = [_due_scale(evidence, s, place) for s in evidence.samples]
        values = [v for v in scales if v is not None]
        factor = number(evidence.samples, values) if len(values) == len(scales) else None
        if factor is not None and _stays_right(evidence, place, factor):
            return _scale_told(evidence, place, factor, values[0])
    return None


def _due_scale(evidence: Evidence, sample: Sample, place: Place) -> float | None:
    """By how much the result of a place has to be multiplied; None if that mends nothing.

    Solved for as if the gradient were affine in the result, and then tried.
    """
    doubled = _run_with(evidence, sample, place, 2.0)
    if doubled is None or doubled.shape != sample.got.shape:
        return None
    slope = (doubled - sample.got).to(sample.expected.dtype)
    size = float(slope.abs().square().sum())
    if not 0 < size < float("inf") or close(doubled, sample.got):
        return None
    c = 1 + float(((sample.expected - sample.got) * slope.conj()).sum().real) / size
    if not close(sample.got + (c - 1) * slope, sample.expected, sample.found.bound):
        return None
    c = 0.0 if abs(c) < _NEUTRAL else c
    return c if _is_right_with(evidence, sample, place, c) else None


def _run_with(evidence: Evidence, sample: Sample, place: Place, factor: float) -> torch.Tensor | None:
    change = scaled(place, factor)
    return _run(evidence, sample, Watching(change.at, change.apply))


def _is_right_with(evidence: Evidence, sample: Sample, place: Place, factor: float) -> bool:
    gradient = _run_with(evidence, sample, place, factor)
    return gradient is not None and close(gradient, sample.expected, sample.found.bound)


def _stays_right(evidence: Evidence, place: Place, factor: Number) -> bool:
    return all(_is_right_with(evidence, s, place, factor.at(s)) for s in evidence.right if s.elementwise)


def _scale_told(evidence: Evidence, place: Place, factor: Number, value: float) -> Explanation:
    def holds(sample: Sample) -> bool:
        return _wrong(sample) and _is_right_with(evidence, sample, place, factor.at(sample))

    def retold(sample: Sample) -> str:
        start = f"gradient of {sample.found.label} is wrong because {place}"
        if value == 0.0:
            return f"{start} has no part in it: without this term it is right"
        if abs(value + 1) <= 1e-6:
            return f"{start} has the wrong sign"
        return f"{start} has the wrong factor: with {factor.words(sample)} times it the gradient is right"

    fault = Fault.EXTRA_TERM if value == 0.0 else Fault.SIGN if abs(value + 1) <= 1e-6 else Fault.CONSTANT_FACTOR
    return Explanation(fault, retold(evidence.first), holds=holds, retold=retold)
