"""Running sums, products and maxima, and differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import along, along_full, one_of

_LINEAR = "adjoint of a linear map"
_HORNER = "product rule, by Horner's scheme from the end, so that zeros are allowed"

_Both: TypeAlias = tuple[torch.Tensor, torch.Tensor]
_Extremum: TypeAlias = Callable[..., _Both]


def _back_sum(g: torch.Tensor, dim: int) -> torch.Tensor:
    """The sum of an element and all after it: the adjoint of a running sum."""
    return g.flip(dim).cumsum(dim).flip(dim)


def _cumsum(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _back_sum(g, call.parameters["dim"])


def _cumprod(call: Call, g: torch.Tensor) -> torch.Tensor:
    """With P_j the product before j: dx_j = conj(P_j) S_j, where S_j = g_j + conj(x_(j+1)) S_(j+1)."""
    dim = call.parameters["dim"]
    xs, gs = call.x.conj().unbind(dim), g.unbind(dim)
    before = [torch.ones_like(gs[0])]
    for x in xs[:-1]:
        before.append(before[-1] * x)
    tails = [gs[-1]]
    for x, cotangent in zip(reversed(xs[1:]), reversed(gs[:-1]), strict=True):
        tails.append(cotangent + x * tails[-1])
    return torch.stack([p * s for p, s in zip(before, reversed(tails), strict=True)], dim)


def _logcumsumexp(call: Call, g: torch.Tensor) -> torch.Tensor:
    """``dx_j = sum over i >= j of g_i exp(x_j - y_i)``; no exponent there is positive."""
    dim = call.parameters["dim"]
    x, y, cotangent = (t.movedim(dim, -1) for t in (call.x, call.y, g))
    later = torch.ones(x.shape[-1], x.shape[-1], dtype=torch.bool, device=x.device).triu()
    share = (x.unsqueeze(-1) - y.unsqueeze(-2)).masked_fill(~later, -torch.inf).exp()
    return (share * cotangent.unsqueeze(-2)).sum(-1).movedim(-1, dim)


def _extremum(call: Call, g: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Each cotangent goes to where the value is from."""
    zeros = torch.zeros(call.x.shape, dtype=g.dtype, device=g.device)
    return zeros.scatter_add(call.parameters["dim"], call.outputs[1], g)


def _pair(function: Callable[..., _Both]) -> _Extremum:
    """The function with a plain tuple for its result."""

    def forward(x: torch.Tensor, dim: int) -> _Both:
        values, places = function(x, dim)
        return values, places

    return forward


def _diff(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Once for every order: the cotangent, moved by one, minus itself."""
    dim, order = call.parameters["dim"], call.parameters["n"]
    zero = torch.zeros_like(call.x.narrow(dim, 0, 1), dtype=g.dtype)
    for _ in range(order):
        g = torch.cat([zero, g], dim) - torch.cat([g, zero], dim)
    return g


def _choose_diff(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Of an order that leaves elements."""
    shape = shapes[0]
    if not prod(shape):
        return None
    rank = len(shape)
    dims = (*range(rank), *range(-1, -rank - 1, -1))
    return one_of(choice, [{"n": n, "dim": dim} for n in (1, 2) for dim in dims if shape[dim] > n])


def _trapezoid(call: Call, g: torch.Tensor) -> torch.Tensor:
    """Every element counts half in the step before it and half in the step after it."""
    dim, step = call.parameters["dim"], call.parameters["dx"]
    weight = torch.full((call.x.shape[dim],), float(step), dtype=g.dtype, device=g.device)
    weight[0] = weight[-1] = step / 2
    shape = [1] * call.x.dim()
    shape[dim] = -1
    return g.unsqueeze(dim) * weight.reshape(shape)


def _cumulative_trapezoid(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim = call.parameters["dim"]
    steps = _back_sum(g, dim) * (call.parameters["dx"] / 2)
    zero = torch.zeros_like(steps.narrow(dim, 0, 1))
    return torch.cat([zero, steps], dim) + torch.cat([steps, zero], dim)


def _trapezoid_forward(x: torch.Tensor, dx: float, dim: int) -> torch.Tensor:
    return torch.trapezoid(x, dx=dx, dim=dim)


def _cumulative_trapezoid_forward(x: torch.Tensor, dx: float, dim: int) -> torch.Tensor:
    return torch.cumulative_trapezoid(x, dx=dx, dim=dim)


def _choose_step(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    if not prod(shape):
        return None
    dims = [dim for d in range(len(shape)) for dim in (d, d - len(shape)) if shape[dim] > 1]
    return one_of(choice, [{"dx": dx, "dim": dim} for dx in (1.0, 0.5) for dim in dims])


def _running(name: str, kinks: str) -> Op:
    return Op(
        name=name,
        forward=_pair(getattr(torch, name)),
        vjp=_extremum,
        code=f"torch.{name}({{0}}, {{dim}})",
        formula="a running extremum gives all to the element that it is",
        parameters=along_full,
        outputs=2,
        discrete=1,
        kinks=kinks,
    )


OPS = (
    Op(
        name="cumsum",
        forward=torch.cumsum,
        vjp=_cumsum,
        code="torch.cumsum({0}, dim={dim})",
        formula=_LINEAR,
        parameters=along,
        complex=True,
    ),
    Op(
        name="cumprod",
        forward=torch.cumprod,
        vjp=_cumprod,
        code="torch.cumprod({0}, dim={dim})",
        formula=_HORNER,
        parameters=along_full,
        complex=True,
    ),
    Op(
        name="logcumsumexp",
        forward=torch.logcumsumexp,
        vjp=_logcumsumexp,
        code="torch.logcumsumexp({0}, dim={dim})",
        formula="chain rule",
        parameters=along_full,
    ),
    _running("cummax", "two largest elements so far are equal"),
    _running("cummin", "two smallest elements so far are equal"),
    Op(
        name="diff",
        forward=torch.diff,
        vjp=_diff,
        code="torch.diff({0}, n={n}, dim={dim})",
        formula=_LINEAR,
        parameters=_choose_diff,
        complex=True,
    ),
    Op(
        name="trapezoid",
        forward=_trapezoid_forward,
        vjp=_trapezoid,
        code="torch.trapezoid({0}, dx={dx}, dim={dim})",
        formula=_LINEAR,
        parameters=_choose_step,
        complex=True,
    ),
    Op(
        name="cumulative_trapezoid",
        forward=_cumulative_trapezoid_forward,
        vjp=_cumulative_trapezoid,
        code="torch.cumulative_trapezoid({0}, dx={dx}, dim={dim})",
        formula=_LINEAR,
        parameters=_choose_step,
        complex=True,
    ),
)
