"""Values at which formulas break down: zeros, ties, saturation, overflow, underflow, never outside of their region.

And values of one sign, under which no sum cancels.
"""

from __future__ import annotations

import torch

from gradharness.inputs.styles import Style

# Powers of two near 1e3, 1e10, 1e30 and near 1e-30, 1e-160 (whose square is zero): a number stays as short as it is.
_MAGNITUDES = {
    Style.HUGE: (2.0**10, 2.0**33, 2.0**100),
    Style.MINUTE: (2.0**-100, 2.0**-532),
}
# exp(30) absorbs a one, and exp(800) overflows; softmax and sigmoid are exactly flat at both.
_SATURATED = torch.tensor([-800.0, -30.0, 30.0, 800.0], dtype=torch.float64)
_END = 2.0**-12  # of the width of an interval, beside its ends
_BESIDE = 2.0**-10  # of a single bound, beside it
_SINGLES = 0.2  # of the elements


def extreme(
    values: torch.Tensor, style: Style, region: tuple[float | None, float | None], g: torch.Generator
) -> torch.Tensor:
    """Ordinary values with a whole tensor, a row or single elements made extreme.

    Args:
        values: Inside the region, float64.
        style: One of the special ones.
        region: Lower and upper limit, both excluded.
        g: Source of randomness.

    Returns:
        Values inside the region.
    """
    if not values.numel():
        return values
    if style is Style.POSITIVE and None not in region:
        return values
    place = _place(values, style, g)
    return torch.where(place, _inside(_special(values, style, g), style, region), values)


def extreme_index(count: int, span: int, style: Style, g: torch.Generator) -> torch.Tensor | None:
    """Duplicates and ends of 0 .. span - 1; None where a style asks for neither."""
    if style is Style.BLANK:
        return torch.zeros(count, dtype=torch.int64)
    if style is Style.HUGE:
        return torch.full((count,), span - 1)
    if style is Style.EQUAL:
        return torch.randint(0, span, (1,), generator=g).expand(count).clone()
    if style is Style.SATURATED:
        return (span - 1) * torch.randint(0, 2, (count,), generator=g)
    return None


def _place(values: torch.Tensor, style: Style, g: torch.Generator) -> torch.Tensor:
    """True at the elements that are replaced: everywhere, in a row along the last axis, or here and there."""
    kind = int(torch.randint(0, 3, (), generator=g))
    if style in (Style.BLANK, Style.POSITIVE) or (kind == 0 and style is not Style.BLANK_ROW):
        return torch.ones_like(values, dtype=torch.bool)
    if values.dim() > 1 and (style is Style.BLANK_ROW or kind == 1):
        rows = values[..., 0].numel()
        chosen = torch.arange(rows) == torch.randint(0, rows, (), generator=g)
        return chosen.reshape(*values.shape[:-1], 1).expand(values.shape)
    place = torch.rand(values.shape, generator=g) < _SINGLES
    place.reshape(-1)[torch.randint(0, values.numel(), (), generator=g)] = True
    return place


def _special(values: torch.Tensor, style: Style, g: torch.Generator) -> torch.Tensor:
    if style in (Style.BLANK, Style.BLANK_ROW):
        return torch.copysign(torch.zeros_like(values), values)
    if style is Style.POSITIVE:
        return values.abs() + 0.5
    if style is Style.EQUAL:
        return values.reshape(-1)[0].expand(values.shape)
    if style is Style.SATURATED:
        return _SATURATED[torch.randint(0, len(_SATURATED), values.shape, generator=g)]
    magnitudes = _MAGNITUDES[style]
    return values * magnitudes[int(torch.randint(0, len(magnitudes), (), generator=g))]


def _inside(special: torch.Tensor, style: Style, region: tuple[float | None, float | None]) -> torch.Tensor:
    low, high = region
    if low is not None and high is not None:
        return _in_interval(special, style, low, high)
    if low is not None:
        return low + special.abs().clamp(min=_least(style, low))
    if high is not None:
        return high - special.abs().clamp(min=_least(style, high))
    return special


def _least(style: Style, bound: float) -> float:
    """Smallest distance from a bound that the numbers beside it resolve."""
    if bound == 0:
        return _MAGNITUDES[Style.MINUTE][0] if style in (Style.BLANK, Style.BLANK_ROW) else 0.0
    return abs(bound) * _BESIDE


def _in_interval(special: torch.Tensor, style: Style, low: float, high: float) -> torch.Tensor:
    if style is Style.EQUAL or (style in (Style.BLANK, Style.BLANK_ROW) and low < 0 < high):
        return special
    end = _END * (high - low)
    if style in (Style.BLANK, Style.BLANK_ROW):
        return torch.full_like(special, (low + high) / 2)
    if style is Style.HUGE:
        return torch.full_like(special, high - end)
    if style is Style.MINUTE:
        return torch.full_like(special, low + end)
    return torch.where(special > 0, high - end, low + end)
