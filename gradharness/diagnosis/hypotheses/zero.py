"""All zero."""

from __future__ import annotations

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """All zero where the oracle's is not."""
    if not all(_vanishes(s) for s in evidence.samples):
        return None
    message = f"gradient of {evidence.label} is zero everywhere; the true one is not"
    return Explanation(Fault.ZERO_GRADIENT, message, holds=_vanishes, everywhere=True)


def _vanishes(sample: Sample) -> bool:
    return sample.elementwise and not bool(sample.got.any())
