"""The cotangent has no part in the gradient."""

from __future__ import annotations

from gradharness.diagnosis.asking import again
from gradharness.diagnosis.evidence import Evidence, Explanation, close
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """The gradient is the same for another cotangent."""
    sample = evidence.first
    if evidence.setting.subject.fixed_cotangent or not sample.elementwise or sample.found.got is None:
        return None
    doubled = again(evidence, sample.case, [2 * w for w in sample.case.cotangents])
    if doubled is None or not close(doubled, sample.got) or not bool(sample.got.any()):
        return None
    other = again(evidence, sample.case, list(sample.case.other_cotangents))
    if other is None or not close(other, sample.got):
        return None
    message = f"gradient of {evidence.label} does not depend on the cotangent (it is right for one value of it only)"
    return Explanation(Fault.COTANGENT_IGNORED, message)
