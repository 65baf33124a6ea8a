"""Wrong only where an index occurs more than once: what its copies bring is not added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from gradharness.diagnosis.asking import due
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault
from gradharness.numerics import tree

_FEWEST = 6  # wrong elements, and right ones that say something, over all samples
_LARGEST = 1 << 16  # values of an index


def explain(evidence: Evidence) -> Explanation | None:
    """Every element of a repeated index's rows is wrong, and no other."""
    if not all(s.elementwise and s.leaf is not None and bool(s.wrong.any()) for s in evidence.samples):
        return None
    for path, name in _indices(evidence.first):
        for repeated in _ways(evidence.first):
            if _separates(evidence, partial(repeated, path=path)):
                return _told(evidence, path, name, partial(_all_wrong_in, path=path, repeated=repeated))
    return None


Repeated = Callable[..., torch.Tensor | None]


def _indices(sample: Sample) -> Iterator[tuple[tree.Path, str]]:
    primals = sample.case.primals
    for number, value in enumerate(primals.values):
        for path, leaf in tree.leaves(value):
            if isinstance(leaf, torch.Tensor) and leaf.numel() and leaf.dtype in (torch.int64, torch.int32):
                yield (number, *path), tree.label(primals.names[number], path)


def _index(sample: Sample, path: tree.Path) -> torch.Tensor | None:
    found = tree.get(sample.case.primals.values, path)
    return found.long() if isinstance(found, torch.Tensor) and found.numel() else None


def _ways(sample: Sample) -> Iterator[Repeated]:
    """As an index of a whole dimension, and element by element along one (gather)."""
    for axis in range(sample.expected.dim()):
        yield partial(_of_dimension, axis=axis)
        yield partial(_of_elements, axis=axis)


def _of_dimension(sample: Sample, path: tree.Path, axis: int) -> torch.Tensor | None:
    index, shape = _index(sample, path), sample.expected.shape
    if index is None or axis >= len(shape) or shape[axis] > _LARGEST:
        return None
    index = torch.where(index < 0, index + shape[axis], index)
    if int(index.min()) < 0 or int(index.max()) >= shape[axis]:
        return None
    counts = torch.bincount(index.reshape(-1), minlength=shape[axis])
    view = [1] * len(shape)
    view[axis] = -1
    return (counts > 1).reshape(view).expand(shape)


def _of_elements(sample: Sample, path: tree.Path, axis: int) -> torch.Tensor | None:
    index, expected = _index(sample, path), sample.expected
    if index is None or index.dim() != expected.dim() or axis >= expected.dim():
        return None
    if any(n > m for d, (n, m) in enumerate(zip(index.shape, expected.shape, strict=True)) if d != axis):
        return None
    if int(index.min()) < 0 or int(index.max()) >= expected.shape[axis]:
        return None
    counts = torch.zeros_like(expected, dtype=torch.int64).scatter_add(axis, index, torch.ones_like(index))
    return counts > 1


def _separates(evidence: Evidence, repeated: Callable[[Sample], torch.Tensor | None]) -> bool:
    wrong = right = 0
    for sample in (*evidence.samples, *evidence.right):
        where = repeated(sample)
        if where is None or bool((sample.wrong & ~where).any()) or bool((sample.right & where).any()):
            return False
        wrong += int(sample.wrong.sum())
        right += int((sample.right & ~where).sum())
    return wrong >= _FEWEST and right >= _FEWEST


def _all_wrong_in(sample: Sample, path: tree.Path, repeated: Repeated) -> bool:
    where = repeated(sample, path=path) if sample.elementwise else None
    return where is not None and bool(sample.wrong.any()) and not bool((sample.wrong & ~where).any())


def _told(evidence: Evidence, path: tree.Path, name: str, holds: Callable[[Sample], bool]) -> Explanation:
    how = _kept(evidence, path)
    message = f"gradient of {evidence.label} is wrong only where {name} holds an index more than once: {how}"
    return Explanation(Fault.DUPLICATES, message, holds=holds)


def _kept(evidence: Evidence, path: tree.Path) -> str:
    """What becomes of the copies."""
    for last, words in ((True, "the last copy wins"), (False, "the first copy wins")):
        if all(_is_one_copy(evidence, s, path, last=last) for s in evidence.samples):
            return f"{words}, where all of them have to be added"
    return "its copies are not added up as they should be"


def _is_one_copy(evidence: Evidence, sample: Sample, path: tree.Path, *, last: bool) -> bool:
    """Whether it is the gradient for a cotangent in which one copy of each index is left."""
    index, cotangents = _index(sample, path), sample.case.cotangents
    if index is None or len(cotangents) != 1 or cotangents[0].shape[: index.dim()] != index.shape:
        return False
    flat = index.reshape(-1).tolist()
    places = {v: n for n, v in (enumerate(flat) if last else reversed([*enumerate(flat)]))}
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[[*places.values()]] = True
    mask = kept.reshape(*index.shape, *[1] * (cotangents[0].dim() - index.dim()))
    expected = due(evidence, sample.case, [cotangents[0] * mask])
    return expected is not None and close(sample.got, expected, sample.found.bound)
