"""How the parameters of an op are decoded from one integer, the choice; 0 is the simplest."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from gradharness.programs.op import Parameters, Shape


def grid(choice: int, **options: Sequence[Any]) -> dict[str, Any] | None:
    """One value of each option, by mixed radix: as the choice grows, every combination comes, the first option fastest.

    Returns:
        None where an option offers nothing.
    """
    chosen = {}
    for name, values in options.items():
        if not values:
            return None
        choice, position = divmod(choice, len(values))
        chosen[name] = values[position]
    return chosen


def one_of(choice: int, combinations: Sequence[Parameters]) -> Parameters | None:
    """One of the combinations; None where there are none."""
    return combinations[choice % len(combinations)] if combinations else None


def every_dim(rank: int) -> tuple[int, ...]:
    """All names of all dimensions: 0 … rank − 1, then −1 … −rank."""
    return (*range(rank), *range(-1, -rank - 1, -1))


def full_dims(shape: Shape) -> tuple[int, ...]:
    """All names of the dimensions that are not of size 0."""
    return tuple(dim for dim in every_dim(len(shape)) if shape[dim])


def along(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Parameters ``dim`` for the first operand."""
    return grid(choice, dim=every_dim(len(shapes[0])))


def along_full(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Parameters ``dim`` for the first operand; None where it has no elements."""
    return grid(choice, dim=every_dim(len(shapes[0]))) if prod(shapes[0]) else None


def along_keeping(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Parameters ``dim`` and ``keepdim`` for the first operand; None where it has no elements."""
    if not prod(shapes[0]):
        return None
    return grid(choice, dim=every_dim(len(shapes[0])), keepdim=(False, True))


def indices(choice: int, count: int, size: int) -> list[int]:
    """``count`` places among ``size``: 0, 1, 2 … for choice 0, else in disorder and with duplicates."""
    return [(i + choice * (i * i + 1)) % size for i in range(count)]


def distinct(choice: int, count: int, size: int) -> list[int]:
    """``count`` <= ``size`` places among ``size``, no two the same: a rotation, backwards for an odd choice."""
    step = -1 if choice % 2 else 1
    return [(choice // 2 + step * i) % size for i in range(count)]


def mask(choice: int, shape: Shape) -> Any:
    """Nested lists of booleans of a shape; at least one is true, only the first for choice 0."""
    flat = [(i * i * choice + i + choice // 2) % 3 == 0 if choice else i == 0 for i in range(prod(shape))]
    flat[choice % len(flat)] |= not any(flat)
    return nest(flat, shape)


def nest(flat: list[Any], shape: Shape) -> Any:
    """A flat list as nested lists of a shape; of rank 0, its one element."""
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def broadcast(*shapes: Shape) -> Shape | None:
    """What the shapes broadcast to; None where they do not. Errors cost more than the answer."""
    rank = max(len(shape) for shape in shapes)
    result = [1] * rank
    for shape in shapes:
        for dim, size in enumerate(shape, start=rank - len(shape)):
            if size != 1 and result[dim] not in (1, size):
                return None
            result[dim] = size if size != 1 else result[dim]
    return tuple(result)
