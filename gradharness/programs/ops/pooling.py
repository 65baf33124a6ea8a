"""Pooling and resampling, over the last one or two dimensions of an operand of any rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import one_of
from gradharness.programs.ops.convolution import cropped, padded, positions

_MEAN = "a mean gives every element of its window an equal part"
_MAX = "a maximum gives all to the element that it is"
_SETTINGS = [(2, 2, 0), (2, 1, 0), (1, 1, 0), (2, 2, 1), (3, 1, 1), (3, 2, 0)]  # kernel, stride, padding

_Fit: TypeAlias = Callable[[Sequence[Shape], int], Parameters | None]


def _stack(x: torch.Tensor, rank: int) -> torch.Tensor:
    """All dimensions but the last ``rank`` in one."""
    return x.reshape(-1, *x.shape[x.dim() - rank :])


def _windows(rank: int, extra: Sequence[Parameters] = ({},)) -> _Fit:
    def parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
        shape = shapes[0]
        if len(shape) < rank or not prod(shape):
            return None
        fitting = [
            {"kernel_size": kernel, "stride": stride, "padding": padding, **more}
            for more in extra
            for kernel, stride, padding in _SETTINGS
            if all(n + 2 * padding >= kernel for n in shape[len(shape) - rank :])
        ]
        return one_of(choice, fitting)

    return parameters


# ---------------------------------------------------------------------------------------------------------------- means


def _average_forward(rank: int) -> Callable[..., torch.Tensor]:
    def forward(x: torch.Tensor, **settings: Any) -> torch.Tensor:
        function = F.avg_pool1d if rank == 1 else F.avg_pool2d
        return function(_stack(x, rank), **settings)

    return forward


def _average(rank: int) -> Callable[..., torch.Tensor]:
    def vjp(call: Call, g: torch.Tensor) -> torch.Tensor:
        size, stride, padding = (call.parameters[name] for name in ("kernel_size", "stride", "padding"))
        x = _stack(call.x, rank)
        counted = padded(torch.ones_like(x), padding, rank, value=float(call.parameters["count_include_pad"]))
        windows = list(positions((size,) * rank, g.shape[1:], stride))
        part = g / torch.stack([counted[where] for _, where in windows]).sum(0)
        grad = torch.zeros_like(counted)
        for _, where in windows:
            grad[where] += part
        return cropped(grad, padding, rank).reshape(call.x.shape)

    return vjp


def _adaptive_forward(x: torch.Tensor, output_size: int) -> torch.Tensor:
    return F.adaptive_avg_pool1d(_stack(x, 1), output_size)


def _adaptive(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Window i reaches from floor(i n / m) to ceil((i + 1) n / m)."""
    n, m = call.x.shape[-1], call.parameters["output_size"]
    shares = torch.zeros((m, n), dtype=g.dtype, device=g.device)
    for i in range(m):
        start, end = i * n // m, -(-(i + 1) * n // m)
        shares[i, start:end] = 1 / (end - start)
    return (g @ shares).reshape(call.x.shape)


def _choose_size(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    return {"output_size": (2, 1, 3)[choice % 3]} if shape and prod(shape) > 0 else None


# --------------------------------------------------------------------------------------------------------------- maxima


def _max_forward(rank: int) -> Callable[..., torch.Tensor]:
    def forward(x: torch.Tensor, **settings: int) -> torch.Tensor:
        function: Callable[..., torch.Tensor] = F.max_pool1d if rank == 1 else F.max_pool2d
        return function(_stack(x, rank), **settings)

    return forward


def _max(rank: int) -> Callable[..., torch.Tensor]:
    def vjp(call: Call, g: torch.Tensor) -> torch.Tensor:
        """The first position of the window, in the order of memory, that holds the maximum."""
        size, stride, padding = (call.parameters[name] for name in ("kernel_size", "stride", "padding"))
        seen = padded(_stack(call.x, rank), padding, rank, value=-torch.inf)
        grad = torch.zeros_like(seen)
        free = torch.ones(g.shape, dtype=torch.bool, device=g.device)
        for _, where in positions((size,) * rank, g.shape[1:], stride):
            hit = free & (seen[where] == call.y)
            grad[where] += g.masked_fill(~hit, 0)
            free = free & ~hit
        return cropped(grad, padding, rank).reshape(call.x.shape)

    return vjp


# ----------------------------------------------------------------------------------------------------------- resampling


def _nearest_forward(x: torch.Tensor, factor: int) -> torch.Tensor:
    return F.interpolate(x.reshape(1, -1, x.shape[-1]), scale_factor=factor, mode="nearest")


def _nearest(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Every element stands ``factor`` times side by side."""
    return g.reshape(*call.x.shape, call.parameters["factor"]).sum(-1)


def _choose_factor(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    return {"factor": (2, 3, 1)[choice % 3]} if shape and prod(shape) > 0 else None


# ---------------------------------------------------------------------------------------------------------- the records

_LINE = "{0}.reshape(-1, {0}.shape[-1])"
_IMAGE = "{0}.reshape(-1, *{0}.shape[-2:])"
_STEPS = "{kernel_size}, stride={stride}, padding={padding}"
_COUNTED = [{"count_include_pad": True}, {"count_include_pad": False}]


def _average_op(name: str, rank: int, operand: str) -> Op:
    return Op(
        name=name,
        forward=_average_forward(rank),
        vjp=_average(rank),
        code=f"torch.nn.functional.{name}({operand}, {_STEPS}, count_include_pad={{count_include_pad}})",
        formula=_MEAN,
        parameters=_windows(rank, _COUNTED),
    )


def _max_op(name: str, rank: int, operand: str) -> Op:
    return Op(
        name=name,
        forward=_max_forward(rank),
        vjp=_max(rank),
        code=f"torch.nn.functional.{name}({operand}, {_STEPS})",
        formula=_MAX,
        parameters=_windows(rank),
        kinks="two largest elements of one window are equal",
    )


OPS = (
    _average_op("avg_pool1d", 1, _LINE),
    _average_op("avg_pool2d", 2, _IMAGE),
    _max_op("max_pool1d", 1, _LINE),
    _max_op("max_pool2d", 2, _IMAGE),
    Op(
        name="adaptive_avg_pool1d",
        forward=_adaptive_forward,
        vjp=_adaptive,
        code=f"torch.nn.functional.adaptive_avg_pool1d({_LINE}, {{output_size}})",
        formula=_MEAN,
        parameters=_choose_size,
    ),
    Op(
        name="interpolate_nearest",
        forward=_nearest_forward,
        vjp=_nearest,
        code=f"torch.nn.functional.interpolate({_LINE}[None], scale_factor={{factor}}, mode='nearest')",
        formula="adjoint of a repetition: a sum",
        parameters=_choose_factor,
    ),
)
