"""The first elements of a tensor as a tensor of another shape: so any operand with enough elements is a weight."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F


def front(x: torch.Tensor, *shape: int) -> torch.Tensor:
    """The first elements of ``x``, in the order of its axes, as a tensor of ``shape``."""
    return x.flatten()[: prod(shape)].reshape(shape)


def put_front(g: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The adjoint of ``front``: a tensor of ``shape``, with zeros after the elements of ``g``."""
    return F.pad(g.flatten(), (0, prod(shape) - g.numel())).reshape(tuple(shape))
