"""Fault: wrong only in a region, of values or of places; or in a few elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault

Predicate: TypeAlias = Callable[[Sample], torch.Tensor]

# A region that covers nearly everything explains nothing.
_LARGEST_SHARE = 0.85
_EXCEPTIONS = 0.02
_FEW = 8


def region(evidence: Evidence) -> Explanation | None:
    """A condition on values or indices that holds where the gradient is wrong, and nowhere else."""
    samples = [s for s in evidence.samples if s.elementwise]
    if len(samples) < len(evidence.samples) or sum(int(s.wrong.sum()) for s in samples) < 2:
        return None
    for words, predicate in _predicates(evidence.first, samples):
        if _explains(samples, predicate):
            message = f"gradient of {evidence.label} is wrong only where {words}"
            return Explanation(Fault.WRONG_REGION, message, _share(evidence), lambda s, p=predicate: _inside(s, p))
    return None


def _explains(samples: list[Sample], predicate: Predicate) -> bool:
    wrong, inside, told, total = 0, 0, 0, 0
    for sample in samples:
        w = sample.wrong
        p = predicate(sample)
        if bool((w & ~p).any()):
            return False
        # Where nothing is expected and nothing came, being right says nothing.
        tells = (sample.expected.abs() > 0) | (sample.got.abs() > 0)
        wrong += int(w.sum())
        inside += int((p & tells).sum())
        told += int(p.sum())
        total += p.numel()
    return inside - wrong <= _EXCEPTIONS * max(inside, 1) and told <= _LARGEST_SHARE * total


def _inside(sample: Sample, predicate: Predicate) -> bool:
    return sample.elementwise and not bool((sample.wrong & ~predicate(sample)).any())


def _predicates(first: Sample, samples: list[Sample]) -> Iterator[tuple[str, Predicate]]:
    label = first.found.label
    if first.leaf is not None and not first.leaf.is_complex():
        yield from _of_values(label, samples)
    yield from _of_places(label, first, samples)


def _of_values(label: str, samples: list[Sample]) -> Iterator[tuple[str, Predicate]]:
    yield f"{label} < 0", lambda s: _x(s) < 0
    yield f"{label} > 0", lambda s: _x(s) > 0
    yield f"{label} = 0", lambda s: _x(s) == 0
    wrong = torch.cat([_x(s)[s.wrong] for s in samples])
    right = torch.cat([_x(s)[~s.wrong] for s in samples])
    if right.numel() == 0:
        return
    for words, size in ((f"|{label}|", torch.abs), (label, torch.clone)):
        w, r = size(wrong), size(right)
        low, high = float(w.min()), float(w.max())
        if low > float(r.max()):
            yield f"{words} > {_between(float(r.max()), low)}", lambda s, f=size, t=low: f(_x(s)) >= t
        if high < float(r.min()):
            yield f"{words} < {_between(high, float(r.min()))}", lambda s, f=size, t=high: f(_x(s)) <= t


def _between(low: float, high: float) -> str:
    """The roundest number that separates two."""
    for digits in range(1, 8):
        middle = float(f"{(low + high) / 2:.{digits}g}")
        if low <= middle <= high:
            return f"{middle:g}"
    return f"{high:g}"


def _of_places(label: str, first: Sample, samples: list[Sample]) -> Iterator[tuple[str, Predicate]]:
    for axis in range(first.expected.dim()):
        where = f"the index of {label} in dimension {axis}"
        yield f"{where} is the first", lambda s, a=axis: _index(s, a) == 0
        yield f"{where} is the last", lambda s, a=axis: _index(s, a) == s.expected.shape[a] - 1
        yield f"{where} is odd", lambda s, a=axis: _index(s, a) % 2 == 1
        yield f"{where} is even", lambda s, a=axis: _index(s, a) % 2 == 0
        if all(s.expected.dim() == first.expected.dim() for s in samples):
            start = min(int(_index(s, axis)[s.wrong].min()) for s in samples if bool(s.wrong.any()))
            if start > 0:
                yield f"{where} is {start} or beyond", lambda s, a=axis, t=start: _index(s, a) >= t
    flat = min(int(s.wrong.reshape(-1).nonzero()[0]) for s in samples if bool(s.wrong.any()))
    if flat > 0:
        words = f"the position in the flattened {label} is {flat} or beyond"
        yield words, lambda s, t=flat: torch.arange(s.expected.numel()).reshape(s.expected.shape) >= t


def _index(sample: Sample, axis: int) -> torch.Tensor:
    shape = [1] * sample.expected.dim()
    shape[axis] = -1
    return torch.arange(sample.expected.shape[axis]).reshape(shape).expand(sample.expected.shape)


def _x(sample: Sample) -> torch.Tensor:
    assert sample.leaf is not None
    return sample.leaf.detach().to(device="cpu", dtype=torch.float64)


def few_elements(evidence: Evidence) -> Explanation | None:
    """Only a few elements are wrong; they are named."""
    sample = evidence.first
    if not sample.elementwise:
        return None
    wrong = sample.wrong
    count = int(wrong.sum())
    if count == 0 or count > _FEW or count > 0.5 * wrong.numel():
        return None
    places = ", ".join(str([int(i) for i in place]) for place in wrong.nonzero())
    message = f"gradient of {evidence.label} is wrong in {count} of {wrong.numel()} elements: {places}"
    return Explanation(Fault.WRONG_ELEMENTS, message)


def _share(evidence: Evidence) -> tuple[str, ...]:
    wrong = evidence.first.wrong
    return (f"{int(wrong.sum())} of {wrong.numel()} elements are wrong in the first failing case",)


def unknown(evidence: Evidence) -> Explanation:
    """No hypothesis explains it: the evidence instead of a guess."""
    sample = evidence.first
    if not sample.elementwise:
        detail = sample.found.detail or f"{evidence.label} disagrees with {sample.found.oracle}"
        return Explanation(Fault.UNKNOWN, detail)
    wrong = sample.wrong
    got, expected = sample.got.reshape(-1), torch.nan_to_num(sample.expected).reshape(-1).to(sample.got.dtype)
    size = float(expected.abs().square().sum())
    c = float((got * expected.conj()).sum().real) / size if size else 0.0
    residual = float((got - c * expected).abs().square().sum() ** 0.5) / (float(got.abs().square().sum() ** 0.5) or 1.0)
    message = (
        f"gradient of {evidence.label} is wrong in {int(wrong.sum())} of {wrong.numel()} elements, in no pattern that "
        f"was recognised; the closest multiple of the right one is {c:.3g}, which leaves {residual:.0%} unexplained"
    )
    return Explanation(Fault.UNKNOWN, message)
