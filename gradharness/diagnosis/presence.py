"""Faults that are plain from the measurement: named by the check, missing, of the wrong shape, not finite, zero."""

from __future__ import annotations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault


def named(evidence: Evidence) -> Explanation | None:
    """The check itself knew what is wrong."""
    found = evidence.first.found
    if found.fault is None:
        return None
    return Explanation(found.fault, found.detail, holds=lambda s: s.found.fault is found.fault)


def missing(evidence: Evidence) -> Explanation | None:
    """No gradient came where the oracle's is not zero."""
    found = evidence.first.found
    if found.got is not None or found.expected is None:
        return None
    message = f"backward gives no gradient (None) for {found.label}, whose gradient is not zero"
    return Explanation(Fault.MISSING_GRADIENT, message, holds=lambda s: s.found.got is None)


def shape(evidence: Evidence) -> Explanation | None:
    """The gradient has another shape than its primal."""
    sample = evidence.first
    got, leaf = sample.found.got, sample.leaf
    if got is None or leaf is None or got.shape == leaf.shape:
        return None
    message = f"gradient of {evidence.label} has shape {tuple(got.shape)}, {evidence.label} has {tuple(leaf.shape)}"
    if got.dim() == 2 and tuple(got.T.shape) == tuple(leaf.shape):
        return Explanation(Fault.TRANSPOSED, message + ": it is transposed", holds=_misshapen)
    if got.dim() >= leaf.dim() and _broadcasts(leaf.shape, got.shape):
        message += ": the sum over the broadcast dimensions is missing"
        return Explanation(Fault.MISSING_REDUCTION, message, holds=_misshapen)
    return Explanation(Fault.WRONG_SHAPE, message, holds=_misshapen)


def _misshapen(sample: Sample) -> bool:
    got, leaf = sample.found.got, sample.leaf
    return got is not None and leaf is not None and got.shape != leaf.shape


def _broadcasts(small: torch.Size, large: torch.Size) -> bool:
    try:
        return tuple(torch.broadcast_shapes(small, large)) == tuple(large)
    except RuntimeError:
        return False


def not_finite(evidence: Evidence) -> Explanation | None:
    """NaN or infinity where the oracle is finite."""
    sample = evidence.first
    if not sample.elementwise or not _bad(sample).any():
        return None
    bad = _bad(sample)
    place = tuple(int(i) for i in bad.nonzero()[0])
    leaf = sample.leaf
    at = f", where {evidence.label} is {leaf[place].item():.4g}" if leaf is not None and not leaf.is_complex() else ""
    message = (
        f"gradient of {evidence.label} is {sample.got[place].item()} in {int(bad.sum())} of {bad.numel()} elements, "
        f"first at {list(place)}{at}; the true gradient is finite"
    )
    return Explanation(Fault.NON_FINITE, message, holds=lambda s: s.elementwise and bool(_bad(s).any()))


def _bad(sample: Sample) -> torch.Tensor:
    return ~sample.got.isfinite() & sample.expected.isfinite()


def zero(evidence: Evidence) -> Explanation | None:
    """All zero where the oracle's is not."""
    if not all(_vanishes(s) for s in evidence.samples):
        return None
    message = f"gradient of {evidence.label} is zero everywhere; the true one is not"
    return Explanation(Fault.ZERO_GRADIENT, message, holds=_vanishes)


def _vanishes(sample: Sample) -> bool:
    return sample.elementwise and not bool(sample.got.any())
