"""Named by the check itself."""

from __future__ import annotations

from gradharness.diagnosis.evidence import Evidence, Explanation


def explain(evidence: Evidence) -> Explanation | None:
    """The check itself knew what is wrong."""
    found = evidence.first.found
    if found.fault is None:
        return None
    return Explanation(
        found.fault, found.detail, holds=lambda s: s.found.fault is found.fault, retold=lambda s: s.found.detail
    )
