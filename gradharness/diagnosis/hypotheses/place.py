"""Every element is off by a factor of its own, which belongs to its place."""

from __future__ import annotations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.diagnosis.hypotheses import few
from gradharness.model.verdict import Fault

_SAME_PLACES = 3  # samples of one shape that have to show the same factors
_TELLING = 1e-2  # share of the largest element from which on an element tells its factor
_FACTOR_ACCURACY = 1e-4
_SHOWN = 4
_RARE = 0.02  # share of wrong elements up to which they are told one by one


def explain(evidence: Evidence) -> Explanation | None:
    """Every element is off by a factor of its own, which is the same for all values."""
    same = [s for s in evidence.samples if s.elementwise and s.expected.shape == evidence.first.expected.shape]
    if len(same) < _SAME_PLACES or not all(s.elementwise for s in evidence.samples):
        return None
    factors = _factors(same[0])
    if factors is None or any(not _off_by(s, factors) for s in same):
        return None
    if int(evidence.first.wrong.sum()) <= _RARE * evidence.first.wrong.numel():
        return few.explain(evidence)  # the elements tell more than their factors
    shown: dict[str, str] = {}
    for place, c in zip(factors.isfinite().nonzero().tolist(), factors[factors.isfinite()].tolist(), strict=True):
        shown.setdefault(f"{c:.4g}", f"{c:.4g} at {place}")
    if len(shown) < 2:
        return None
    listed = ", ".join([*shown.values()][:_SHOWN]) + (" …" if len(shown) > _SHOWN else "")
    message = f"gradient of {evidence.label} is off by a factor that depends on the position alone: {listed}"
    return Explanation(Fault.WRONG_ELEMENTS, message)


def _factors(sample: Sample) -> torch.Tensor | None:
    """Got / expected where that says something; NaN elsewhere."""
    expected, got = sample.expected, sample.got
    if expected.is_complex() or not bool(got.isfinite().all()):
        return None
    telling = expected.abs() > _TELLING * float(torch.nan_to_num(expected).abs().max())
    return torch.where(telling & expected.isfinite(), got.to(expected.dtype) / expected, torch.nan)


def _off_by(sample: Sample, factors: torch.Tensor) -> bool:
    own = _factors(sample)
    if own is None:
        return False
    both = own.isfinite() & factors.isfinite()
    return bool(both.any()) and bool(((own - factors).abs()[both] <= _FACTOR_ACCURACY).all())
