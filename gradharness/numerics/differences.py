"""Derivatives along a line from values alone, each with an error bound.

``line(t)`` gives the M outputs of a function at x + t·v, in one vector; t is in units of the tangent v, which is scaled
by the caller to about one standard deviation of x. Two stages: ``quick_slope`` (4 calls; distrusts itself), ``slope``
(14 calls or so; each output on its own). Nothing here is random and nothing knows about gradients.

Sources: Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", Adv. Eng. Software 4 (1982); Numerical Recipes, 3rd
ed., section 5.7. What differs from them, and why, stands beside the code; the figures are from ``benchmarks/
oracle_accuracy.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch

from gradharness.numerics.noise import median_ratio

Line: TypeAlias = Callable[[float], torch.Tensor]

# An irrational ratio: a ladder of ratio 2 aliases perfectly on periodic functions (sin(1000x): six rungs agree to 1e-10
# on a value that is wrong by 100 %).
_RATIO = math.sqrt(5.0)
_ORDERS = 8
_ALARM = 1e3  # noise this much above the pooled level is a small jump, not noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Steps and safety factor that suit a floating dtype.

    Attributes:
        eps: Spacing of the numbers at one.
        quick: The two steps of the cheap stage, the larger first, in units of the tangent.
        anchors: The two fine steps that guard the ladder.
        first: Largest step of the ladder.
        rungs: Most steps of the ladder.
        noise_factor: How many times the measured noise counts as bound.
        target: Relative bound at which the ladder is good enough.
    """

    eps: float
    quick: tuple[float, float]
    anchors: tuple[float, float]
    first: float = 2.0**-4
    rungs: int = 12
    noise_factor: float = 3.0
    target: float = 1e-10


# Powers of two, so that x ± h·v is exact for x and v of few bits.
FLOAT64 = Precision(eps=2.0**-52, quick=(2.0**-16, 2.0**-19), anchors=(2.0**-19, 2.0**-22))
FLOAT32 = Precision(eps=2.0**-23, quick=(2.0**-7, 2.0**-9), anchors=(2.0**-8, 2.0**-10), noise_factor=6.0, target=1e-5)


@dataclass(frozen=True, slots=True)
class QuickSlope:
    """The projected derivative ⟨weights, y'(0)⟩ as four calls show it.

    Attributes:
        value: The derivative.
        bound: Error bound, wide wherever anything looks odd.
        scale: Root of the sum of squares of weight times derivative: the size that ``value`` has under random signs.
        smooth: False if anything is not finite or bends more than a smooth function does.
    """

    value: float
    bound: float
    scale: float
    smooth: bool


@dataclass(frozen=True, slots=True)
class Slope:
    """Derivative of each of the M outputs along the line; every tensor has shape (M,), in float64.

    Attributes:
        value: Derivative; the mean of both one-sided ones at a true kink.
        bound: Error bound of ``value`` (at a true kink: of ``left`` and ``right``); infinite where nothing is known.
        smooth: False at kinks, jumps and infinite slopes.
        resolved: False where the differences at fine steps disagree, or are not finite.
        kink: True where the slope exists on either side and the two differ.
        left: One-sided slope towards negative t; equal to ``value`` where smooth; NaN where there is none.
        right: The same towards positive t.
        calls: Calls of the line.
    """

    value: torch.Tensor
    bound: torch.Tensor
    smooth: torch.Tensor
    resolved: torch.Tensor
    kink: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    calls: int

    @property
    def usable(self) -> torch.Tensor:
        """True where ``value`` is a derivative, shape (M,)."""
        return self.smooth & self.resolved

    @property
    def lower(self) -> torch.Tensor:
        """Smaller one-sided slope, shape (M,)."""
        return torch.minimum(self.left, self.right)

    @property
    def upper(self) -> torch.Tensor:
        """Larger one-sided slope, shape (M,)."""
        return torch.maximum(self.left, self.right)


def quick_slope(line: Line, y0: torch.Tensor, weights: torch.Tensor, *, precision: Precision = FLOAT64) -> QuickSlope:
    """Central differences at two small steps, projected on ``weights``; four calls and about ten small tensor ops.

    Outputs are differenced before they are projected, so that outputs which do not move add no noise. The steps are a
    compromise: round-off 2e-10 and truncation 4e-11·|y'''| of the default pair are both far below 1e-7.

    Args:
        line: The M outputs at x + t·v.
        y0: ``line(0.0)`` in float64, shape (M,).
        weights: Shape (M,), float64.
        precision: Steps.
    """
    coarse, fine = precision.quick
    # One at a time: a function may hand out the same buffer from call to call.
    values = y0.new_empty((5, y0.numel()))
    for change, t in zip(values, (coarse, -coarse, fine, -fine), strict=False):
        torch.sub(line(t), y0, out=change)
    values[4] = y0
    rows = torch.mm(_quick_stencil(coarse, fine, values.device), values).mul_(weights)
    drift, value, _, _ = rows.sum(1).tolist()
    drift_rms, scale, _, size = torch.linalg.vector_norm(rows, dim=1).tolist()
    bend = 2 * torch.linalg.vector_norm(rows[2], 1).item()
    root = math.sqrt(y0.numel())
    noise = precision.noise_factor * precision.eps / 2 * size / fine
    bound = max(abs(drift), drift_rms) + bend + noise + 8 * precision.eps * root * scale
    if not math.isfinite(bound):
        return QuickSlope(value, math.inf, scale, smooth=False)
    # A kink of natural size bends by a share of the slope that is far above both limits. Where nothing moves at all,
    # the function may be computed in a coarser dtype: no news is not good news.
    smooth = scale > 0 and bend <= 1e-6 * scale + 8 * root * noise
    return QuickSlope(value, bound, scale, smooth)


@lru_cache(maxsize=16)
def _quick_stencil(coarse: float, fine: float, device: torch.device) -> torch.Tensor:
    """Rows: D(coarse) - D(fine); D(fine); E(fine) - E(coarse)·fine/coarse; y0. Columns: changes at ±coarse, ±fine; y0.

    E(h) = (y(h) + y(-h) - 2·y0) / 2h is h·y''/2 where y is smooth, so the third row is zero up to noise and h³; at a
    kink E is constant, half the difference of the one-sided slopes, and seven eighths of it are left.
    """
    a, b = 0.5 / coarse, 0.5 / fine
    c = a * fine / coarse
    rows = [[a, -a, -b, b, 0.0], [0.0, 0.0, b, -b, 0.0], [-c, -c, b, b, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64, device=device)


def slope(
    line: Line,
    y0: torch.Tensor,
    ulp_noise: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    precision: Precision = FLOAT64,
) -> Slope:
    """Derivative of every output on its own: fine anchors, then a Ridders ladder that the anchors must confirm.

    Args:
        line: The M outputs at x + t·v.
        y0: ``line(0.0)`` in float64, shape (M,).
        ulp_noise: Noise per output from ``noise_floor``, shape (M,).
        weights: Outputs of weight zero do not keep the ladder going; all count if None. Shape (M,).
        precision: Steps and safety factor.
    """
    anchors = _anchors(line, y0, ulp_noise, precision)
    live = anchors.smooth & anchors.resolved
    if weights is not None:
        live &= weights != 0
    ladder = _ladder(line, y0, anchors, live, precision)
    # The guard against differences of the fine steps that matter: judged by the differences' own scale, never by a
    # gradient's (the correct gradient of normalize at 0 is 1e12). Below 1e-8 of any difference seen it is no matter.
    resolved = anchors.resolved | (anchors.finite & (anchors.spread <= 1e-8 * ladder.largest))
    resolved &= ~ladder.stepped
    usable = anchors.smooth & resolved
    bound = torch.where(usable, ladder.bound, math.inf)
    bound = torch.where(anchors.kink, anchors.side_bound, bound)
    nan = torch.full_like(bound, math.nan)
    known = torch.where(usable, ladder.value, nan)
    return Slope(
        value=torch.where(anchors.finite, ladder.value, 0.0),
        bound=bound,
        smooth=anchors.smooth,
        resolved=resolved,
        kink=anchors.kink,
        left=torch.where(anchors.kink, anchors.value - anchors.bend, known),
        right=torch.where(anchors.kink, anchors.value + anchors.bend, known),
        calls=anchors.calls + ladder.calls,
    )


def _central(line: Line, y0: torch.Tensor, h: float) -> tuple[torch.Tensor, torch.Tensor]:
    """D(h) = (y(h) - y(-h)) / 2h and E(h) = (y(h) + y(-h) - 2·y0) / 2h, differences first, in float64."""
    above, below = line(h).to(torch.float64) - y0, line(-h).to(torch.float64) - y0
    return (above - below) / (2 * h), (above + below) / (2 * h)


@dataclass(frozen=True, slots=True)
class _Anchors:
    """What the fine steps say, per output."""

    value: torch.Tensor  # D(h2)
    bound: torch.Tensor
    bend: torch.Tensor  # E(h2)
    side_bound: torch.Tensor  # bound of D(h2) ± E(h2) at a kink
    spread: torch.Tensor  # by how much the fine steps disagree
    noise: torch.Tensor
    finite: torch.Tensor
    smooth: torch.Tensor
    resolved: torch.Tensor
    kink: torch.Tensor
    calls: int


def _anchors(line: Line, y0: torch.Tensor, noise: torch.Tensor, precision: Precision) -> _Anchors:
    """Differences at the two anchors and at a third, finer one; the flags follow from them.

    Bounded functions need them: far out D(h) ~ 1/h is small with small absolute bars (norm near 0: 94 % wrong with a
    bar of 7e-5), and only fine steps show it.
    """
    h1, h2 = precision.anchors
    k = precision.noise_factor
    d1, e1 = _central(line, y0, h1)
    d2, e2 = _central(line, y0, h2)
    finite = d1.isfinite() & d2.isfinite() & noise.isfinite() & y0.isfinite()
    spread = (d1 - d2).abs()
    odd = _alarming(y0, noise, precision.eps)
    bent = e2.abs() > 3 * k * noise / h2 + 0.5 * e1.abs()
    smooth = ~(finite & (bent | odd))
    unequal = (spread > 0.1 * d2.abs()) & (spread > 3 * k * noise * (1 / h1 + 1 / h2))
    change = (e1 - e2).abs()
    kink = finite & bent & ~odd & (change <= 0.1 * e2.abs())
    calls, disagreement, h3 = 4, spread, _third_step(d2, noise, h2)
    if h3 is not None:
        d3, e3 = _central(line, y0, h3)
        beyond_noise = (d3 - d2).abs() - k * noise * (1 / h3 + 1 / h2)
        unequal |= beyond_noise > 0.05 * d2.abs()
        disagreement = torch.maximum(spread, beyond_noise)
        strays = torch.maximum(beyond_noise, (e3 - e2).abs() - k * noise * (1 / h3 + 1 / h2))
        kink &= strays <= 0.1 * torch.maximum(d2.abs(), e2.abs())
        finite &= d3.isfinite()
        calls = 6
    # Noise that no ulp of x shows (1 + x² near 0) bends y at the finest step, where a smooth y does not.
    noise = torch.where(smooth & finite, torch.maximum(noise, (e2 - e1 * (h2 / h1)).abs() * h2), noise)
    bound = k * noise / h2 + spread
    side_bound = bound + change + k * noise / h2
    resolved = finite & ~unequal
    return _Anchors(d2, bound, e2, side_bound, disagreement, noise, finite, smooth, resolved, kink, calls)


def _alarming(y0: torch.Tensor, noise: torch.Tensor, eps: float) -> torch.Tensor:
    """True where the noise is far above the other outputs': a jump of 1e-7 passes for noise and would hide a kink."""
    known = noise[noise.isfinite()]
    if not known.numel():
        return torch.zeros_like(noise, dtype=torch.bool)
    ulp = eps / 2 * y0.abs()
    return noise > _ALARM * torch.maximum(known.median(), median_ratio(noise, ulp) * ulp)


def _third_step(d: torch.Tensor, noise: torch.Tensor, h2: float) -> float | None:
    """The step at which noise is about 1e-3 of the median derivative, a power of two; None unless finer than h2."""
    counted = d.isfinite() & noise.isfinite() & (d != 0) & (noise > 0)
    steps = 1e3 * noise[counted] / d[counted].abs()
    if not steps.numel():
        return None
    h3 = 2.0 ** math.ceil(math.log2(max(float(steps.median()), 2.0**-44)))
    return h3 if h3 <= h2 / 4 else None


@dataclass(frozen=True, slots=True)
class _Rungs:
    """Best entry of the ladder per output, and what the coarse steps saw.

    ``stepped`` is True where fine steps change nothing at all while coarse ones see a slope, much the same on either
    side: a function that is computed in a coarser dtype than its inputs, or a dead zone; its fine slope means nothing.
    """

    value: torch.Tensor
    bound: torch.Tensor
    largest: torch.Tensor
    stepped: torch.Tensor
    calls: int


def _ladder(line: Line, y0: torch.Tensor, anchors: _Anchors, live: torch.Tensor, precision: Precision) -> _Rungs:
    """Ridders's tableau in h², per output the entry of smallest bound that agrees with the anchors.

    The entry of smallest disagreement alone is a selection of lucky ones (its own estimate covers 41 %); noise carried
    through the extrapolation weights and the comparison with two rungs before make it 99.9 %.
    """
    noise = anchors.noise
    value, bound = anchors.value, torch.where(anchors.finite, anchors.bound, math.inf)
    largest = torch.nan_to_num(anchors.value.abs(), nan=0.0, posinf=0.0)
    still = anchors.finite & (anchors.value == 0) & (anchors.spread <= 0)
    drowned = precision.noise_factor * noise / precision.anchors[0]  # slopes that noise may hide from the anchors
    stepped = torch.zeros_like(still)
    last = before_last = value.new_empty((0, value.numel()))
    rung = 0
    for rung in range(precision.rungs):
        d, e = _central(line, y0, precision.first * _RATIO**-rung)
        stepped |= still & (e.abs() <= 0.5 * d.abs()) & (d.abs() > drowned)
        largest = torch.maximum(largest, torch.nan_to_num(d.abs(), nan=0.0, posinf=0.0))
        row = _extrapolate(d, last)
        if rung:
            bars = _bars(row, last, before_last) + _noise_bars(rung, len(last), noise, precision)
            entries = row[: len(last)]
            agrees = (entries - anchors.value).abs() <= bars + anchors.bound
            best, order = torch.where(agrees, bars, math.inf).min(0)
            better = best < bound
            value = torch.where(better, entries.gather(0, order[None])[0], value)
            bound = torch.where(better, best, bound)
        before_last, last = last, row
        if rung >= 2 and _good_enough(rung, value, bound, noise, live, precision):
            break
    return _Rungs(value, bound, largest, stepped, 2 * (rung + 1))


def _extrapolate(d: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Next row of the Neville tableau: orders 0, 1, … of this rung, shape (orders, M)."""
    row = [d]
    for j in range(min(len(last), _ORDERS - 1)):
        row.append(row[j] + (row[j] - last[j]) / (_RATIO ** (2 * j + 2) - 1))
    return torch.stack(row)


def _bars(row: torch.Tensor, last: torch.Tensor, before_last: torch.Tensor) -> torch.Tensor:
    """Truncation bound of each entry that has one of its order a rung before, shape (orders, M)."""
    bars = (row[: len(last)] - last).abs()
    seen = len(before_last)
    if not seen:
        return 2 * bars  # two rungs alone do not tell whether their errors shrink or, beside a small jump, grow
    bars[:seen] = torch.maximum(bars[:seen], (row[:seen] - before_last).abs() / _RATIO**2)
    return bars


def _noise_bars(rung: int, orders: int, noise: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Noise of the first ``orders`` entries of a rung, shape (orders, M)."""
    gains = noise.new_tensor(_gains(precision.rungs)[rung][:orders])
    return (precision.noise_factor / precision.first) * gains[:, None] * noise


@lru_cache(maxsize=4)
def _gains(rungs: int) -> tuple[tuple[float, ...], ...]:
    """How much noise each entry of the tableau carries, for first step one: sqrt(Σ (weight_l · ratio^l)² / 2)."""
    table: list[list[list[float]]] = []
    for i in range(rungs):
        row = [[1.0 if n == i else 0.0 for n in range(rungs)]]
        for j in range(min(i, _ORDERS - 1)):
            factor = 1 / (_RATIO ** (2 * j + 2) - 1)
            row.append([a + (a - b) * factor for a, b in zip(row[j], table[i - 1][j], strict=True)])
        table.append(row)
    return tuple(tuple(math.sqrt(sum((w * _RATIO**n) ** 2 for n, w in enumerate(ws)) / 2) for ws in r) for r in table)


def _good_enough(
    rung: int,
    value: torch.Tensor,
    bound: torch.Tensor,
    noise: torch.Tensor,
    live: torch.Tensor,
    precision: Precision,
) -> bool:
    """True if every live output is within the target, or no smaller step can better its bound."""
    if not bool(live.any()):
        return True
    value, bound, noise = value[live], bound[live], noise[live]
    least = precision.noise_factor * noise * _RATIO ** (rung + 1) / (math.sqrt(2.0) * precision.first)
    target = precision.target * value.square().mean().sqrt()
    return bool(((bound <= target) | (bound <= least)).all())
