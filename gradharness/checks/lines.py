"""A gradient against finite differences along one direction, and what a direction would have seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from gradharness.checks.base import Setting
from gradharness.comparison import projected, root_mean_square, weighted_size
from gradharness.judge import Level, SlopeRuling, level_of, rule_slope
from gradharness.model.case import Case
from gradharness.model.estimate import Smoothness
from gradharness.model.subject import Gradients, Tensors
from gradharness.numerics.tolerance import Tolerance
from gradharness.oracles.finite_difference import FiniteDifference

COARSE = "only a relative error above {:.1g} would have been seen"
_APART = 30.0  # leaves whose gradients differ by more get directions of their own


@dataclass(frozen=True, slots=True)
class Along:
    """What finite differences say along one direction.

    Attributes:
        tangent: The direction.
        ruling: The comparison; None if nothing could be decided.
        value: The oracle's wᵀJv.
        masked: Whether outputs at kinks were left out.
        tolerance: The setting's.
        single: Error of one element, relative to its leaf's rms, that is certain to show; 0 without a claim.
        reason: Why nothing could be decided.
    """

    tangent: Tensors
    ruling: SlopeRuling | None
    value: float
    bound: float
    masked: bool
    tolerance: Tolerance
    single: float = 0.0
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the gradient is within budget."""
        return self.ruling is not None and self.ruling.agrees

    def agrees_with(self, gradients: Gradients) -> bool:
        """Whether other gradients are within the same budget."""
        product, size = projected(gradients, self.tangent)
        allowed = self.bound + self.tolerance.rtol * max(size, abs(self.value))
        return abs(product - self.value) <= allowed


def along(setting: Setting, differences: FiniteDifference, case: Case, gradients: Gradients, tangent: Tensors) -> Along:
    """Holds the gradients against finite differences along one direction; outputs at kinks are left out."""
    estimate = differences.slope(case, tangent)
    line = Along(tangent, None, estimate.value, estimate.bound, masked=False, tolerance=setting.tolerance)
    if estimate.smoothness is not Smoothness.SMOOTH:
        return replace(line, reason=estimate.smoothness.value)
    if estimate.masked is not None and any(bool(m.any()) for m in estimate.masked):
        weights = [w.masked_fill(m, 0) for w, m in zip(case.cotangents, estimate.masked, strict=True)]
        gradients = setting.subject.linearize(case.primals).pullback(weights)
        line = replace(line, masked=True)
    ruling = rule_slope(*projected(gradients, tangent), estimate, setting.tolerance)
    if ruling.agrees and ruling.resolution > setting.tolerance.coarsest and ruling.scale > 0:
        return replace(line, reason=COARSE.format(ruling.resolution))
    return replace(line, ruling=ruling, single=_single(ruling, gradients, tangent))


def _single(ruling: SlopeRuling, gradients: Gradients, tangent: Tensors) -> float:
    """The error of one element, in units of its leaf's rms, that moves G·v out of its tolerance wherever it is.

    One element, wrong by δ·rms, moves the slope by δ·rms·|v| at that element; and the difference may have been as
    large as the tolerance, in the other direction, before.
    """
    worst = 0.0
    for g, v in zip(gradients, tangent, strict=True):
        smallest = float(v.abs().min()) if v.numel() else 0.0
        size = root_mean_square(g) if g is not None else 0.0
        if smallest > 0 and size > 0:
            worst = max(worst, 2 * ruling.tolerance / (size * smallest))
    return worst


def directions_for(case: Case, gradients: Gradients) -> tuple[list[Tensors], list[Tensors]]:
    """Two draws, each of one direction through all leaves, and one for each leaf that would drown among the others."""
    first, second = case.directions[0], case.directions[1]
    if len(first) == 1:
        return [first], [second]
    sizes = [weighted_size([g], [v]) for g, v in zip(gradients, first, strict=True)]
    largest = max(sizes)
    apart = [i for i, s in enumerate(sizes) if s * _APART < largest]
    together = [i for i in range(len(first)) if i not in apart]
    groups = [together, *([i] for i in apart)]
    return [_only(first, group) for group in groups], [_only(second, group) for group in groups]


def settled(lines: Sequence[Along], gradients: Gradients) -> list[Along]:
    """The lines, those decided along which gradient and differences are both zero beside what other lines resolve.

    A slope of zero has no size of its own that its bound could be held against. Where no line has any, all is zero.
    """
    scale = max((line.ruling.scale for line in lines if line.ruling is not None), default=math.inf)
    return [
        replace(line, ruling=SlopeRuling(0.0, line.bound, 0.0))
        if line.ruling is None
        and line.value == 0
        and line.bound < math.inf
        and line.bound <= line.tolerance.coarsest * scale
        and weighted_size(gradients, line.tangent) == 0
        else line
        for line in lines
    ]


def _only(tangent: Tensors, chosen: Sequence[int]) -> Tensors:
    if len(chosen) == len(tangent):
        return tangent
    return tuple(v if i in chosen else torch.zeros_like(v) for i, v in enumerate(tangent))


def level_along(decided: Sequence[Along]) -> Level:
    """Worst relative error, dense or of one element, that the directions would have seen; 0 if all is zero."""
    level = Level(max([0.0, *(line.single for line in decided)]))
    rulings = [line.ruling for line in decided if line.ruling is not None and line.ruling.scale > 0]
    return level_of([level, *rulings])
