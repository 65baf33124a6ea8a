"""Gradients that are not finite: a fault wherever a finite slope exists, and no news where there is none."""

from __future__ import annotations

import torch

from gradharness.checks.base import Setting
from gradharness.errors import OracleUnavailable
from gradharness.model.case import Case
from gradharness.model.subject import Gradients
from gradharness.oracles.finite_difference import FiniteDifference

REASON = "the gradient is not finite where no finite slope exists"
_LOOKED_AT = 16  # elements per leaf
_HEADROOM = 2.0**10  # a result this close to the end of a dtype's range may overflow on the way there


def any_nonfinite(gradients: Gradients) -> bool:
    """Whether any element is infinite or NaN."""
    return any(g is not None and not bool(g.isfinite().all()) for g in gradients)


def is_excusable(setting: Setting, case: Case, gradients: Gradients) -> bool:
    """Whether every element that is not finite sits where the slope is infinite, jumps or exceeds the dtype's range.

    A kink has slopes on either side, and they are finite: there it is no excuse.
    """
    if setting.differences is None:
        return False
    # An output with a cotangent of zero counts too: zero times an infinite slope is NaN.
    case = case.with_cotangents([torch.ones_like(w) for w in case.cotangents])
    largest = torch.finfo(setting.dtype).max / _HEADROOM
    for number, g in enumerate(gradients):
        if g is None:
            continue
        for flat in (~g.isfinite()).reshape(-1).nonzero()[:_LOOKED_AT, 0].tolist():
            if _has_finite_slope(setting.differences, case, (number, flat), largest):
                return False
    return True


def _has_finite_slope(differences: FiniteDifference, case: Case, place: tuple[int, int], largest: float) -> bool:
    number, flat = place
    tangent = [torch.zeros_like(x) for x in case.primals.leaves]
    scale = float(case.directions[0][number].abs().max())
    tangent[number].reshape(-1)[flat] = scale
    try:
        interval = differences.interval(case, tuple(tangent))
    except OracleUnavailable:
        return False
    return interval is not None and max(abs(interval.lower), abs(interval.upper)) <= largest * scale
