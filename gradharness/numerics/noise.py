"""How much of a function's value is round-off: measured at points an ulp or two beside x."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_EPS = 2.0**-52  # of float64


def beside(x: torch.Tensor, pattern: int, *, eps: float = _EPS) -> torch.Tensor:
    """A point one or two units in the last place beside x, in every element; a fixed one for each pattern.

    Exact zeros move by an ulp or two of the tensor's largest element: they have no rounding of their own, but a
    function that adds something to them has.

    Args:
        x: Real floating tensor, any shape.
        pattern: Number of the pattern; each gives every element other steps.
        eps: Spacing of the function's numbers at one.
    """
    if not x.numel():
        return x
    number = torch.arange(1, x.numel() + 1, device=x.device) + 7919 * pattern
    mixed = (number * 2654435769) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) & 0xFFFFFFFF
    steps = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=x.dtype, device=x.device)[mixed >> 30].reshape(x.shape)
    size = x.abs()
    return x + eps * steps * torch.where(size > 0, size, size.max())


def noise_floor(y0: torch.Tensor, perturbed: Sequence[torch.Tensor], *, eps: float = _EPS) -> torch.Tensor:
    """Noise per output, from calls at points one or two units in the last place beside x.

    The largest change seen, and never less than half a unit in the last place of y, times the factor by which the
    outputs' median exceeds that (a function that loses digits loses them in most of its outputs). Points beside x
    must differ from x in every element: with one in three left alone, 1 of 27 outputs shows no noise at all.

    Args:
        y0: Outputs at x, shape (M,).
        perturbed: Outputs at the points beside x, shape (M,) each.
        eps: Spacing of the outputs' dtype at one.

    Returns:
        Shape (M,), in units of y; infinite where a value is not finite.
    """
    ulp = eps / 2 * y0.abs()
    spread = torch.zeros_like(ulp)
    for y in perturbed:
        spread = torch.maximum(spread, (y - y0).abs())  # NaN wins, and ends as infinite
    noise = torch.maximum(spread, median_ratio(spread, ulp) * ulp)
    return torch.where(noise.isfinite(), noise, math.inf)


def median_ratio(noise: torch.Tensor, ulp: torch.Tensor) -> float:
    """Median of noise / ulp over outputs where both are finite and ulp is not zero; at least one."""
    counted = (ulp > 0) & ulp.isfinite() & noise.isfinite()
    ratios = noise[counted] / ulp[counted]
    return max(1.0, float(ratios.median())) if ratios.numel() else 1.0
