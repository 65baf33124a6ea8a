"""A constant times the right gradient, and what the constant equals."""

from __future__ import annotations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.diagnosis.laws import also_equals, number
from gradharness.model.verdict import Fault

_ACCURACY = 1e-6


def explain(evidence: Evidence) -> Explanation | None:
    """Got = c·expected in every sample, with one c, or with c a law of a size or of a scalar argument."""
    ratios = [_ratio(s) for s in evidence.samples]
    values = [r for r in ratios if r is not None]
    if len(values) < len(ratios) or not any(_telling(s) for s in evidence.samples):
        return None
    factor = number(evidence.samples, values)
    if factor is None:
        return None

    def holds(sample: Sample) -> bool:
        return _is_multiple(sample, factor.at(sample))

    if all(abs(v + 1) <= _ACCURACY for v in values):
        message = f"gradient of {evidence.label} has the wrong sign: it is -1 times the right one"
        return Explanation(Fault.SIGN, message, holds=holds, everywhere=True)

    def retold(sample: Sample) -> str:
        return f"gradient of {sample.found.label} is {factor.words(sample)} times the right one"

    also = also_equals(evidence.samples, values[0])
    details = (f"this factor is {also} in all of these cases",) if also and "here" not in retold(evidence.first) else ()
    return Explanation(Fault.CONSTANT_FACTOR, retold(evidence.first), details, holds, everywhere=True, retold=retold)


def _ratio(sample: Sample) -> float | None:
    """Least-squares c, if c·expected is exactly what came."""
    if not sample.elementwise or not bool(sample.got.isfinite().all()):
        return None
    expected = torch.nan_to_num(sample.expected)
    size = float(expected.abs().square().sum())
    if size == 0.0:
        return None
    c = float((sample.got.to(expected.dtype) * expected.conj()).sum().real) / size
    return c if _is_multiple(sample, c) and c != 0.0 else None


def _is_multiple(sample: Sample, c: float) -> bool:
    return sample.elementwise and close(sample.got, c * sample.expected)


def _telling(sample: Sample) -> bool:
    """One element is a multiple of anything: there have to be two of different size."""
    sizes = sample.expected.abs().reshape(-1)
    return bool((sizes > 0).sum() >= 2) and float(sizes.max()) > 1.01 * float(sizes[sizes > 0].min())
