"""Asking again, to try a hypothesis: the subject for another cotangent, an oracle at another point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradharness.checks.explanation import best_estimate
from gradharness.diagnosis.evidence import Evidence, Sample, close
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import Primals


def again(evidence: Evidence, case: Case, cotangents: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """The subject's gradient for other cotangents; None if it gives none."""
    try:
        gradients = evidence.setting.subject.linearize(case.primals).pullback(cotangents)
    except SubjectError:
        return None
    return gradients[case.primals.labels.index(evidence.label)]


def due(evidence: Evidence, case: Case, cotangents: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """What an oracle expects for other cotangents; None if none answers."""
    estimate = best_estimate(evidence.setting, case.with_cotangents(cotangents))
    return None if estimate is None else estimate.gradients[case.primals.labels.index(evidence.label)]


def due_at(evidence: Evidence, case: Case, primals: Primals) -> torch.Tensor | None:
    """What an elementwise oracle expects at another point of the same shapes, for the case's cotangents."""
    oracle = evidence.setting.trusted or evidence.setting.own
    if oracle is None:
        return None
    try:
        return oracle.at(case, primals)[case.primals.labels.index(evidence.label)]
    except OracleUnavailable:
        return None


def holds_for_all(evidence: Evidence, holds: Callable[[Sample], bool]) -> bool:
    """Whether a hypothesis explains every failing sample."""
    return all(holds(s) for s in evidence.samples)


def is_due(evidence: Evidence, sample: Sample, cotangents: Sequence[torch.Tensor]) -> bool:
    """Whether what came is the right gradient of other cotangents."""
    expected = due(evidence, sample.case, cotangents)
    return expected is not None and close(sample.got, expected, sample.found.bound)
