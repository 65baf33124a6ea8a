"""Masks, and places that are overwritten; masks and indices are parameters."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import distinct, full_dims, grid, mask, one_of
from gradharness.programs.ops.indexing import TENSOR, choose_added, choose_places, tensor, zeros

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
    chosen = tensor(call.parameters["mask"], g).expand(call.x.shape)
    grad = zeros(call.x, g)
    grad[chosen] = g
    return grad


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

_BOOLEAN = "torch.tensor({mask}, device={0}.device)"

_MASKS = (
    Op(
        name="masked_fill",
        forward=_masked_fill_forward,
        vjp=_masked_fill,
        code="{0}.masked_fill(" + _BOOLEAN + ", {value})",
        formula=_MASK,
        parameters=_choose_fill,
        complex=True,
    ),
    Op(
        name="masked_select",
        forward=_masked_select_forward,
        vjp=_masked_select,
        code="torch.masked_select({0}, " + _BOOLEAN + ")",
        formula=_MASK,
        parameters=_choose_mask,
        complex=True,
    ),
    Op(
        name="masked_product",
        forward=_masked_product_forward,
        vjp=_masked_product,
        code="{0} * " + _BOOLEAN,
        formula=_MASK,
        parameters=_choose_mask,
        complex=True,
    ),
)

_WRITING = (
    Op(
        name="index_copy",
        forward=_index_copy_forward,
        vjp=_index_copy,
        code="torch.index_copy({0}, {dim}, " + TENSOR + ", {1})",
        formula=_OVERWRITE,
        arity=2,
        parameters=_choose_copied,
        same_shape=False,
        complex=True,
    ),
    Op(
        name="index_fill",
        forward=_index_fill_forward,
        vjp=_index_fill,
        code="torch.index_fill({0}, {dim}, " + TENSOR + ", {value})",
        formula=_OVERWRITE,
        parameters=_choose_filled,
        complex=True,
    ),
    Op(
        name="scatter",
        forward=_scatter_forward,
        vjp=_scatter,
        code="torch.scatter({0}, {dim}, " + TENSOR + ", {1})",
        formula=_OVERWRITE,
        arity=2,
        parameters=_choose_scatter,
        same_shape=False,
        complex=True,
    ),
    Op(
        name="select_scatter",
        forward=torch.select_scatter,
        vjp=_select_scatter,
        code="torch.select_scatter({0}, {1}, {dim}, {index})",
        formula=_OVERWRITE,
        arity=2,
        parameters=_choose_select_scatter,
        same_shape=False,
    ),
)

OPS = (*_MASKS, *_WRITING)
