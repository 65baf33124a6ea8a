"""Ops of two and three operands with full broadcasting, element by element.

Each gradient is that of the op on operands of one shape, summed over what was broadcast (see ``unbroadcast``). A tie in
a maximum shares the cotangent evenly, as torch.autograd does; directions that keep the tie have that derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import broadcast, grid

_PRODUCT = "product rule"
_QUOTIENT = "quotient rule"
_CALCULUS = "elementary calculus"
_PIECES = "one operand is passed on"
_POSITIVE_SECOND = (Domain.REAL, Domain.POSITIVE)
_NONZERO_SECOND = (Domain.REAL, Domain.NONZERO)

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
_Triple: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _pair(call: Call, first: torch.Tensor, second: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return unbroadcast(first, a.shape), unbroadcast(second, b.shape)


def _triple(call: Call, first: torch.Tensor, second: torch.Tensor, third: torch.Tensor) -> _Triple:
    a, b, c = call.inputs
    return unbroadcast(first, a.shape), unbroadcast(second, b.shape), unbroadcast(third, c.shape)


# ------------------------------------------------------------------------------------------------------- arithmetic


def _add(call: Call, g: torch.Tensor) -> _Pair:
    return _pair(call, g, g * call.parameters["alpha"])


def _sub(call: Call, g: torch.Tensor) -> _Pair:
    return _pair(call, g, -g * call.parameters["alpha"])


def _alpha(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, alpha=(1, 2.0, -0.5))


def _mul(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return _pair(call, g * b.conj(), g * a.conj())


def _div(call: Call, g: torch.Tensor) -> _Pair:
    over = g / call.inputs[1].conj()
    return _pair(call, over, -over * call.y.conj())


def _pow(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return _pair(call, g * b * a.pow(b - 1), g * call.y * a.log())


def _xlogy(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return _pair(call, g * b.log(), g * a / b)


def _hypot(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return _pair(call, g * (a / call.y), g * (b / call.y))


def _atan2(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    over = g / (a.square() + b.square())
    return _pair(call, over * b, -over * a)


def _logaddexp(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return _pair(call, g * (a - b).sigmoid(), g * (b - a).sigmoid())


def _logaddexp2(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return _pair(call, g * (a - call.y).exp2(), g * (b - call.y).exp2())


# ---------------------------------------------------------------------------------------------------------- choosing


def _share(call: Call, g: torch.Tensor, won: torch.Tensor) -> _Pair:
    a, b = call.inputs
    first = torch.where(a == b, g / 2, g * won)
    return _pair(call, first, g - first)


def _maximum(call: Call, g: torch.Tensor) -> _Pair:
    return _share(call, g, call.inputs[0] > call.inputs[1])


def _minimum(call: Call, g: torch.Tensor) -> _Pair:
    return _share(call, g, call.inputs[0] < call.inputs[1])


def _fmax(call: Call, g: torch.Tensor) -> _Pair:
    won = call.inputs[0] >= call.inputs[1]  # a tie goes to the first
    return _pair(call, g * won, g * ~won)


def _fmin(call: Call, g: torch.Tensor) -> _Pair:
    won = call.inputs[0] <= call.inputs[1]
    return _pair(call, g * won, g * ~won)


def _copysign(call: Call, g: torch.Tensor) -> _Pair:
    return _pair(call, g * call.x.sign() * call.y.sign(), torch.zeros_like(g))


def _stripes(shape: Sequence[int], period: int, like: torch.Tensor) -> torch.Tensor:
    """True at every ``period``-th place, counted over the whole of ``shape``."""
    count = torch.Size(shape).numel()
    return torch.arange(count, device=like.device).reshape(tuple(shape)) % period == 0


_STRIPES = "torch.arange(torch.Size({mask}).numel(), device={0}.device).reshape({mask}) % {period} == 0"


def _masks(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Of the whole shape, of its last dimensions only, or with its first dimension alone."""
    whole = broadcast(*shapes)
    if whole is None:
        return None
    column = (*whole[:1], *(1 for _ in whole[1:]))
    return grid(choice, mask=list(dict.fromkeys((whole, whole[1:], whole[-1:], column))), period=(2, 3, 1))


def _where_forward(a: torch.Tensor, b: torch.Tensor, *, mask: Sequence[int], period: int) -> torch.Tensor:
    return torch.where(_stripes(mask, period, a), a, b)


def _where(call: Call, g: torch.Tensor) -> _Pair:
    taken = _stripes(call.parameters["mask"], call.parameters["period"], g)
    return _pair(call, g * taken, g * ~taken)


def _where_positive_forward(c: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.where(c > 0, a, b)


def _where_positive(call: Call, g: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
    c, a, b = call.inputs
    taken = c > 0
    return None, unbroadcast(g * taken, a.shape), unbroadcast(g * ~taken, b.shape)


# ------------------------------------------------------------------------------------------------------ three operands


def _lerp(call: Call, g: torch.Tensor) -> _Triple:
    start, end, weight = call.inputs
    return _triple(call, g * (1 - weight).conj(), g * weight.conj(), g * (end - start).conj())


def _addcmul(call: Call, g: torch.Tensor) -> _Triple:
    _, b, c = call.inputs
    scaled = g * call.parameters["value"]
    return _triple(call, g, scaled * c.conj(), scaled * b.conj())


def _addcdiv(call: Call, g: torch.Tensor) -> _Triple:
    _, b, c = call.inputs
    over = g * call.parameters["value"] / c.conj()
    return _triple(call, g, over, -over * (b / c).conj())


def _value(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, value=(1, -2.0, 0.5))


def _clamp_between_forward(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.clamp(x, low, high)


def _first_is_widest(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    """Torch 2.13 has no backward for a clamp whose limits broadcast to more than the operand."""
    return {} if broadcast(*shapes) == shapes[0] else None


def _clamp_between(call: Call, g: torch.Tensor) -> _Triple:
    # min(max(x, low), high): the upper limit wins where the two are crossed
    x, low, high = call.inputs
    at_high = (x > high) | (low > high)
    at_low = (x < low) & (low < high)
    return _triple(call, g * ((x >= low) & (x <= high)), g * at_low, g * at_high)


def _op(name: str, vjp: Callable[[Call, torch.Tensor], _Pair], formula: str, **more: Any) -> Op:
    code = f"torch.{name}({{0}}, {{1}})"
    return Op(name=name, forward=getattr(torch, name), vjp=vjp, code=code, formula=formula, arity=2, **more)


_TWO = (
    _op("mul", _mul, _PRODUCT, complex=True),
    _op("div", _div, _QUOTIENT, domains=_NONZERO_SECOND, complex=True),
    _op("xlogy", _xlogy, _PRODUCT, domains=_POSITIVE_SECOND),
    _op("hypot", _hypot, _CALCULUS, domains=_NONZERO_SECOND),
    # The first operand stays away from 0, where the branch cut is.
    _op("atan2", _atan2, _CALCULUS, domains=(Domain.NONZERO,)),
    _op("logaddexp", _logaddexp, _CALCULUS),
    _op("logaddexp2", _logaddexp2, _CALCULUS),
    _op("maximum", _maximum, _PIECES, kinks="where the operands are equal"),
    _op("minimum", _minimum, _PIECES, kinks="where the operands are equal"),
    _op("fmax", _fmax, _PIECES, kinks="where the operands are equal"),
    _op("fmin", _fmin, _PIECES, kinks="where the operands are equal"),
    _op("copysign", _copysign, _PIECES, domains=_NONZERO_SECOND, kinks="where the first operand is 0"),
)

_TWO_WITH_PARAMETERS = (
    Op(
        name="add",
        forward=torch.add,
        vjp=_add,
        code="torch.add({0}, {1}, alpha={alpha})",
        formula="linear",
        arity=2,
        parameters=_alpha,
        complex=True,
    ),
    Op(
        name="sub",
        forward=torch.sub,
        vjp=_sub,
        code="torch.sub({0}, {1}, alpha={alpha})",
        formula="linear",
        arity=2,
        parameters=_alpha,
        complex=True,
    ),
    Op(
        name="pow_tensor",
        forward=torch.pow,
        vjp=_pow,
        code="torch.pow({0}, {1})",
        formula="logarithmic differentiation",
        arity=2,
        domains=(Domain.POSITIVE,),
    ),
    Op(
        name="where",
        forward=_where_forward,
        vjp=_where,
        code=f"torch.where({_STRIPES}, {{0}}, {{1}})",
        formula=_PIECES,
        arity=2,
        parameters=_masks,
        complex=True,
    ),
)

_THREE = (
    Op(
        name="where_positive",
        forward=_where_positive_forward,
        vjp=_where_positive,
        code="torch.where({0} > 0, {1}, {2})",
        formula=_PIECES,
        arity=3,
        kinks="a jump where the first operand is 0",
    ),
    Op(
        name="lerp",
        forward=torch.lerp,
        vjp=_lerp,
        code="torch.lerp({0}, {1}, {2})",
        formula=_PRODUCT,
        arity=3,
        complex=True,
    ),
    Op(
        name="addcmul",
        forward=torch.addcmul,
        vjp=_addcmul,
        code="torch.addcmul({0}, {1}, {2}, value={value})",
        formula=_PRODUCT,
        arity=3,
        parameters=_value,
        complex=True,
    ),
    Op(
        name="addcdiv",
        forward=torch.addcdiv,
        vjp=_addcdiv,
        code="torch.addcdiv({0}, {1}, {2}, value={value})",
        formula=_QUOTIENT,
        arity=3,
        parameters=_value,
        domains=(Domain.REAL, Domain.REAL, Domain.NONZERO),
        complex=True,
    ),
    Op(
        name="clamp_between",
        forward=_clamp_between_forward,
        vjp=_clamp_between,
        code="torch.clamp({0}, {1}, {2})",
        formula=_PIECES,
        arity=3,
        parameters=_first_is_widest,
        kinks="where two operands are equal",
    ),
)

OPS = (*_TWO, *_TWO_WITH_PARAMETERS, *_THREE)
