"""Reading from and writing to places given by indices, which are parameters.

What reads a place twice adds up in the gradient; what adds to a place twice reads the cotangent there twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import full_dims, grid, indices, nest

_READ = "adjoint of a selection: scatter with addition"
_WRITE = "adjoint of a scatter with addition: a selection"
_MOST = 5  # indices drawn along a dimension

_Index: TypeAlias = list[Any]
_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]


def tensor(index: Any, x: torch.Tensor) -> torch.Tensor:
    """Indices or a mask, beside ``x``."""
    return torch.tensor(index, device=x.device)


def zeros(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Of the shape of ``x``, in the dtype of ``g``."""
    return torch.zeros(x.shape, dtype=g.dtype, device=g.device)


# ---------------------------------------------------------------------------------------------------- along a dimension


def _index_select_forward(x: torch.Tensor, dim: int, index: _Index) -> torch.Tensor:
    return torch.index_select(x, dim, tensor(index, x))


def _index_select(call: Call, g: torch.Tensor) -> torch.Tensor:
    return zeros(call.x, g).index_add(call.parameters["dim"], tensor(call.parameters["index"], g), g)


def choose_places(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Parameters ``dim`` and ``index``, up to five places along it."""
    dims = full_dims(shapes[0])
    if not dims:
        return None
    dim, seed = dims[choice % len(dims)], choice // len(dims)
    size = shapes[0][dim]
    return {"dim": dim, "index": indices(seed, 1 + (size - 1 + seed) % _MOST, size)}


def _index_add_forward(x: torch.Tensor, source: torch.Tensor, dim: int, index: _Index, alpha: float) -> torch.Tensor:
    return torch.index_add(x, dim, tensor(index, x), source, alpha=alpha)


def _index_add(call: Call, g: torch.Tensor) -> _Pair:
    place = tensor(call.parameters["index"], g)
    return g, call.parameters["alpha"] * g.index_select(call.parameters["dim"], place)


def choose_added(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Parameters ``dim``, ``index`` and ``alpha``; the source may have another size along dim only."""
    x, source = shapes
    if len(x) != len(source) or not prod(source):
        return None
    fitting = [
        d
        for d in full_dims(x)
        if all(a == b for i, (a, b) in enumerate(zip(x, source, strict=True)) if i != d % len(x))
    ]
    chosen = grid(choice, dim=fitting, alpha=(1, -2, 0.5))
    if chosen is None:
        return None
    dim = chosen["dim"]
    return {**chosen, "index": indices(choice // len(fitting), source[dim], x[dim])}


# ------------------------------------------------------------------------------------------------- an index per element


def _gather_forward(x: torch.Tensor, dim: int, index: _Index) -> torch.Tensor:
    return torch.gather(x, dim, tensor(index, x))


def _take_along_forward(x: torch.Tensor, dim: int, index: _Index) -> torch.Tensor:
    return torch.take_along_dim(x, tensor(index, x), dim=dim)


def _gather(call: Call, g: torch.Tensor) -> torch.Tensor:
    index = tensor(call.parameters["index"], g)
    return zeros(call.x, g).scatter_add(call.parameters["dim"], index, g)


def _take_along(call: Call, g: torch.Tensor) -> torch.Tensor:
    """The index is of size 1 in the other dimensions, so it broadcasts."""
    dim = call.parameters["dim"]
    index = tensor(call.parameters["index"], g)
    return zeros(call.x, g).scatter_add(dim, index.expand(g.shape), g)


def _choose_gather(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    dims = full_dims(shape)
    if not dims or not prod(shape):
        return None
    dim, seed = dims[choice % len(dims)], choice // len(dims)
    wanted = [max(1, n - seed % 2) for n in shape]  # an index may be smaller than the operand
    wanted[dim] = 1 + (shape[dim] - 1 + seed) % _MOST
    return {"dim": dim, "index": nest(indices(seed, prod(wanted), shape[dim]), tuple(wanted))}


def _choose_along(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    chosen = choose_places(shapes, choice)
    if chosen is None or not prod(shapes[0]):
        return None
    places = tuple(len(chosen["index"]) if d == chosen["dim"] % len(shapes[0]) else 1 for d in range(len(shapes[0])))
    return {"dim": chosen["dim"], "index": nest(chosen["index"], places)}


def _scatter_add_forward(x: torch.Tensor, source: torch.Tensor, dim: int, index: _Index) -> torch.Tensor:
    return torch.scatter_add(x, dim, tensor(index, x), source)


def _scatter_add(call: Call, g: torch.Tensor) -> _Pair:
    return g, g.gather(call.parameters["dim"], tensor(call.parameters["index"], g))


def _choose_scatter_add(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """The index has the shape of the source, which is not larger than x but along dim."""
    x, source = shapes
    if len(x) != len(source) or not prod(x) * prod(source):
        return None
    rank = len(x)
    fitting = [dim for dim in full_dims(x) if all(source[d] <= x[d] for d in range(rank) if d != dim % rank)]
    if not fitting:
        return None
    dim, seed = fitting[choice % len(fitting)], choice // len(fitting)
    return {"dim": dim, "index": nest(indices(seed, prod(source), x[dim]), source)}


def _take_forward(x: torch.Tensor, index: _Index) -> torch.Tensor:
    return torch.take(x, tensor(index, x))


def _take(call: Call, g: torch.Tensor) -> torch.Tensor:
    index = tensor(call.parameters["index"], g)
    return zeros(call.x, g).flatten().index_add(0, index.flatten(), g.flatten()).reshape(call.x.shape)


def _choose_taken(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    size = prod(shapes[0])
    if not size:
        return None
    wanted: Shape = ((3,), (2, 2), (1,), (2, 3))[choice % 4]
    return {"index": nest(indices(choice // 4, prod(wanted), size), wanted)}


# ----------------------------------------------------------------------------------------------------------- first axes


def _index_put_forward(x: torch.Tensor, values: torch.Tensor, index: _Index) -> torch.Tensor:
    return torch.index_put(x, (tensor(index, x),), values, accumulate=True)


def _index_put(call: Call, g: torch.Tensor) -> _Pair:
    return g, g.index_select(0, tensor(call.parameters["index"], g))


def _choose_put(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    x, values = shapes
    if not x or not values or x[1:] != values[1:] or not prod(x) * prod(values):
        return None
    return {"index": indices(choice, values[0], x[0])}


def _embedding_forward(weight: torch.Tensor, index: _Index) -> torch.Tensor:
    return torch.nn.functional.embedding(tensor(index, weight), weight)


def _embedding(call: Call, g: torch.Tensor) -> torch.Tensor:
    index = tensor(call.parameters["index"], g).flatten()
    return zeros(call.x, g).index_add(0, index, g.reshape(-1, call.x.shape[1]))


def _choose_embedding(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return _choose_taken([shapes[0][:1]], choice) if len(shapes[0]) == 2 and prod(shapes[0]) > 0 else None


# ---------------------------------------------------------------------------------------------------------- the records


def by_places(name: str, forward: Callable[..., Any], vjp: Callable[..., Any], code: str, **more: Any) -> Op:
    """An op with an index or a mask among its parameters, or of two operands, of which one is written to the other.

    Args:
        name: As in ``Op``.
        forward: As in ``Op``.
        vjp: As in ``Op``.
        code: As in ``Op``; of ``[index]``, a plain list, a tensor is made where the first operand is.
        **more: Further attributes; unless they say otherwise, complex operands are taken.
    """
    code = re.sub(r"\[(\w+)\]", r"torch.tensor({\1}, device={0}.device)", code)
    usual: dict[str, Any] = {"complex": True, **({"arity": 2, "same_shape": False} if "{1}" in code else {})}
    return Op(name=name, forward=forward, vjp=vjp, code=code, **{**usual, **more})


_reads = partial(by_places, formula=_READ)
_adds = partial(by_places, formula=_WRITE)

OPS = (
    _reads(
        "index_select",
        _index_select_forward,
        _index_select,
        "torch.index_select({0}, {dim}, [index])",
        parameters=choose_places,
    ),
    _reads("gather", _gather_forward, _gather, "torch.gather({0}, {dim}, [index])", parameters=_choose_gather),
    _reads(
        "take_along_dim",
        _take_along_forward,
        _take_along,
        "torch.take_along_dim({0}, [index], dim={dim})",
        parameters=_choose_along,
    ),
    _reads("take", _take_forward, _take, "torch.take({0}, [index])", parameters=_choose_taken),
    _reads(
        "embedding",
        _embedding_forward,
        _embedding,
        "torch.nn.functional.embedding([index], {0})",
        parameters=_choose_embedding,
        complex=False,
    ),
    _adds(
        "index_add",
        _index_add_forward,
        _index_add,
        "torch.index_add({0}, {dim}, [index], {1}, alpha={alpha})",
        parameters=choose_added,
    ),
    _adds(
        "scatter_add",
        _scatter_add_forward,
        _scatter_add,
        "torch.scatter_add({0}, {dim}, [index], {1})",
        parameters=_choose_scatter_add,
    ),
    _adds(
        "index_put",
        _index_put_forward,
        _index_put,
        "torch.index_put({0}, ([index],), {1}, accumulate=True)",
        parameters=_choose_put,
    ),
)
