"""The right numbers in the wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from gradharness.diagnosis.arrangements import Arrangement, arrangements
from gradharness.diagnosis.asking import holds_for_all
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault

_FEWEST = 6  # elements that a shift has to explain, over all samples


def explain(evidence: Evidence) -> Explanation | None:
    """The right numbers reversed along an axis, or moved by one place."""
    if not evidence.first.elementwise:
        return None
    dims = evidence.first.expected.dim()
    for axis, words, move in _moves(dims):

        def holds(s: Sample, move: Callable[[torch.Tensor], torch.Tensor] = move) -> bool:
            return s.elementwise and s.expected.dim() == dims and close(s.got, move(s.expected))

        if holds_for_all(evidence, holds):
            message = f"gradient of {evidence.label} is {words} along dimension {axis}"
            return Explanation(Fault.WRONG_ELEMENTS, message, holds=holds, everywhere=True)
    return _arranged(evidence, dims) or _but_for_ends(evidence, dims)


def _arranged(evidence: Evidence, dims: int) -> Explanation | None:
    for words, arrange in arrangements(dims):

        def holds(s: Sample, arrange: Arrangement = arrange) -> bool:
            return s.elementwise and s.expected.dim() == dims and _is_arranged(s, arrange)

        if holds_for_all(evidence, holds):
            message = f"gradient of {evidence.label} holds the right numbers in another order: {words}"
            return Explanation(Fault.TRANSPOSED, message, holds=holds, everywhere=True)
    return None


def _is_arranged(sample: Sample, arrange: Arrangement) -> bool:
    try:
        return close(sample.got, arrange(sample.expected))
    except RuntimeError:
        return False


def _but_for_ends(evidence: Evidence, dims: int) -> Explanation | None:
    """A shift, where the ends have nothing to be compared with."""
    for axis in range(dims):
        for step, words in ((1, "one place"), (-1, "minus one place"), (2, "two places"), (-2, "minus two places")):

            def holds(s: Sample, axis: int = axis, step: int = step) -> bool:
                return s.elementwise and s.expected.dim() == dims and _overlap(s, axis, step) is not None

            said = sum(_overlap(s, axis, step) or 0 for s in evidence.samples if s.elementwise)
            if said >= _FEWEST and holds_for_all(evidence, holds):
                wrong = ": one in the wrong direction" if abs(step) == 2 else ""
                message = f"gradient of {evidence.label} is shifted by {words} along dimension {axis}{wrong}"
                return Explanation(Fault.WRONG_ELEMENTS, message, holds=holds, everywhere=True)
    return None


def _overlap(sample: Sample, axis: int, step: int) -> int | None:
    """How many elements are those that lie so many places before them and say something; None if they are not."""
    n = sample.expected.shape[axis] if axis < sample.expected.dim() else 0
    if n <= abs(step):
        return 0
    later, sooner = max(step, 0), max(-step, 0)
    got = sample.got.narrow(axis, later, n - abs(step))
    expected = sample.expected.narrow(axis, sooner, n - abs(step))
    # Where the gradient is right, a shift explains nothing.
    return int(sample.wrong.narrow(axis, later, n - abs(step)).sum()) if close(got, expected) else None


def _moves(dims: int) -> Iterator[tuple[int, str, Callable[[torch.Tensor], torch.Tensor]]]:
    for axis in range(dims):
        yield axis, "reversed", partial(torch.flip, dims=(axis,))
        yield axis, "shifted by one place", partial(torch.roll, shifts=1, dims=axis)
        yield axis, "shifted by minus one place", partial(torch.roll, shifts=-1, dims=axis)
