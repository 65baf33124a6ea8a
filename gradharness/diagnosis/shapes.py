"""Fault: right for some shapes, wrong for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradharness.diagnosis.evidence import Evidence, Explanation
from gradharness.model.case import Case
from gradharness.model.verdict import Fault

_BLOCKS = (2, 4, 8, 16, 32, 64, 128)


def wrong_for_shape(evidence: Evidence) -> Explanation | None:
    """A property of one size separates the failing cases from the passing ones."""
    words = separating_shape(evidence)
    if words is None:
        return None
    return Explanation(Fault.WRONG_FOR_SHAPE, f"gradient of {evidence.label} is wrong only where {words}")


def separating_shape(evidence: Evidence) -> str | None:
    """Such a property in words; None if there is none, or too few cases to tell."""
    failing = [s.case for s in evidence.samples]
    passing = evidence.passing
    if len(failing) < 2 or len(passing) < 2:
        return None
    for words, holds in _properties(failing[0], failing):
        try:
            if all(holds(c) for c in failing) and not any(holds(c) for c in passing):
                return words
        except IndexError:
            continue
    return None


def _properties(case: Case, failing: list[Case]) -> Iterator[tuple[str, Callable[[Case], bool]]]:
    primals = case.primals
    for number, label in enumerate(primals.labels):
        for axis in range(primals.leaves[number].dim()):

            def size(c: Case, n: int = number, a: int = axis) -> int:
                return c.primals.leaves[n].shape[a]

            where = f"{label} has"
            yield f"{where} size 1 in dimension {axis}", lambda c, f=size: f(c) == 1
            yield f"{where} size 0 in dimension {axis}", lambda c, f=size: f(c) == 0
            try:
                smallest = min(size(c) for c in failing)
            except IndexError:
                continue
            yield f"{where} size {smallest} or more in dimension {axis}", lambda c, f=size, t=smallest: f(c) >= t
            for block in _BLOCKS:
                words = f"the size of {label} in dimension {axis} is no multiple of {block}"
                yield words, lambda c, f=size, b=block: f(c) % b != 0
    for number, label in enumerate(primals.labels):
        smallest = min(c.primals.leaves[number].numel() for c in failing)
        words = f"{label} has {smallest} elements or more"
        yield words, lambda c, n=number, t=smallest: c.primals.leaves[n].numel() >= t
