"""Changes of shape and order: views where torch makes one, copies elsewhere.

All are linear, and their entries 0 and 1: the VJP is the transpose, which puts each element of the cotangent back to
where it came from and adds where several came from one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from math import prod
from typing import Any

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import every_dim, full_dims, grid, one_of
from gradharness.programs.ops.dims import HIGHEST, LARGEST, dim_sets

_TRANSPOSE = "transpose of a linear map"

# --------------------------------------------------------------------------------------------------------------- shape


def _back(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.reshape(call.x.shape)


def _splits(shape: Shape) -> list[Shape]:
    """The shape with one dimension made two."""
    factors = [(i, next((f for f in (2, 3, 5) if n and n % f == 0), 1)) for i, n in enumerate(shape)]
    return [(*shape[:i], f, -1, *shape[i + 1 :]) for i, f in factors if prod(shape) and f < shape[i]]


def _new_shapes(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    merged = [(*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :]) for i in range(len(shape) - 1)]
    menu = [(-1,), shape[::-1], *merged, *_splits(shape), (1, *shape), (*shape, 1)]
    return grid(choice, shape=[new for new in menu if len(new) <= HIGHEST])


def _flatten_ends(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    rank = len(shapes[0])
    menu = [{"start_dim": i, "end_dim": k} for i in every_dim(rank) for k in every_dim(rank) if i % rank <= k % rank]
    return one_of(choice, menu or [{"start_dim": 0, "end_dim": -1}])


def _unflattened(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    if len(shape) >= HIGHEST:
        return None
    menu = [
        {"dim": dim, "sizes": sizes}
        for dim in full_dims(shape)
        for sizes in ((shape[dim], 1), (1, -1), *((f, -1) for f in (2, 3) if shape[dim] % f == 0))
    ]
    return one_of(choice, menu)


def _new_dims(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    rank = len(shapes[0])
    return grid(choice, dim=every_dim(rank + 1)) if rank < HIGHEST else None


def _squeezable(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """One dimension, whether of size 1 or not, or several."""
    rank = len(shapes[0])
    return grid(choice, dim=(*every_dim(rank), *dim_sets(rank)) or (0, -1))


# --------------------------------------------------------------------------------------------------------------- order


def _permute(call: Call, g: torch.Tensor) -> torch.Tensor:
    dims = [dim % g.dim() for dim in call.parameters["dims"]]
    return g.permute(sorted(range(len(dims)), key=dims.__getitem__))


def _orders(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    rank = len(shapes[0])
    if rank > HIGHEST:
        return None
    orders = list(permutations(range(rank)))
    turned = orders[choice // 2 % len(orders)]
    return {"dims": tuple(dim - rank for dim in turned) if choice % 2 else turned}


def _transpose(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.transpose(call.parameters["dim0"], call.parameters["dim1"])


def _two_dims(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    dims = every_dim(len(shapes[0]))
    return grid(choice, dim0=dims, dim1=dims[::-1])


def _movedim(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.movedim(call.parameters["destination"], call.parameters["source"])


def _moves(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    rank = len(shapes[0])
    dims = every_dim(rank)
    several = [((0, -1), (-1, 0)), ((1, 0), (0, -1))] if rank > 1 else []
    moves = [*((source, destination) for source in dims for destination in dims[::-1]), *several]
    return one_of(choice, [{"source": source, "destination": destination} for source, destination in moves])


def _adjoint_forward(x: torch.Tensor) -> torch.Tensor:
    return x.mH


def _adjoint(_call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.mH


def _matrices(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return {} if len(shapes[0]) >= 2 else None


def _flip(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.flip(call.parameters["dims"])


def _flipped(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    rank = len(shapes[0])
    return grid(choice, dims=[*((dim,) for dim in every_dim(rank)), *dim_sets(rank), ()])


def _roll(call: Call, g: torch.Tensor) -> torch.Tensor:
    shifts, dims = call.parameters["shifts"], call.parameters["dims"]
    back = -shifts if isinstance(shifts, int) else [-shift for shift in shifts]
    return g.roll(back, dims)


def _rolled(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    rank = len(shapes[0])
    dims = every_dim(rank)
    single = [{"shifts": shift, "dims": dim} for dim in dims for shift in (1, -1, 3)]
    several = [{"shifts": tuple(range(1, len(names) + 1)), "dims": names} for names in dim_sets(rank)]
    whole = [{"shifts": shift, "dims": ()} for shift in (1, -2)]
    return one_of(choice, [*single, *several, *whole])


# --------------------------------------------------------------------------------------------------------- repetition


def _expand_forward(x: torch.Tensor, *, sizes: Sequence[int]) -> torch.Tensor:
    return x.expand(*sizes) if sizes else x.expand(())


def _expand(call: Call, g: torch.Tensor) -> torch.Tensor:
    return unbroadcast(g, call.x.shape)


def _wider(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    stretched = [(*shape[:i], size, *shape[i + 1 :]) for i, n in enumerate(shape) if n == 1 for size in (2, 3)]
    kept = (-1,) * len(shape)
    menu = [*stretched, (2, *shape), (3, *kept), (2, 1, *shape), *((2, *wide) for wide in stretched), kept or (1,)]
    menu = [sizes for sizes in menu if len(sizes) <= HIGHEST and 6 * prod(shape) <= LARGEST]
    return grid(choice, sizes=menu)


def _repeat(call: Call, g: torch.Tensor) -> torch.Tensor:
    """The repeats and the operand's own sizes become dimensions in turn; the sum is over the former."""
    x, repeats = call.x, call.parameters["dims"]
    shape = (1,) * (len(repeats) - x.dim()) + tuple(x.shape)
    repeats = (1,) * (x.dim() - len(repeats)) + tuple(repeats)
    if not shape:
        return g
    split = g.reshape([size for pair in zip(repeats, shape, strict=True) for size in pair])
    return split.sum(tuple(range(0, 2 * len(shape), 2))).reshape(x.shape)


def _repeats(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    ones = (1,) * len(shape)
    single = [(*ones[:i], 2, *ones[i + 1 :]) for i in range(len(shape))]
    menu = [(2,), *single, (3,), (2, *ones), (2,) * len(shape), (2, 1, *ones), ones, (3, *ones[1:])]
    return grid(choice, dims=[d for d in menu if len(d) <= HIGHEST and prod(d) * prod(shape) <= LARGEST])


def _repeat_interleave(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim = call.parameters["dim"] % call.x.dim()
    return torch.unflatten(g, dim, (call.x.shape[dim], call.parameters["repeats"])).sum(dim + 1)


def _interleaved(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    if 3 * prod(shape) > LARGEST:
        return None
    return grid(choice, repeats=(2, 3, 1), dim=full_dims(shape))


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], names: str, **more: Any) -> Op:
    arguments = "".join(f", {name}={{{name}}}" for name in names.split())
    forward = more.pop("forward", None) or getattr(torch, name)
    code = more.pop("code", f"torch.{name}({{0}}{arguments})")
    return Op(name=name, forward=forward, vjp=vjp, code=code, formula=_TRANSPOSE, complex=True, **more)


OPS = (
    _op("reshape", _back, "shape", parameters=_new_shapes),
    _op("flatten", _back, "start_dim end_dim", parameters=_flatten_ends),
    _op("unflatten", _back, "dim sizes", parameters=_unflattened),
    _op("unsqueeze", _back, "dim", parameters=_new_dims),
    _op("squeeze", _back, "dim", parameters=_squeezable),
    _op("ravel", _back, ""),
    _op("permute", _permute, "dims", parameters=_orders),
    _op("transpose", _transpose, "dim0 dim1", parameters=_two_dims),
    _op("movedim", _movedim, "source destination", parameters=_moves),
    _op("adjoint", _adjoint, "", parameters=_matrices, forward=_adjoint_forward, code="{0}.mH"),
    _op("flip", _flip, "dims", parameters=_flipped),
    _op("roll", _roll, "shifts dims", parameters=_rolled),
    _op("expand", _expand, "", parameters=_wider, forward=_expand_forward, code="{0}.expand({sizes})"),
    _op("tile", _repeat, "dims", parameters=_repeats),
    _op("repeat_interleave", _repeat_interleave, "repeats dim", parameters=_interleaved),
)
