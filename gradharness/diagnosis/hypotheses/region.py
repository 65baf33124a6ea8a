"""Wrong only in a region, of values or of places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations

import torch

from gradharness.diagnosis.conditions import Predicate, conditions
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault

# A separation of wrong from right elements that chance brings about more often than once in so many is no finding.
_UNLIKELY = 1000
_EXCEPTIONS = 0.02
_LARGEST_SHARE = 0.85
_BLOCKS = (128, 64, 32, 16, 8, 4)
_MEASURES: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (("|{}|", torch.abs), ("{}", torch.clone))


def explain(evidence: Evidence) -> Explanation | None:
    """A condition on values or indices that holds where the gradient is wrong, and nowhere else."""
    if not all(s.elementwise and bool(s.wrong.any()) for s in evidence.samples):
        return None
    samples = [*evidence.samples, *(s for s in evidence.right if s.elementwise)]
    for words, predicate in _predicates(evidence.first, samples):
        if _explains(samples, predicate):
            message = f"gradient of {evidence.label} is wrong only where {words}"
            return Explanation(Fault.WRONG_REGION, message, _share(evidence), partial(_inside, predicate=predicate))
    return None


def _explains(samples: Sequence[Sample], predicate: Predicate) -> bool:
    wrong, right, all_right = 0, 0, 0
    for sample in samples:
        p = predicate(sample)
        all_right += int(sample.right.sum())
        exceptions = int((p & sample.right).sum())
        if not _inside(sample, predicate) or exceptions > _EXCEPTIONS * int(p.sum()):
            return False
        wrong += int(sample.wrong.sum())
        right += int((~p & sample.right).sum())
    # What covers nearly everything explains nothing: the few others may be right because the error underflows there.
    return wrong <= _LARGEST_SHARE * (wrong + all_right) and _log_ways(wrong, right) >= math.log(_UNLIKELY)


def _log_ways(wrong: int, right: int) -> float:
    """Logarithm of the number of ways in which so many could be wrong and right."""
    return math.lgamma(wrong + right + 1) - math.lgamma(wrong + 1) - math.lgamma(right + 1)


def _inside(sample: Sample, predicate: Predicate) -> bool:
    return sample.elementwise and not bool((sample.wrong & ~predicate(sample)).any())


def _predicates(first: Sample, samples: list[Sample]) -> Iterator[tuple[str, Predicate]]:
    labels = first.case.primals.labels
    for number, label in sorted(enumerate(labels), key=lambda item: item[1] != first.found.label):
        if not first.case.primals.leaves[number].is_complex() and all(_alike(s, number) for s in samples):
            yield from _of_values(label, number, samples)
    yield from conditions(first)
    yield from _of_places(first.found.label, first, samples)


def _alike(sample: Sample, number: int) -> bool:
    """Whether an argument has an element for every element of the gradient."""
    return sample.case.primals.leaves[number].shape == sample.expected.shape


def _of_values(label: str, number: int, samples: list[Sample]) -> Iterator[tuple[str, Predicate]]:
    def x(s: Sample) -> torch.Tensor:
        return s.case.primals.leaves[number].detach().to(device="cpu", dtype=torch.float64)

    yield f"{label} < 0", lambda s: x(s) < 0
    yield f"{label} > 0", lambda s: x(s) > 0
    yield f"{label} = 0", lambda s: x(s) == 0
    wrong = torch.cat([x(s)[s.wrong] for s in samples])
    right = torch.cat([x(s)[s.right] for s in samples])
    if right.numel() == 0:
        return
    for words, size in _MEASURES:
        words = words.format(label)
        w, r = size(wrong), size(right)
        low, high = float(w.min()), float(w.max())
        if low > float(r.max()):
            yield f"{words} > {_between(float(r.max()), low)}", _from(_composed(size, x), low)
        if high < float(r.min()):
            yield f"{words} < {_between(high, float(r.min()))}", _up_to(_composed(size, x), high)


def _between(low: float, high: float) -> str:
    """The roundest number that separates two."""
    for digits in range(1, 8):
        middle = float(f"{(low + high) / 2:.{digits}g}")
        if low <= middle <= high:
            return f"{middle:g}"
    return f"{high:g}"


def _of_places(label: str, first: Sample, samples: list[Sample]) -> Iterator[tuple[str, Predicate]]:
    failing = [s for s in samples if bool(s.wrong.any())]
    dims = first.expected.dim() if all(s.expected.dim() == first.expected.dim() for s in samples) else 0
    for axis in range(dims):
        where = f"the index of {label} in dimension {axis}"
        yield f"{where} is the first", _up_to(partial(_index, axis=axis), 0)
        yield f"{where} is the last", _up_to(partial(_index_from_end, axis=axis), 0)
        yield f"{where} is odd", _of_parity(axis, 1)
        yield f"{where} is even", _of_parity(axis, 0)
        for block in _BLOCKS:
            yield f"{where} lies beyond the last whole block of {block}", _beyond_blocks(axis, block)
        start = min(int(_index(s, axis)[s.wrong].min()) for s in failing)
        if start > 1:
            yield f"{where} is {start} or beyond", _from(partial(_index, axis=axis), start)
    for block in _BLOCKS:
        words = f"the position in the flattened {label} lies beyond the last whole block of {block}"
        yield words, partial(_after_blocks, block=block)
    yield from _of_triangles(label, dims)
    flat = min(int(s.wrong.reshape(-1).nonzero()[0]) for s in failing)
    if flat > max(s.expected[:1].numel() if s.expected.dim() else 1 for s in failing):
        yield f"the position in the flattened {label} is {flat} or beyond", _from(_position, flat)


def _of_triangles(label: str, dims: int) -> Iterator[tuple[str, Predicate]]:
    for i, j in combinations(range(dims), 2):
        row, column = f"the index of {label} in dimension {i}", f"that in dimension {j}"
        for words, how in (("equals", torch.eq), ("is below", torch.lt), ("is above", torch.gt)):
            yield f"{row} {words} {column}", partial(_index_compared, i=i, j=j, how=how)


def _index_compared(
    sample: Sample, i: int, j: int, how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    return how(_index(sample, i), _index(sample, j))


def _beyond_blocks(axis: int, block: int) -> Predicate:
    return lambda s: _index(s, axis) >= s.expected.shape[axis] // block * block


def _after_blocks(sample: Sample, block: int) -> torch.Tensor:
    return _position(sample) >= sample.expected.numel() // block * block


def explain_but_first(evidence: Evidence) -> Explanation | None:
    """All places but the first along a dimension: little is said by it, so that others are asked before."""
    if not all(s.elementwise and bool(s.wrong.any()) for s in evidence.samples):
        return None
    samples = [*evidence.samples, *(s for s in evidence.right if s.elementwise)]
    for axis in range(min(s.expected.dim() for s in samples)):
        predicate = _from(partial(_index, axis=axis), 1)
        if _explains(samples, predicate):
            words = f"the index of {evidence.label} in dimension {axis} is 1 or beyond"
            message = f"gradient of {evidence.label} is wrong only where {words}"
            return Explanation(Fault.WRONG_REGION, message, _share(evidence), partial(_inside, predicate=predicate))
    return None


def _from(measure: Predicate, limit: float) -> Predicate:
    return lambda s: measure(s) >= limit


def _up_to(measure: Predicate, limit: float) -> Predicate:
    return lambda s: measure(s) <= limit


def _of_parity(axis: int, remainder: int) -> Predicate:
    return lambda s: _index(s, axis) % 2 == remainder


def _composed(function: Callable[[torch.Tensor], torch.Tensor], measure: Predicate) -> Predicate:
    return lambda s: function(measure(s))


def _position(sample: Sample) -> torch.Tensor:
    return torch.arange(sample.expected.numel()).reshape(sample.expected.shape)


def _index_from_end(sample: Sample, axis: int) -> torch.Tensor:
    return sample.expected.shape[axis] - 1 - _index(sample, axis)


def _index(sample: Sample, axis: int) -> torch.Tensor:
    shape = [1] * sample.expected.dim()
    shape[axis] = -1
    return torch.arange(sample.expected.shape[axis]).reshape(shape).expand(sample.expected.shape)


def _share(evidence: Evidence) -> tuple[str, ...]:
    wrong = evidence.first.wrong
    return (f"{int(wrong.sum())} of {wrong.numel()} elements are wrong in the first failing case",)
