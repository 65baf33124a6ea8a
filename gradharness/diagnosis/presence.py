"""Faults that are plain from the measurement: named by the check, missing, of the wrong shape, not finite, zero."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault


def named(evidence: Evidence) -> Explanation | None:
    """The check itself knew what is wrong."""
    found = evidence.first.found
    if found.fault is None:
        return None
    return Explanation(
        found.fault, found.detail, holds=lambda s: s.found.fault is found.fault, retold=lambda s: s.found.detail
    )


def missing(evidence: Evidence) -> Explanation | None:
    """No gradient came where the oracle's is not zero."""
    found = evidence.first.found
    if found.got is not None or found.expected is None:
        return None
    message = (
        f"no gradient came for {found.label} (None, or no entry in gradients(obj) of a manual class), "
        "and the true one is not zero"
    )
    return Explanation(Fault.MISSING_GRADIENT, message, holds=lambda s: s.found.got is None)


def shape(evidence: Evidence) -> Explanation | None:
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


def not_finite(evidence: Evidence) -> Explanation | None:
    """NaN or infinity where the oracle is finite."""
    if not _has_bad(evidence.first):
        return None
    return Explanation(Fault.NON_FINITE, _bad_in_words(evidence.first), holds=_has_bad, retold=_bad_in_words)


def _bad_in_words(sample: Sample) -> str:
    label, leaf, bad = sample.found.label, sample.leaf, _bad(sample)
    place = tuple(int(i) for i in bad.nonzero()[0])
    at = f", where {label} is {leaf[place].item():.4g}" if leaf is not None and not leaf.is_complex() else ""
    return (
        f"gradient of {label} is {sample.got[place].item()} in {int(bad.sum())} of {bad.numel()} elements, "
        f"first at {list(place)}{at}; the true gradient is finite"
    )


def _has_bad(sample: Sample) -> bool:
    return sample.elementwise and bool(_bad(sample).any())


def _bad(sample: Sample) -> torch.Tensor:
    return ~sample.got.isfinite() & sample.expected.isfinite()


def zero(evidence: Evidence) -> Explanation | None:
    """All zero where the oracle's is not."""
    if not all(_vanishes(s) for s in evidence.samples):
        return None
    message = f"gradient of {evidence.label} is zero everywhere; the true one is not"
    return Explanation(Fault.ZERO_GRADIENT, message, holds=_vanishes, everywhere=True)


def _vanishes(sample: Sample) -> bool:
    return sample.elementwise and not bool(sample.got.any())
