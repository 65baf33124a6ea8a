"""Another argument's gradient."""

from __future__ import annotations

from gradharness.checks.explanation import best_estimate
from gradharness.diagnosis.asking import holds_for_all
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """It is another argument's gradient."""
    sample = evidence.first
    if not sample.elementwise or sample.leaf is None or sample.got.numel() < 2:
        return None
    for number, label in enumerate(sample.case.primals.labels):

        def holds(s: Sample, n: int = number) -> bool:
            estimate = best_estimate(evidence.setting, s.case)
            return s.elementwise and estimate is not None and close(s.got, estimate.gradients[n])

        if label != sample.found.label and holds_for_all(evidence, holds):
            message = f"gradient of {evidence.label} is the gradient of {label}"
            return Explanation(Fault.SWAPPED_GRADIENTS, message, holds=holds, everywhere=True)
    return None
