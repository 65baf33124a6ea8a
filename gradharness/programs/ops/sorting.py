"""Sorting and order statistics, with the places that the values are from as a second output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import along_keeping, every_dim, grid, one_of

_SELECTION = "a permutation or selection that does not change nearby: its adjoint scatters"
_TIES = "two elements that compete are equal"


def _pair(function: Callable[..., Any]) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The function with a plain tuple for its result."""

    def forward(x: torch.Tensor, **parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values, places = function(x, **parameters)
        return values, places

    return forward


def _back(call: Call, g: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Every cotangent to the place its value is from."""
    dim = call.parameters["dim"]
    if call.x.dim() and g.dim() < call.x.dim():
        g, places = g.unsqueeze(dim), places.unsqueeze(dim)
    return torch.zeros(call.x.shape, dtype=g.dtype, device=g.device).scatter_add(dim, places, g)


def _selected(call: Call, g: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _back(call, g, call.outputs[1])


def _msort(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Along the first dimension; ``torch.msort`` deals out equals as ``torch.sort`` does."""
    places = call.x.sort(dim=0).indices
    return torch.zeros(call.x.shape, dtype=g.dtype, device=g.device).scatter_add(0, places, g)


def _quantile(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Linear between the two neighbours, in sorted order, of the place q (n - 1)."""
    dim, q = call.parameters["dim"], call.parameters["q"]
    at = q * (call.x.shape[dim] - 1)
    low = int(at)
    order = call.x.argsort(dim)
    spread = g if call.parameters["keepdim"] else g.unsqueeze(dim)
    zeros = torch.zeros(call.x.shape, dtype=g.dtype, device=g.device)
    lower = zeros.scatter_add(dim, order.narrow(dim, low, 1), spread * (1 - (at - low)))
    if low == at:
        return lower
    return lower.scatter_add(dim, order.narrow(dim, low + 1, 1), spread * (at - low))


def _choose_sort(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    return grid(choice, dim=every_dim(len(shape)), descending=(False, True)) if prod(shape) else None


def _choose_largest(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    if not prod(shape):
        return None
    pairs = [{"k": k, "dim": d} for d in every_dim(len(shape)) for k in sorted({1, min(2, shape[d]), shape[d]})]
    chosen = one_of(choice, pairs)
    return None if chosen is None else {**chosen, "largest": choice // len(pairs) % 2 == 0}


def _choose_kth(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    if not prod(shape):
        return None
    pairs = [{"k": k, "dim": d} for d in every_dim(len(shape)) for k in sorted({1, (shape[d] + 1) // 2, shape[d]})]
    chosen = one_of(choice, pairs)
    return None if chosen is None else {**chosen, "keepdim": choice // len(pairs) % 2 == 1}


def _choose_quantile(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    if not prod(shape):
        return None
    return grid(choice, q=(0.5, 0.25, 0.0, 0.75, 1.0), dim=every_dim(len(shape)), keepdim=(False, True))


def _op(name: str, keywords: str, choose: Callable[[Sequence[Shape], int], Parameters | None]) -> Op:
    """An op that gives values and their places."""
    function = name.removesuffix("_along")
    return Op(
        name=name,
        forward=_pair(getattr(torch, function)),
        vjp=_selected,
        code=f"torch.{function}({{0}}, {keywords})",
        formula=_SELECTION,
        parameters=choose,
        outputs=2,
        discrete=1,
        kinks=_TIES,
    )


OPS = (
    _op("sort", "dim={dim}, descending={descending}", _choose_sort),
    _op("topk", "{k}, dim={dim}, largest={largest}", _choose_largest),
    _op("kthvalue", "{k}, dim={dim}, keepdim={keepdim}", _choose_kth),
    _op("median_along", "dim={dim}, keepdim={keepdim}", along_keeping),
    _op("max_along", "dim={dim}, keepdim={keepdim}", along_keeping),
    _op("min_along", "dim={dim}, keepdim={keepdim}", along_keeping),
    Op(
        name="msort",
        forward=torch.msort,
        vjp=_msort,
        code="torch.msort({0})",
        formula=_SELECTION,
        parameters=lambda shapes, _: {} if shapes[0] and prod(shapes[0]) > 0 else None,
        kinks=_TIES,
    ),
    Op(
        name="quantile",
        forward=torch.quantile,
        vjp=_quantile,
        code="torch.quantile({0}, {q}, dim={dim}, keepdim={keepdim})",
        formula=_SELECTION + "; linear between two neighbours",
        parameters=_choose_quantile,
        kinks=_TIES,
    ),
)
