"""Right for some shapes, wrong for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from gradharness.diagnosis.evidence import Evidence, Explanation
from gradharness.model.case import Case
from gradharness.model.verdict import Fault

_BLOCKS = (2, 4, 8, 16, 32, 64, 128)


def explain(evidence: Evidence) -> Explanation | None:
    """A property of one size separates the failing cases from the passing ones."""
    words = separating(evidence)
    if words is None:
        return None
    return Explanation(Fault.WRONG_FOR_SHAPE, f"gradient of {evidence.label} is wrong only where {words}")


def separating(evidence: Evidence, *, singular: bool = False) -> str | None:
    """Such a property in words; None if there is none, or too few cases to tell.

    Args:
        evidence: What was seen.
        singular: Whether only sizes of one and zero count.
    """
    failing = [s.case for s in evidence.samples]
    passing = evidence.passing
    if len(failing) < 2 or len(passing) < 2:
        return None
    for words, holds in _properties(failing[0], failing):
        if singular and not words.partition(" has size ")[2].startswith(("1 in", "0 in")):
            continue
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
            size = partial(_size, number=number, axis=axis)
            yield f"{label} has size 1 in dimension {axis}", _is(size, 1)
            yield f"{label} has size 0 in dimension {axis}", _is(size, 0)
            try:
                smallest = min(size(c) for c in failing)
            except IndexError:
                continue
            yield f"{label} has size {smallest} or more in dimension {axis}", _at_least(size, smallest)
            for block in _BLOCKS:
                yield f"the size of {label} in dimension {axis} is no multiple of {block}", _no_multiple(size, block)
    for number, label in enumerate(primals.labels):
        elements = partial(_elements, number=number)
        smallest = min(elements(c) for c in failing)
        yield f"{label} has {smallest} elements or more", _at_least(elements, smallest)


def _size(case: Case, number: int, axis: int) -> int:
    return case.primals.leaves[number].shape[axis]


def _elements(case: Case, number: int) -> int:
    return case.primals.leaves[number].numel()


def _is(size: Callable[[Case], int], value: int) -> Callable[[Case], bool]:
    return lambda c: size(c) == value


def _at_least(size: Callable[[Case], int], value: int) -> Callable[[Case], bool]:
    return lambda c: size(c) >= value


def _no_multiple(size: Callable[[Case], int], block: int) -> Callable[[Case], bool]:
    return lambda c: size(c) % block != 0
