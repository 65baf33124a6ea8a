"""Parts of a tensor, most of them views, and their like: slices, diagonals, windows, paddings.

All are linear, and their entries 0 and 1: the VJP is the transpose, which puts each element of the cotangent back into
zeros and adds where parts overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import every_dim, full_dims, grid, one_of
from gradharness.programs.ops.dims import HIGHEST, LARGEST

_TRANSPOSE = "transpose of a linear map"


def _zeros(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Zeros of the operand's shape."""
    return g.new_zeros(call.x.shape)


# -------------------------------------------------------------------------------------------------------------- slices


def _narrow(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim, start, length = (call.parameters[name] for name in ("dim", "start", "length"))
    return torch.slice_scatter(_zeros(call, g), g, dim, start, start + length)


def _stretches(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    menu = [
        {"dim": dim, "start": start, "length": length}
        for dim in every_dim(len(shape))
        for start, length in dict.fromkeys(((0, shape[dim]), (0, 1), (1, shape[dim] - 1)))
        if 0 < length <= shape[dim] or length == shape[dim]
    ]
    return one_of(choice, menu)


def _slice_forward(x: torch.Tensor, *, dim: int, start: int, stop: int, step: int) -> torch.Tensor:
    part: torch.Tensor = torch.ops.aten.slice.Tensor(x, dim, start, stop, step)
    return part


def _slice(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim, *limits = (call.parameters[name] for name in ("dim", "start", "stop", "step"))
    # Under vmap slice_scatter takes limits as they are: none past the end, nor counted from it (torch 2.13).
    start, stop, step = slice(*limits).indices(call.x.shape[dim])
    return torch.slice_scatter(_zeros(call, g), g, dim, start, stop, step)


def slice_menu(shape: Shape) -> list[dict[str, int]]:
    """Parameters ``dim``, ``start``, ``stop`` and ``step`` of slices with at least one element.

    A stop past the end, and starts and stops counted from the end, are among them.
    """
    return [
        {"dim": dim, "start": start, "stop": stop, "step": step}
        for dim in full_dims(shape)
        for start, stop, step in ((0, shape[dim], 1), (0, shape[dim], 2), (1, shape[dim], 1), (-1, 99, 1), (-3, -1, 2))
        if range(*slice(start, stop, step).indices(shape[dim]))
    ]


def _slices(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return one_of(choice, slice_menu(shapes[0]))


def _select(call: Call, g: torch.Tensor) -> torch.Tensor:
    return torch.select_scatter(_zeros(call, g), g, call.parameters["dim"], call.parameters["index"])


def place_menu(shape: Shape) -> list[dict[str, int]]:
    """Parameters ``dim`` and ``index`` of single places: the first, the last and the middle."""
    return [
        {"dim": dim, "index": index}
        for dim in full_dims(shape)
        for index in dict.fromkeys((0, -1, shape[dim] // 2, -shape[dim]))
    ]


def _places(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return one_of(choice, place_menu(shapes[0]))


# ----------------------------------------------------------------------------------------------------------- diagonals


def _diagonal(call: Call, g: torch.Tensor) -> torch.Tensor:
    return torch.diagonal_scatter(_zeros(call, g), g, **call.parameters)


def _diagonals(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    rank = len(shape)
    menu = [
        {"offset": offset, "dim1": first, "dim2": second}
        for first, second in ((0, 1), (-2, -1), (-1, 0), (0, -1), (1, -rank))
        for offset in (0, 1, -1)
        if rank >= 2 and first % rank != second % rank
    ]
    return one_of(choice, menu)


def _diag_embed(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.diagonal(**call.parameters)


def _embedded(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    if not 1 <= len(shape) < HIGHEST or prod(shape) * (shape[-1] + 2) > LARGEST:
        return None
    menu = ((0, -2, -1), (1, -2, -1), (-2, -2, -1), (0, 0, -1), (-1, 0, 1), (1, -1, 0))
    return one_of(choice, [{"offset": offset, "dim1": first, "dim2": second} for offset, first, second in menu])


def _tril(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.tril(call.parameters["diagonal"])


def _triu(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.triu(call.parameters["diagonal"])


def _triangles(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, diagonal=(0, 1, -1)) if len(shapes[0]) >= 2 else None


# ------------------------------------------------------------------------------------------------- windows and padding


def _unfold_forward(x: torch.Tensor, *, dimension: int, size: int, step: int) -> torch.Tensor:
    return x.unfold(dimension, size, step)


def _unfold(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Window k covers the places from k * step on: all windows' element j lie a step apart."""
    dim, size, step = (call.parameters[name] for name in ("dimension", "size", "step"))
    if call.x.dim() == 0:
        return g.reshape(())
    total, count = _zeros(call, g), g.shape[dim if dim >= 0 else dim - 1]
    for j in range(size):
        part = torch.slice_scatter(_zeros(call, g), g.select(-1, j), dim, j, j + count * step, step)
        total = total + part
    return total


def _windows(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    if len(shape) >= HIGHEST or 2 * prod(shape) > LARGEST:
        return None
    menu = [
        {"dimension": dim, "size": size, "step": step}
        for dim in every_dim(len(shape))
        for size, step in ((2, 1), (1, 1), (2, 2), (3, 1), (1, 2), (3, 2), (2, 3))
        if size <= shape[dim]
    ]
    return one_of(choice, menu if shape else [{"dimension": 0, "size": 1, "step": 1}])


def _pad_forward(x: torch.Tensor, *, pad: Sequence[int], value: float) -> torch.Tensor:
    return F.pad(x, list(pad), value=value)


def _pad(call: Call, g: torch.Tensor) -> torch.Tensor:
    # a padding of -k takes off what one of k put on, and the reverse
    return F.pad(g, [-n for n in call.parameters["pad"]])


def _paddings(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """On one side, on both, of two dimensions, and negative ones, which cut off."""
    (shape,) = shapes
    if not shape or 9 * prod(shape) > LARGEST:
        return None
    one = [(1, 0), (0, 2), (1, 1), *([(-1, 0), (2, -1)] if shape[-1] > 1 else [])]
    two = [(1, 0, 0, 1), (0, 0, 2, 1), *([(0, 1, 0, -1)] if shape[-2:][0] > 1 else [])] if len(shape) > 1 else []
    return grid(choice, pad=[*one, *two], value=(0.0, -1.5))


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], names: str, **more: Any) -> Op:
    arguments = "".join(f", {name}={{{name}}}" for name in names.split())
    forward = more.pop("forward", None) or getattr(torch, name)
    code = more.pop("code", f"torch.{name}({{0}}{arguments})")
    return Op(name=name, forward=forward, vjp=vjp, code=code, formula=_TRANSPOSE, complex=True, **more)


OPS = (
    _op("narrow", _narrow, "dim start length", parameters=_stretches),
    _op(
        "slice",
        _slice,
        "",
        parameters=_slices,
        forward=_slice_forward,
        code="torch.ops.aten.slice({0}, {dim}, {start}, {stop}, {step})",
    ),
    _op("select", _select, "dim index", parameters=_places),
    _op("diagonal", _diagonal, "offset dim1 dim2", parameters=_diagonals),
    _op("diag_embed", _diag_embed, "offset dim1 dim2", parameters=_embedded),
    _op("tril", _tril, "diagonal", parameters=_triangles),
    _op("triu", _triu, "diagonal", parameters=_triangles),
    _op(
        "unfold",
        _unfold,
        "",
        parameters=_windows,
        forward=_unfold_forward,
        code="{0}.unfold({dimension}, {size}, {step})",
    ),
    _op(
        "pad",
        _pad,
        "",
        parameters=_paddings,
        forward=_pad_forward,
        code="torch.nn.functional.pad({0}, {pad}, value={value})",
    ),
)
