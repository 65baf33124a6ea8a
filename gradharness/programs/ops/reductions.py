"""Reductions over one dimension, several or all, with and without ``keepdim``.

The adjoint of a sum is an expansion (see ``spread``); the others multiply it by the derivative of their own formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape
from gradharness.programs.ops.choosing import every_dim, grid
from gradharness.programs.ops.dims import dim_sets, positive_dims, size_along, spread

_LINEAR = "linear"
_CALCULUS = "elementary calculus"
_PIECES = "the extreme element is passed on, shared evenly between equals"


def _single(rank: int) -> tuple[int, ...]:
    """Every name of one dimension; torch has two for a tensor of rank 0 as well."""
    return every_dim(rank) or (0, -1)


@lru_cache(maxsize=1024)
def _dims(shape: Shape, *, whole: tuple[int, ...] | None, least: int) -> tuple[int | tuple[int, ...] | None, ...]:
    """Every ``dim`` argument that makes one of at least ``least`` elements; that for all dimensions comes first."""
    menu = (whole, *_single(len(shape)), *dim_sets(len(shape)))
    return tuple(dim for dim in menu if size_along(shape, dim) >= least)


def _any_dims(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, dim=_dims(shapes[0], whole=None, least=0), keepdim=(False, True))


def _filled_dims(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, dim=_dims(shapes[0], whole=None, least=1), keepdim=(False, True))


def _filled_named_dims(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """For functions whose ``dim`` cannot be None."""
    whole = tuple(range(len(shapes[0])))
    return grid(choice, dim=_dims(shapes[0], whole=whole, least=1), keepdim=(False, True))


def _one_dim(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, dim=_single(len(shapes[0])), keepdim=(False, True))


def _spread(call: Call, reduced: torch.Tensor) -> torch.Tensor:
    return spread(reduced, call.x.shape, call.parameters["dim"])


# --------------------------------------------------------------------------------------------------- sums and products


def _sum(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _spread(call, g)


def _mean(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _spread(call, g) / size_along(tuple(call.x.shape), call.parameters["dim"])


def _others(x: torch.Tensor, dim: int) -> torch.Tensor:
    """At each place the product of all other elements along ``dim``, right where some are 0 as well.

    It is the product of what comes before and of what comes after.
    """
    count = x.shape[dim]
    one = torch.ones_like(x.narrow(dim, 0, 1))
    before = torch.cat([one, x.narrow(dim, 0, count - 1)], dim).cumprod(dim)
    after = torch.cat([one, x.flip(dim).narrow(dim, 0, count - 1)], dim).cumprod(dim).flip(dim)
    return before * after


def _prod(call: Call, g: torch.Tensor) -> torch.Tensor:
    x = call.x.unsqueeze(0) if call.x.dim() == 0 else call.x
    dim = call.parameters["dim"]
    if x.shape[dim] == 0:
        return torch.zeros_like(call.x)
    return _spread(call, g) * _others(x, dim).reshape(call.x.shape).conj()


def _prod_all(call: Call, g: torch.Tensor) -> torch.Tensor:
    flat = call.x.reshape(-1)
    if not flat.numel():
        return torch.zeros_like(call.x)
    return g * _others(flat, 0).reshape(call.x.shape).conj()


def _logsumexp(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _spread(call, g) * (call.x - _spread(call, call.y)).exp()


# ----------------------------------------------------------------------------------------------------------- extremes


def _extreme(call: Call, g: torch.Tensor) -> torch.Tensor:
    dims = positive_dims(call.parameters["dim"], call.x.dim())
    winners = (call.x == _spread(call, call.y)).to(g.dtype)
    return _spread(call, g) * winners / winners.sum(dims, keepdim=True)


# ------------------------------------------------------------------------------------------------------------- spreads


def _deviation(call: Call) -> torch.Tensor:
    return call.x - _spread(call, call.x.mean(call.parameters["dim"], keepdim=True))


def _freedom(call: Call) -> float:
    return size_along(tuple(call.x.shape), call.parameters["dim"]) - float(call.parameters["correction"])


def _var(call: Call, g: torch.Tensor) -> torch.Tensor:
    # the derivative through the mean vanishes: deviations sum to 0
    return _spread(call, g) * _deviation(call) * (2 / _freedom(call))


def _std_forward(
    x: torch.Tensor, *, dim: int | tuple[int, ...] | None, correction: float, keepdim: bool, eps: float
) -> torch.Tensor:
    return torch.sqrt(torch.var(x, dim=dim, correction=correction, keepdim=keepdim) + eps)


def _std(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _spread(call, g / call.y) * _deviation(call) / _freedom(call)


def _corrected(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """More elements than the correction, and a correction of 0 where there is but one."""
    (shape,) = shapes
    correction = (1, 0, 0.5)[choice % 3]
    if 0 in shape:
        return None
    dims = _dims(shape, whole=None, least=2 if correction else 1)
    if not dims:
        correction, dims = 0, _dims(shape, whole=None, least=1)
    return grid(choice // 3, dim=dims, keepdim=(False, True), correction=(correction,))


def _corrected_with_eps(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    parameters = _corrected(shapes, choice // 2)
    return None if parameters is None else {**parameters, "eps": (1.0, 0.1)[choice % 2]}


# --------------------------------------------------------------------------------------------------------------- norms


def _norm_forward(x: torch.Tensor, *, ord: float, dim: int | Sequence[int] | None, keepdim: bool) -> torch.Tensor:
    value: torch.Tensor = torch.linalg.vector_norm(x, ord=ord, dim=dim, keepdim=keepdim)
    return value


def _norm(call: Call, g: torch.Tensor) -> torch.Tensor:
    order = call.parameters["ord"]
    ratio = call.x.abs() / _spread(call, call.y)
    return _spread(call, g) * call.x.sign() * ratio.pow(order - 1)


def _norm_parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    dims = _dims(shapes[0], whole=None, least=1)
    return grid(choice, ord=(2, 1, 3, 1.5), dim=dims, keepdim=(False, True))


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], formula: str, **more: Any) -> Op:
    code = f"torch.{name}({{0}}, dim={{dim}}, keepdim={{keepdim}})"
    return Op(name=name, forward=getattr(torch, name), vjp=vjp, code=code, formula=formula, **more)


OPS = (
    _op("sum", _sum, _LINEAR, parameters=_any_dims, complex=True),
    _op("mean", _mean, _LINEAR, parameters=_filled_dims, complex=True),
    _op("prod", _prod, "product rule", parameters=_one_dim, complex=True),
    _op("logsumexp", _logsumexp, _CALCULUS, parameters=_filled_named_dims),
    _op("amax", _extreme, _PIECES, parameters=_filled_named_dims, kinks="where two elements are equal"),
    _op("amin", _extreme, _PIECES, parameters=_filled_named_dims, kinks="where two elements are equal"),
    Op(
        name="prod_all",
        forward=torch.prod,
        vjp=_prod_all,
        code="torch.prod({0})",
        formula="product rule",
        complex=True,
    ),
    Op(
        name="var",
        forward=torch.var,
        vjp=_var,
        code="torch.var({0}, dim={dim}, correction={correction}, keepdim={keepdim})",
        formula=_CALCULUS,
        parameters=_corrected,
    ),
    # Not torch.std: that has no derivative where all elements are equal, as they are after an expand.
    Op(
        name="std",
        forward=_std_forward,
        vjp=_std,
        code="torch.sqrt(torch.var({0}, dim={dim}, correction={correction}, keepdim={keepdim}) + {eps})",
        formula=_CALCULUS,
        parameters=_corrected_with_eps,
    ),
    Op(
        name="vector_norm",
        forward=_norm_forward,
        vjp=_norm,
        code="torch.linalg.vector_norm({0}, ord={ord}, dim={dim}, keepdim={keepdim})",
        formula=_CALCULUS,
        parameters=_norm_parameters,
        domains=(Domain.NONZERO,),
    ),
)
