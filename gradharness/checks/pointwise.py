"""The slope of one element, by a step of its own size: where values are extreme, the others' sizes say nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch

from gradharness.checks.base import Setting
from gradharness.errors import OracleUnavailable
from gradharness.model.case import Case

_HEADROOM = 2.0**10  # a slope this close to the end of a dtype's range may overflow on the way there
_ALLOWED = 1e-3  # relative
_RESOLVED = 1e-2  # of the slope, or of the output per step, beyond which a bound leaves open whether there is a slope


class Slope(Enum):
    """What finite differences show of one element."""

    FINITE = "finite from both sides, and the same"
    KINK = "finite from both sides, and not the same"
    UNKNOWN = "infinite, jumping, beyond the range, or not resolved"


@dataclass(frozen=True, slots=True)
class Element:
    """One element's slope.

    Attributes:
        slope: Its kind.
        lower: Smallest value that it may have, less the error bound.
        upper: Largest such value, plus the error bound.
    """

    slope: Slope
    lower: float = -math.inf
    upper: float = math.inf

    def allows(self, value: float) -> bool:
        """Whether a gradient of this value is within the interval."""
        return self.lower <= value <= self.upper


def element_slope(setting: Setting, case: Case, number: int, flat: int) -> Element:
    """The slope of ⟨cotangents, outputs⟩ along one element of one leaf."""
    if setting.differences is None:
        return Element(Slope.UNKNOWN)
    leaf = case.primals.leaves[number]
    tangent = [torch.zeros_like(x) for x in case.primals.leaves]
    step = _step(leaf.reshape(-1), flat)
    tangent[number].reshape(-1)[flat] = step
    try:
        interval = setting.differences.interval(case, tuple(tangent))
    except OracleUnavailable:
        return Element(Slope.UNKNOWN)
    if interval is None:
        return Element(Slope.UNKNOWN)
    if not interval.bound <= _RESOLVED * max(abs(interval.lower), abs(interval.upper), _natural(case)):
        return Element(Slope.UNKNOWN)
    lower, upper, bound = interval.lower / step, interval.upper / step, interval.bound / step
    size = max(abs(lower), abs(upper))
    if not size <= torch.finfo(setting.dtype).max / _HEADROOM or not math.isfinite(bound):
        return Element(Slope.UNKNOWN)
    slack = bound + _ALLOWED * size
    kind = Slope.FINITE if upper - lower <= 2 * slack else Slope.KINK
    return Element(kind, lower - slack, upper + slack)


def _natural(case: Case) -> float:
    """Size of ⟨cotangents, outputs⟩."""
    pairs = zip(case.differentiable, case.cotangents, strict=True)
    return math.sqrt(sum(float((w.abs() * case.outputs[i].abs()).square().sum()) for i, w in pairs))


def _step(leaf: torch.Tensor, flat: int) -> float:
    """A power of two near the element's size; for a zero, near the median of the others."""
    size = abs(float(leaf[flat]))
    if size == 0:
        others = leaf.abs()[leaf != 0]
        size = float(others.median()) if others.numel() else 1.0
    return float(2.0 ** round(math.log2(size))) if size > 0 else 1.0
