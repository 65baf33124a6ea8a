"""Arithmetic on dimensions that the families share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import prod

import torch

from gradharness.programs.op import Shape

LARGEST = 4096  # elements; an op that enlarges its operand declines beyond this
HIGHEST = 6  # rank, likewise


@cache
def dim_sets(rank: int) -> tuple[tuple[int, ...], ...]:
    """Ways to name several dimensions at once: in order and counted from 0, then in reverse and some from the end."""
    several = [names for size in range(2, rank + 1) for names in combinations(range(rank), size)]
    return (*several, *(tuple(dim - rank if dim else dim for dim in reversed(names)) for names in several))


def positive_dims(dim: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """The dimensions that a ``dim`` argument names, counted from 0; None and an empty sequence name all."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(rank))
    names = (dim,) if isinstance(dim, int) else dim
    return tuple(name % rank for name in names) if rank else ()


def size_along(shape: Shape, dim: int | Sequence[int] | None) -> int:
    """The number of elements that a reduction over ``dim`` makes one of."""
    return prod(shape[i] for i in positive_dims(dim, len(shape)))


def spread(reduced: torch.Tensor, shape: Sequence[int], dim: int | Sequence[int] | None) -> torch.Tensor:
    """What a reduction left, with the reduced dimensions put back and expanded: the adjoint of a sum over ``dim``.

    Args:
        reduced: With or without the reduced dimensions as dimensions of size 1.
        shape: Of what was reduced.
        dim: As the reduction got it.

    Returns:
        Of ``shape``, with stride 0 along the dimensions that were reduced.
    """
    gone = positive_dims(dim, len(shape))
    return reduced.reshape([1 if i in gone else n for i, n in enumerate(shape)]).expand(tuple(shape))


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether ``expand`` takes the one shape to the other."""
    extra = len(target) - len(shape)
    return extra >= 0 and all(n in (1, target[i + extra]) for i, n in enumerate(shape))
