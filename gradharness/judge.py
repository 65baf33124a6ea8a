"""Opinion on what was measured: error budgets, and what a pass would have seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from gradharness.comparison import Compared
from gradharness.model.case import Case
from gradharness.model.estimate import SlopeEstimate
from gradharness.model.verdict import Discrepancy, Observation, Verdict
from gradharness.numerics.tolerance import Tolerance

# 95 % of dense random errors are seen above this many tolerances with two directions: P = erf(...)², measured within
# 0.03 of the prediction.
_DENSE_TWO_DIRECTIONS = 3.5


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the budget says of one comparison.

    Attributes:
        excess: Largest difference in units of its tolerance; above 1 is out of budget, NaN counts as infinite.
        resolution: Smallest error, relative to the gradient's rms, that would have been out of budget anywhere.
        tolerance: Tolerance per element.
        error: Largest difference, relative to the gradient's rms; zero where that is zero.
    """

    excess: float
    resolution: float
    tolerance: torch.Tensor
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """What several rulings say together: the worst of each.

    Attributes:
        resolution: Smallest relative error that would have been out of budget in all of them.
        error: Largest relative error that was seen.
    """

    resolution: float = 0.0
    error: float = 0.0

    def worse(self, other: Level | Ruling | SlopeRuling) -> Level:
        """The worse of both."""
        return Level(max(self.resolution, other.resolution), max(self.error, other.error))


def level_of(rulings: Iterable[Ruling | SlopeRuling | Level]) -> Level:
    """Of all rulings together."""
    return reduce(Level.worse, rulings, Level())


def passing(level: Level, *, warnings: tuple[Discrepancy, ...] = (), at: Case | None = None) -> Observation:
    """A pass, with what it has seen and would have seen."""
    return Observation(verdict=Verdict.PASS, resolution=level.resolution, error=level.error, warnings=warnings, at=at)


def rule(compared: Compared, bound: torch.Tensor | float, tolerance: Tolerance) -> Ruling:
    """Holds a comparison against its budget: oracle's bound + tolerance.

    Args:
        compared: The measurement.
        bound: Oracle's error bound, per element or for the tensor.
        tolerance: Allowed relative error on top of it.
    """
    expected = compared.expected
    if compared.difference is None:
        return Ruling(math.inf, 0.0, torch.zeros_like(expected.abs()))
    if expected.numel() == 0:
        return Ruling(0.0, 0.0, expected.abs())
    known = expected if compared.finite else torch.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0)
    allowed = tolerance.allowed(known, compared.rms) + bound
    excess = _largest_ratio(compared.difference, allowed)
    if compared.rms <= 0:
        return Ruling(excess, 0.0, allowed)
    error = float(compared.difference.max()) / compared.rms
    return Ruling(excess, float(allowed.max()) / compared.rms, allowed, error)


def _largest_ratio(difference: torch.Tensor, allowed: torch.Tensor) -> float:
    ratio = difference / allowed
    worst = float(ratio.max())
    if not math.isnan(worst):
        return worst
    # 0/0 is agreement; any other NaN comes from a gradient that is not finite.
    agreed = (difference == 0) & (allowed == 0)
    return float(torch.nan_to_num(torch.where(agreed, 0.0, ratio), nan=math.inf, posinf=math.inf).max())


def discrepancy(compared: Compared, ruling: Ruling, oracle: str) -> Discrepancy:
    """The record of a comparison that is out of budget."""
    return Discrepancy(
        label=compared.label,
        got=compared.got,
        expected=compared.expected,
        bound=ruling.tolerance,
        oracle=oracle,
        excess=ruling.excess,
    )


def out_of_budget(compared: Sequence[Compared], rulings: Sequence[Ruling], oracle: str) -> tuple[Discrepancy, ...]:
    """Discrepancies of all comparisons that are out of budget, the worst first."""
    found = [discrepancy(c, r, oracle) for c, r in zip(compared, rulings, strict=True) if r.excess > 1]
    return tuple(sorted(found, key=lambda d: -d.excess))


@dataclass(frozen=True, slots=True)
class SlopeRuling:
    """What the budget says of one directional derivative.

    Attributes:
        difference: |G·v - D|.
        tolerance: What was allowed.
        scale: rms size of G·v under random signs.
    """

    difference: float
    tolerance: float
    scale: float

    @property
    def agrees(self) -> bool:
        """Within budget; a NaN difference is not."""
        return self.difference <= self.tolerance

    @property
    def resolution(self) -> float:
        """Smallest dense relative error seen with 95 % by two such directions; infinite if there is no scale."""
        return _DENSE_TWO_DIRECTIONS * self.tolerance / self.scale if self.scale > 0 else math.inf

    @property
    def error(self) -> float:
        """The difference relative to the scale; zero if there is none."""
        return self.difference / self.scale if self.scale > 0 else 0.0


def rule_slope(product: float, scale: float, estimate: SlopeEstimate, tolerance: Tolerance) -> SlopeRuling:
    """Holds G·v against an oracle's directional derivative.

    Args:
        product: G·v.
        scale: ‖G∘v‖.
        estimate: The oracle's number, with its bound.
        tolerance: Allowed relative error on top of the bound.
    """
    scale = max(scale, abs(estimate.value))
    return SlopeRuling(abs(product - estimate.value), estimate.bound + tolerance.rtol * scale, scale)
