"""Masks, and places that are overwritten; masks and indices are parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias

import torch

from gradharness.programs.op import Call, Parameters, Shape
from gradharness.programs.ops.choosing import distinct, full_dims, grid, mask, one_of
from gradharness.programs.ops.indexing import by_places, choose_added, choose_places, tensor, zeros

_MASK = "linear: the cotangent where the mask lets through, 0 elsewhere"
_OVERWRITE = "what is overwritten has no gradient; what is written takes the cotangent of its place"

_Index: TypeAlias = list[Any]
_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]

# ---------------------------------------------------------------------------------------------------------------- masks


def _masked_fill_forward(x: torch.Tensor, mask: Any, value: float) -> torch.Tensor:
    return x.masked_fill(tensor(mask, x), value)


def _masked_fill(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.masked_fill(tensor(call.parameters["mask"], g), 0)


def _choose_mask(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """A mask of the operand's shape, or of its last axes only."""
    shape = shapes[0]
    if not prod(shape):
        return None
    kept = choice % (len(shape) + 1)
    return {"mask": mask(choice // (len(shape) + 1), shape[kept:])}


def _choose_fill(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    chosen = _choose_mask(shapes, choice // 2)
    return None if chosen is None else {**chosen, "value": (0, -1.5)[choice % 2]}


def _masked_select_forward(x: torch.Tensor, mask: Any) -> torch.Tensor:
    return torch.masked_select(x, tensor(mask, x))


def _masked_select(call: Call, g: torch.Tensor) -> torch.Tensor:
    places = tensor(call.parameters["mask"], g).expand(call.x.shape).flatten().nonzero().squeeze(-1)
    return zeros(call.x, g).flatten().index_add(0, places, g).reshape(call.x.shape)


def _masked_product_forward(x: torch.Tensor, mask: Any) -> torch.Tensor:
    return x * tensor(mask, x)


def _masked_product(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * tensor(call.parameters["mask"], g)


# ---------------------------------------------------------------------------------------------------------- overwriting


def _index_copy_forward(x: torch.Tensor, source: torch.Tensor, dim: int, index: _Index) -> torch.Tensor:
    return torch.index_copy(x, dim, tensor(index, x), source)


def _index_copy(call: Call, g: torch.Tensor) -> _Pair:
    dim, place = call.parameters["dim"], tensor(call.parameters["index"], g)
    return g.index_fill(dim, place, 0), g.index_select(dim, place)


def _choose_copied(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """As for index_add, but no place twice: which one wins is not defined."""
    chosen = choose_added(shapes, choice)
    if chosen is None or shapes[1][chosen["dim"]] > shapes[0][chosen["dim"]]:
        return None
    dim = chosen["dim"]
    return {"dim": dim, "index": distinct(choice, shapes[1][dim], shapes[0][dim])}


def _index_fill_forward(x: torch.Tensor, dim: int, index: _Index, value: float) -> torch.Tensor:
    return torch.index_fill(x, dim, tensor(index, x), value)


def _index_fill(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.index_fill(call.parameters["dim"], tensor(call.parameters["index"], g), 0)


def _choose_filled(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    chosen = choose_places(shapes, choice)
    return None if chosen is None else {**chosen, "index": chosen["index"][:2], "value": (0, 1.5)[choice % 2]}


def _select_scatter(call: Call, g: torch.Tensor) -> _Pair:
    dim, index = call.parameters["dim"], call.parameters["index"]
    kept = g.index_fill(dim, torch.tensor([index % g.shape[dim]], device=g.device), 0)
    return kept, g.select(dim, index)


def _select_scatter_forward(x: torch.Tensor, source: torch.Tensor, dim: int, index: int) -> torch.Tensor:
    # torch 2.13 copies overlapping memory (of unfold) as it is, and writes one element into several places of it.
    return torch.select_scatter(x.contiguous(), source, dim, index)


def _choose_select_scatter(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    x, source = shapes
    fitting = [d for d in full_dims(x) if (*x[: d % len(x)], *x[d % len(x) + 1 :]) == tuple(source)]
    return one_of(choice, [{"dim": d, "index": i} for d in fitting for i in (0, -1, x[d] // 2)])


def _scatter_forward(x: torch.Tensor, source: torch.Tensor, dim: int, index: _Index) -> torch.Tensor:
    return torch.scatter(x, dim, tensor(index, x), source)


def _scatter(call: Call, g: torch.Tensor) -> _Pair:
    dim, index = call.parameters["dim"], tensor(call.parameters["index"], g)
    return g.scatter(dim, index, 0), g.gather(dim, index)


def _choose_scatter(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Along dim distinct places, other ones in every row; the source is nowhere larger than x."""
    x, source = shapes
    fits = len(x) == len(source) and prod(source) > 0 and all(n <= m for n, m in zip(source, x, strict=True))
    chosen = grid(choice, dim=full_dims(x)) if fits else None
    if chosen is None:
        return None
    dim = chosen["dim"] % len(x)
    rows = [distinct(choice + 2 * row, source[dim], x[dim]) for row in range(prod(source) // source[dim])]
    table = torch.tensor(rows).reshape(*source[:dim], *source[dim + 1 :], source[dim]).movedim(-1, dim)
    return {"dim": chosen["dim"], "index": table.tolist()}


# ---------------------------------------------------------------------------------------------------------- the records

_masks = partial(by_places, formula=_MASK)
_overwrites = partial(by_places, formula=_OVERWRITE)

OPS = (
    _masks(
        "masked_fill", _masked_fill_forward, _masked_fill, "{0}.masked_fill([mask], {value})", parameters=_choose_fill
    ),
    _masks(
        "masked_select",
        _masked_select_forward,
        _masked_select,
        "torch.masked_select({0}, [mask])",
        parameters=_choose_mask,
    ),
    _masks("masked_product", _masked_product_forward, _masked_product, "{0} * [mask]", parameters=_choose_mask),
    _overwrites(
        "index_copy",
        _index_copy_forward,
        _index_copy,
        "torch.index_copy({0}, {dim}, [index], {1})",
        parameters=_choose_copied,
    ),
    _overwrites(
        "index_fill",
        _index_fill_forward,
        _index_fill,
        "torch.index_fill({0}, {dim}, [index], {value})",
        parameters=_choose_filled,
    ),
    _overwrites(
        "scatter", _scatter_forward, _scatter, "torch.scatter({0}, {dim}, [index], {1})", parameters=_choose_scatter
    ),
    _overwrites(
        "select_scatter",
        _select_scatter_forward,
        _select_scatter,
        "torch.select_scatter({0}.contiguous(), {1}, {dim}, {index})",
        parameters=_choose_select_scatter,
        complex=False,
    ),
)
