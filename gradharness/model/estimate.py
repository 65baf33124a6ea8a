"""What an oracle says, never without how wrong it may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientEstimate:
    """An oracle's gradients, element by element.

    Attributes:
        oracle: Its name.
        gradients: One per leaf, in the oracle's dtype.
        bounds: Error bound per element or per tensor, in units of the gradient.
    """

    oracle: str
    gradients: tuple[torch.Tensor, ...]
    bounds: tuple[torch.Tensor | float, ...]


class Smoothness(Enum):
    """What a line through a point shows of the function there."""

    SMOOTH = "smooth"
    KINK = "kink, jump or infinite slope"
    UNRESOLVED = "differences at all steps disagree"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlopeEstimate:
    """An oracle's derivative along one tangent, seen through the cotangents: the number wᵀJv.

    Attributes:
        oracle: Its name.
        value: wᵀJv, in units of ⟨w, y⟩ per unit of the tangent's length parameter.
        bound: Error bound of ``value``.
        smoothness: Whether ``value`` means anything.
        masked: Per differentiable output, True where an element is not smooth and was left out (weight zero);
            None if nothing was left out.
        calls: Calls of the function that were spent.
    """

    oracle: str
    value: float
    bound: float
    smoothness: Smoothness = Smoothness.SMOOTH
    masked: tuple[torch.Tensor, ...] | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlopeInterval:
    """Values between which wᵀJv may lie where the function has kinks along v; one value where it is smooth.

    Attributes:
        lower: Smallest value that some choice of subgradients gives.
        upper: Largest such value.
        bound: Error bound of both ends.
    """

    lower: float
    upper: float
    bound: float
