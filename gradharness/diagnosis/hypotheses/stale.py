"""What an earlier call has left: its point, its cotangent, or its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from gradharness.diagnosis.asking import again, due_at
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.case import Case
from gradharness.model.verdict import Fault

_MOST = 4  # cases that are asked, and others that each is held against


def explain(evidence: Evidence) -> Explanation | None:
    """A second call adds to the first, or what came is right at the point of another call."""
    sample = evidence.first
    if not sample.elementwise or sample.found.got is None:
        return None
    if _adds_up(evidence, sample):
        message = f"gradient of {evidence.label} still holds what earlier calls have added to it"
        return Explanation(Fault.STALE_STATE, message)
    for sample in evidence.samples[:_MOST]:
        if any(_is_of(evidence, sample, other) for other in islice(_others(evidence, sample), _MOST)):
            message = f"gradient of {evidence.label} is taken at the point of an earlier call, not at its own"
            return Explanation(Fault.STALE_STATE, message)
    return None


def _is_of(evidence: Evidence, sample: Sample, other: Case) -> bool:
    """Whether it is the gradient at another call's point, now that this call comes first, or as it came."""
    there = due_at(evidence, sample.case, other.primals) if sample.elementwise else None
    if there is None or close(there, sample.expected):
        return False
    again(evidence, other, other.cotangents)
    second = again(evidence, sample.case, sample.case.cotangents)
    return close(sample.got, there) or (second is not None and close(second, there))


def _adds_up(evidence: Evidence, sample: Sample) -> bool:
    first = again(evidence, sample.case, sample.case.cotangents)
    second = again(evidence, sample.case, sample.case.cotangents)
    if first is None or second is None or not bool(sample.expected.any()):
        return False
    return not close(first, second) and close(second - first, sample.expected)


def _others(evidence: Evidence, sample: Sample) -> Iterator[Case]:
    shapes = [x.shape for x in sample.case.primals.leaves]
    for case in (*evidence.passing, *(s.case for s in evidence.samples)):
        if case is not sample.case and [x.shape for x in case.primals.leaves] == shapes:
            yield case
