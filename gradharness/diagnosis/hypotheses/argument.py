"""Right for some values of a plain argument, wrong for others."""

from __future__ import annotations

from gradharness.diagnosis.evidence import Evidence, Explanation
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """The value of a plain argument separates the failing cases from the passing ones."""
    failing = [s.case.primals for s in evidence.samples]
    passing = [c.primals for c in evidence.passing]
    if not passing:
        return None
    for number, name in enumerate(failing[0].names):
        wrong = {repr(p.values[number]) for p in failing if _is_plain(p.values[number])}
        right = {repr(p.values[number]) for p in passing if _is_plain(p.values[number])}
        if wrong and right and not wrong & right:
            only = f"{name} is {' or '.join(sorted(wrong))}"
            words = f"{only}, and right where it is {' or '.join(sorted(right))}"
            return Explanation(Fault.WRONG_FOR_ARGUMENT, f"gradient of {evidence.label} is wrong where {words}")
    return None


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
