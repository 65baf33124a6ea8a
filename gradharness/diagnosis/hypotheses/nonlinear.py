"""The gradient is not linear in the cotangent."""

from __future__ import annotations

import torch

from gradharness.diagnosis.asking import again, is_due
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """Tried on the sign and on two scales of the cotangent."""
    sample = evidence.first
    if evidence.setting.subject.fixed_cotangent or not sample.elementwise or sample.found.got is None:
        return None
    same = again(evidence, sample.case, sample.case.cotangents)
    if same is None or not close(same, sample.got):
        return None  # it depends on more than its arguments
    for factor in (-1.0, 2.0, 64.0):
        scaled = again(evidence, sample.case, [factor * w for w in sample.case.cotangents])
        if scaled is not None and not close(scaled, factor * sample.got):
            how = _how(evidence, sample, scaled, factor)
            message = f"gradient of {evidence.label} is not linear in the cotangent: {how}"
            return Explanation(Fault.NOT_LINEAR, message)
    return None


def _how(evidence: Evidence, sample: Sample, scaled: torch.Tensor, factor: float) -> str:
    if is_due(evidence, sample, [w.abs() for w in sample.case.cotangents]):
        return "it is the gradient for the cotangent's absolute value"
    if factor == 2.0 and close(scaled, 4 * sample.got):
        return "it grows with its square"
    return f"for {factor:g} times the cotangent it is not {factor:g} times as large"
