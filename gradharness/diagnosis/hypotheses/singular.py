"""Right but for sizes of one, or of zero: which way the code takes tells more than what is wrong on it."""

from __future__ import annotations

from gradharness.diagnosis.evidence import Evidence, Explanation
from gradharness.diagnosis.hypotheses.shapes import separating
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """A size of one or zero separates the failing cases from the passing ones."""
    words = separating(evidence, singular=True)
    if words is None:
        return None
    return Explanation(Fault.WRONG_FOR_SHAPE, f"gradient of {evidence.label} is wrong only where {words}")
