"""Ops with several outputs, and those that join several operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import torch

from gradharness.model.subject import Tensors
from gradharness.programs.op import Call, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import along_full, broadcast, every_dim, grid, one_of

_PARTS = "adjoint of taking apart: putting together"
_JOIN = "adjoint of putting together: taking apart"

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]

# --------------------------------------------------------------------------------------------------------- taking apart


def _concatenate(call: Call, *gs: torch.Tensor) -> torch.Tensor:
    return torch.cat(gs, call.parameters["dim"])


def _unbind(call: Call, *gs: torch.Tensor) -> torch.Tensor:
    return torch.stack(gs, call.parameters["dim"])


def _unbind_forward(x: torch.Tensor, dim: int) -> Tensors:
    return tuple(torch.unbind(x, dim))


def _split_forward(x: torch.Tensor, sizes: int | list[int], dim: int) -> Tensors:
    return tuple(torch.split(x, sizes, dim))


def _chunk_forward(x: torch.Tensor, chunks: int, dim: int) -> Tensors:
    return tuple(torch.chunk(x, chunks, dim))


def _tensor_split_forward(x: torch.Tensor, places: int | list[int], dim: int) -> Tensors:
    return tuple(torch.tensor_split(x, places, dim))


def _choose_split(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """By one size, the last part smaller, or by a list of sizes."""
    shape = shapes[0]
    if not prod(shape):
        return None
    options = [
        {"sizes": sizes, "dim": dim}
        for dim in every_dim(len(shape))
        for sizes in ((shape[dim] + 1) // 2, 1, [1, shape[dim] - 1])
        if isinstance(sizes, int) or shape[dim] > 1
    ]
    return one_of(choice, options)


def _choose_chunk(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, chunks=(2, 3, 1), dim=every_dim(len(shapes[0]))) if prod(shapes[0]) else None


def _choose_tensor_split(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """By a number of parts or by places, none of them empty."""
    shape = shapes[0]
    if not prod(shape):
        return None
    options = [
        {"places": places, "dim": dim}
        for dim in every_dim(len(shape))
        for places in (2, 3, [1], [1, -1])
        if shape[dim] >= (places if isinstance(places, int) else len(places) + 1)
    ]
    return one_of(choice, options)


# -------------------------------------------------------------------------------------------------------------- moments


def _kept(call: Call, t: torch.Tensor) -> torch.Tensor:
    return t if call.parameters["keepdim"] else t.unsqueeze(call.parameters["dim"])


def _var_mean(call: Call, g_var: torch.Tensor, g_mean: torch.Tensor) -> torch.Tensor:
    dim, n = call.parameters["dim"], call.x.shape[call.parameters["dim"]]
    centred = call.x - call.x.mean(dim, keepdim=True)
    divisor = n - int(call.parameters["correction"])
    return _kept(call, g_var) * (2 / divisor) * centred + _kept(call, g_mean) / n


def _var_mean_forward(x: torch.Tensor, dim: int, correction: int, keepdim: bool) -> _Pair:  # noqa: FBT001
    return torch.var_mean(x, dim, correction=correction, keepdim=keepdim)


def _choose_moments(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    dims = [dim for dim in every_dim(len(shapes[0])) if shapes[0][dim] > 1]
    return grid(choice, dim=dims, correction=(1, 0), keepdim=(False, True)) if prod(shapes[0]) else None


def _aminmax_forward(x: torch.Tensor, dim: int, keepdim: bool) -> _Pair:  # noqa: FBT001
    least, largest = torch.aminmax(x, dim=dim, keepdim=keepdim)
    return least, largest


def _aminmax(call: Call, g_min: torch.Tensor, g_max: torch.Tensor) -> torch.Tensor:
    """Elements that tie share equally."""
    grad = torch.zeros(call.x.shape, dtype=g_min.dtype, device=g_min.device)
    for y, g in zip(call.outputs, (g_min, g_max), strict=True):
        hits = call.x == _kept(call, y)
        grad = grad + hits * (_kept(call, g) / hits.sum(call.parameters["dim"], keepdim=True))
    return grad


def _choose_keeping(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    return grid(choice, dim=every_dim(len(shape)), keepdim=(False, True)) if prod(shape) else None


# ----------------------------------------------------------------------------------------------------- putting together


def _cat_forward(*operands: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.cat(operands, dim)


def _cat(call: Call, g: torch.Tensor) -> Tensors:
    dim = call.parameters["dim"]
    return torch.split(g, [x.shape[dim] for x in call.inputs], dim)


def _fit_cat(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Of one rank, and of one size but along dim."""
    first = shapes[0]
    if any(len(shape) != len(first) for shape in shapes):
        return None
    others = [{(*s[: d % len(s)], *s[d % len(s) + 1 :]) for s in shapes} for d in every_dim(len(first))]
    return grid(choice, dim=[d for d, rest in zip(every_dim(len(first)), others, strict=True) if len(rest) == 1])


def _stack_forward(*operands: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.stack(_broadcast_forward(*operands), dim)


def _stack(call: Call, g: torch.Tensor) -> Tensors:
    parts = g.unbind(call.parameters["dim"])
    return tuple(unbroadcast(part, x.shape) for part, x in zip(parts, call.inputs, strict=True))


def _fit_stack(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    together = broadcast(*shapes)
    return None if together is None else grid(choice, dim=every_dim(len(together) + 1))


def _broadcast_forward(*operands: torch.Tensor) -> Tensors:
    return tuple(torch.broadcast_tensors(*operands))  # type: ignore[no-untyped-call]


def _broadcast(call: Call, *gs: torch.Tensor) -> Tensors:
    return tuple(unbroadcast(g, x.shape) for g, x in zip(gs, call.inputs, strict=True))


def _fit_broadcast(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return None if broadcast(*shapes) is None else {}


def _meshgrid_forward(a: torch.Tensor, b: torch.Tensor, indexing: str) -> Tensors:
    return tuple(torch.meshgrid(a.flatten(), b.flatten(), indexing=indexing))


def _meshgrid(call: Call, g_a: torch.Tensor, g_b: torch.Tensor) -> Tensors:
    a, b = call.inputs
    swapped = call.parameters["indexing"] == "xy"
    return g_a.sum(int(not swapped)).reshape(a.shape), g_b.sum(int(swapped)).reshape(b.shape)


def _choose_meshgrid(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, indexing=("ij", "xy")) if prod(shapes[0]) * prod(shapes[1]) <= 512 else None


# ---------------------------------------------------------------------------------------------------------- the records


def _part(name: str, vjp: Callable[..., torch.Tensor], forward: Callable[..., Tensors], keywords: str, fit: Any) -> Op:
    return Op(
        name=name,
        forward=forward,
        vjp=vjp,
        code=f"torch.{name}({{0}}, {keywords})",
        formula=_PARTS,
        parameters=fit,
        outputs=0,
        complex=True,
    )


def _join(name: str, arity: int, forward: Callable[..., torch.Tensor], vjp: Callable[..., Tensors], fit: Any) -> Op:
    operands = ", ".join(f"{{{number}}}" for number in range(arity))
    listed = f"[{operands}]" if name == "cat" else f"torch.broadcast_tensors({operands})"
    return Op(
        name=f"{name}_{arity}",
        forward=forward,
        vjp=vjp,
        code=f"torch.{name}({listed}, dim={{dim}})",
        formula=_JOIN,
        arity=arity,
        parameters=fit,
        same_shape=name == "stack",
        complex=True,
    )


OPS = (
    _part("unbind", _unbind, _unbind_forward, "{dim}", along_full),
    _part("split", _concatenate, _split_forward, "{sizes}, {dim}", _choose_split),
    _part("chunk", _concatenate, _chunk_forward, "{chunks}, {dim}", _choose_chunk),
    _part("tensor_split", _concatenate, _tensor_split_forward, "{places}, {dim}", _choose_tensor_split),
    Op(
        name="var_mean",
        forward=_var_mean_forward,
        vjp=_var_mean,
        code="torch.var_mean({0}, {dim}, correction={correction}, keepdim={keepdim})",
        formula="mean: 1 / n each; variance: 2 (x - mean) / (n - correction)",
        parameters=_choose_moments,
        outputs=2,
    ),
    Op(
        name="aminmax",
        forward=_aminmax_forward,
        vjp=_aminmax,
        code="torch.aminmax({0}, dim={dim}, keepdim={keepdim})",
        formula="an extremum gives all to the element that it is",
        parameters=_choose_keeping,
        outputs=2,
        kinks="two extreme elements are equal",
    ),
    _join("cat", 2, _cat_forward, _cat, _fit_cat),
    _join("cat", 3, _cat_forward, _cat, _fit_cat),
    _join("stack", 2, _stack_forward, _stack, _fit_stack),
    _join("stack", 3, _stack_forward, _stack, _fit_stack),
    Op(
        name="broadcast_tensors",
        forward=_broadcast_forward,
        vjp=_broadcast,
        code="torch.broadcast_tensors({0}, {1})",
        formula="adjoint of expand: a sum",
        arity=2,
        parameters=_fit_broadcast,
        outputs=2,
        complex=True,
    ),
    Op(
        name="meshgrid",
        forward=_meshgrid_forward,
        vjp=_meshgrid,
        code="torch.meshgrid({0}.flatten(), {1}.flatten(), indexing={indexing})",
        formula="adjoint of expand: a sum",
        arity=2,
        parameters=_choose_meshgrid,
        outputs=2,
        same_shape=False,
        complex=True,
    ),
)
