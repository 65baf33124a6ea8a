"""A missing conjugate."""

from __future__ import annotations

from gradharness.checks.explanation import best_estimate
from gradharness.diagnosis.asking import holds_for_all
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """The Jacobian's transpose is applied in place of its conjugate transpose."""
    sample = evidence.first
    if sample.leaf is None or not sample.leaf.is_complex():
        return None
    number = sample.case.primals.labels.index(sample.found.label)

    def holds(s: Sample) -> bool:
        estimate = best_estimate(evidence.setting, s.case.with_cotangents([w.conj() for w in s.case.cotangents]))
        return s.elementwise and estimate is not None and close(s.got, estimate.gradients[number].conj())

    if not holds_for_all(evidence, holds):
        return None
    message = f"gradient of {evidence.label} lacks a conjugate: the Jacobian's transpose in place of its conjugate's"
    return Explanation(Fault.MISSING_CONJUGATE, message, holds=holds, everywhere=True)
