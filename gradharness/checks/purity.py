"""Check ``purity``: what a subject is given stays as it is."""

from __future__ import annotations

from gradharness.checks.base import Check, Setting
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict


def examine(setting: Setting, case: Case) -> Observation:
    """Primals and cotangents after forward and backward, bit for bit beside what they were."""
    errors: list[Discrepancy] = []
    warnings: list[Discrepancy] = []
    for returned in setting.subject.raw_returns(case.primals, case.cotangents):
        for label in returned.written:
            detail = f"{returned.place.partition('.')[0]} writes into {label}, which others may hold as well"
            found = Discrepancy(label=label, fault=Fault.WRITES_INPUT, detail=detail)
            # Behind autograd a cotangent may belong to another branch of the graph; a manual class may own its inputs.
            (errors if returned.coerced else warnings).append(found)
    verdict = Verdict.FAIL if errors else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=tuple(errors), warnings=tuple(warnings))


CHECK = Check(
    name="purity",
    proves="Primals and cotangents are, bit for bit, what they were before forward and backward.",
    cannot="It does not look at saved tensors, outputs and global state.",
    examine=examine,
    weight=0.25,
)
