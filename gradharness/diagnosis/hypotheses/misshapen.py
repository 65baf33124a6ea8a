"""The gradient has another shape than its primal."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """The gradient has another shape than its primal."""
    sample = evidence.first
    if not _misshapen(sample):
        return None
    fault, words = _of_shape(sample)
    holds: Callable[[Sample], bool] = lambda s: _misshapen(s) and _of_shape(s)[0] is fault  # noqa: E731
    return Explanation(fault, words, holds=holds, retold=lambda s: _of_shape(s)[1])


def _of_shape(sample: Sample) -> tuple[Fault, str]:
    label, got, leaf = sample.found.label, sample.found.got, sample.leaf
    assert got is not None
    assert leaf is not None
    message = f"gradient of {label} has shape {tuple(got.shape)}, {label} has {tuple(leaf.shape)}"
    if got.dim() == 2 and tuple(got.T.shape) == tuple(leaf.shape):
        return Fault.TRANSPOSED, message + ": it is transposed"
    if got.dim() >= leaf.dim() and _broadcasts(leaf.shape, got.shape):
        return Fault.MISSING_REDUCTION, message + ": the sum over the broadcast dimensions is missing"
    return Fault.WRONG_SHAPE, message


def _misshapen(sample: Sample) -> bool:
    got, leaf = sample.found.got, sample.leaf
    return got is not None and leaf is not None and got.shape != leaf.shape


def _broadcasts(small: torch.Size, large: torch.Size) -> bool:
    tail = large[len(large) - len(small) :]
    return all(a in (1, b) for a, b in zip(small, tail, strict=True))
