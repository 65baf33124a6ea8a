"""Ways to arrange the same numbers otherwise: a reshape where dimensions have to be exchanged, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

import torch

Arrangement = Callable[[torch.Tensor], torch.Tensor]

_FACTORS = (2, 3, 4, 8)
_MOST_DIMS = 5


def arrangements(dims: int) -> Iterator[tuple[str, Arrangement]]:
    """Each keeps the shape; those that need a factor of a size raise RuntimeError where there is none."""
    if not 1 <= dims <= _MOST_DIMS:
        return
    for i, j in combinations(range(dims), 2):
        words = f"it is reshaped where dimensions {i} and {j} have to be exchanged"
        yield words, partial(exchanged_then_reshaped, i=i, j=j)
        yield words, partial(reshaped_then_exchanged, i=i, j=j)
    for axis in range(dims):
        for factor in _FACTORS:
            for leading in (True, False):
                split = partial(_split, axis=axis, factor=factor, leading=leading)
                words = f"dimension {axis} is taken for blocks of another size than it has, in parts of {factor}"
                yield words, partial(_inner, split=split, i=axis, j=axis + 1)
                for other in range(dims):
                    if other != axis:
                        i, j = (other, axis) if other < axis else (axis, other + 1)
                        part = f"a part of dimension {axis} (split by {factor})"
                        words = f"it is reshaped where dimension {other} and {part} have to be exchanged"
                        yield words, partial(_inner, split=split, i=i, j=j)
                        yield words, partial(_outer, split=split, i=i, j=j)


def exchanged_then_reshaped(t: torch.Tensor, i: int, j: int) -> torch.Tensor:
    """The numbers in the order of the exchanged dimensions, in the old shape."""
    return t.transpose(i, j).reshape(t.shape)


def reshaped_then_exchanged(t: torch.Tensor, i: int, j: int) -> torch.Tensor:
    """The inverse of that."""
    return t.reshape(t.transpose(i, j).shape).transpose(i, j)


def _split(shape: torch.Size, axis: int, factor: int, *, leading: bool) -> tuple[int, ...]:
    if shape[axis] % factor or not shape[axis]:
        raise RuntimeError(f"dimension {axis} has no part of {factor}")
    parts = (factor, shape[axis] // factor) if leading else (shape[axis] // factor, factor)
    return (*shape[:axis], *parts, *shape[axis + 1 :])


def _inner(t: torch.Tensor, split: Callable[[torch.Size], tuple[int, ...]], i: int, j: int) -> torch.Tensor:
    return exchanged_then_reshaped(t.reshape(split(t.shape)), i, j).reshape(t.shape)


def _outer(t: torch.Tensor, split: Callable[[torch.Size], tuple[int, ...]], i: int, j: int) -> torch.Tensor:
    return reshaped_then_exchanged(t.reshape(split(t.shape)), i, j).reshape(t.shape)
