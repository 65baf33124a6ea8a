"""No gradient came."""

from __future__ import annotations

from gradharness.diagnosis.evidence import Evidence, Explanation
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """No gradient came where the oracle's is not zero."""
    found = evidence.first.found
    if found.got is not None or found.expected is None:
        return None
    message = (
        f"no gradient came for {found.label} (None, or no entry in gradients(obj) of a manual class), "
        "and the true one is not zero"
    )
    return Explanation(Fault.MISSING_GRADIENT, message, holds=lambda s: s.found.got is None)
