"""Powers, exponentials, logarithms and special functions, element by element.

A holomorphic function f has the VJP g * conj(f'(x)) by the conjugate Wirtinger convention (Kreutz-Delgado, "The complex
gradient operator and the CR-calculus", 2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape
from gradharness.programs.ops.choosing import grid

_CALCULUS = "elementary calculus"
_SPECIAL = "Abramowitz and Stegun, chapters 6, 7 and 9"
_WIRTINGER = "Kreutz-Delgado, the CR-calculus, 2009"
_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _exp(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.y.conj()


def _exp2(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.y * math.log(2)


def _expm1(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x.exp().conj()


def _log(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / call.x


def _log2(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (call.x * math.log(2))


def _log10(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (call.x * math.log(10))


def _log1p(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (1 + call.x)


def _sqrt(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (2 * call.y)


def _rsqrt(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -g * call.y / (2 * call.x)


def _square(call: Call, g: torch.Tensor) -> torch.Tensor:
    return 2 * g * call.x.conj()


def _reciprocal(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -g * call.y.square().conj()


def _abs(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x.sign()


def _neg(_call: Call, g: torch.Tensor) -> torch.Tensor:
    return -g


def _sigmoid(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.y * (1 - call.y)


def _erf(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _TWO_OVER_ROOT_PI * g * (-call.x.square()).exp()


def _erfc(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -_TWO_OVER_ROOT_PI * g * (-call.x.square()).exp()


def _erfinv(call: Call, g: torch.Tensor) -> torch.Tensor:
    # the inverse function rule: 1 / erf'(y)
    return g * call.y.square().exp() / _TWO_OVER_ROOT_PI


def _lgamma(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * torch.digamma(call.x)


def _digamma(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * torch.polygamma(1, call.x)


def _i0(call: Call, g: torch.Tensor) -> torch.Tensor:
    i1: torch.Tensor = torch.special.i1(call.x)
    return g * i1


def _conj(_call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.conj()


def _abs_squared_forward(x: torch.Tensor) -> torch.Tensor:
    return x * x.conj()


def _abs_squared(call: Call, g: torch.Tensor) -> torch.Tensor:
    # dy/dx = conj(x) and dy/dconj(x) = x: g * x + conj(g) * x
    return (g + g.conj()) * call.x


def _logit(call: Call, g: torch.Tensor) -> torch.Tensor:
    x, eps = call.x, call.parameters["eps"]
    inside = (x >= eps) & (x <= 1 - eps)
    held = x.clamp(eps, 1 - eps)  # outside, x * (1 - x) may be 0
    return torch.where(inside, g / (held * (1 - held)), 0)


def _logit_parameters(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, eps=(0.1, 0.05, 0.25))


def _pow(call: Call, g: torch.Tensor) -> torch.Tensor:
    exponent: float = call.parameters["exponent"]
    if exponent == 0:  # a constant: the rule would make 0 * inf of it at x = 0
        return torch.zeros_like(call.x)
    return g * (exponent * call.x.pow(exponent - 1)).conj()


def _whole_exponent(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, exponent=(2, 3, 1, 4, 0))


def _any_exponent(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, exponent=(2.0, 0.5, -1.0, 1.5, -0.5, -2, 1.0, 2.7))


def _scale_forward(x: torch.Tensor, *, factor: float) -> torch.Tensor:
    return x * factor


def _scale(call: Call, g: torch.Tensor) -> torch.Tensor:
    factor: float = call.parameters["factor"]
    return g * factor


def _factor(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, factor=(2.0, -1.0, 0.5, 3.0, -0.3))


def _shift_forward(x: torch.Tensor, *, offset: float) -> torch.Tensor:
    return x + offset


def _shift(_call: Call, g: torch.Tensor) -> torch.Tensor:
    return g


def _offset(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, offset=(1.0, 3.0, -0.5))


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], formula: str = _CALCULUS, **more: Any) -> Op:
    return Op(name=name, forward=getattr(torch, name), vjp=vjp, code=f"torch.{name}({{0}})", formula=formula, **more)


_POSITIVE = (Domain.POSITIVE,)

_PLAIN = (
    _op("exp", _exp, complex=True),
    _op("exp2", _exp2),
    _op("expm1", _expm1, complex=True),
    _op("log", _log, domains=_POSITIVE),
    _op("log2", _log2, domains=_POSITIVE),
    _op("log10", _log10, domains=_POSITIVE),
    _op("log1p", _log1p, domains=(Domain.UNIT,)),
    _op("sqrt", _sqrt, domains=_POSITIVE),
    _op("rsqrt", _rsqrt, domains=_POSITIVE),
    _op("square", _square, complex=True),
    _op("reciprocal", _reciprocal, domains=(Domain.NONZERO,), complex=True),
    _op("abs", _abs, kinks="at 0"),
    _op("neg", _neg, complex=True),
    _op("sigmoid", _sigmoid),
    _op("erf", _erf, _SPECIAL),
    _op("erfc", _erfc, _SPECIAL),
    _op("erfinv", _erfinv, "inverse function rule", domains=(Domain.UNIT,)),
    _op("lgamma", _lgamma, _SPECIAL, domains=_POSITIVE),
    _op("digamma", _digamma, _SPECIAL, domains=_POSITIVE),
    _op("i0", _i0, _SPECIAL),
    _op("conj", _conj, _WIRTINGER, complex=True),
)

OPS = (
    *_PLAIN,
    Op(
        name="abs_squared",
        forward=_abs_squared_forward,
        vjp=_abs_squared,
        code="{0} * {0}.conj()",
        formula=_WIRTINGER,
        complex=True,
    ),
    Op(
        name="logit",
        forward=torch.logit,
        vjp=_logit,
        code="torch.logit({0}, eps={eps})",
        formula=_CALCULUS,
        parameters=_logit_parameters,
        domains=(Domain.UNIT,),
        kinks="at eps and 1 - eps",
    ),
    Op(
        name="pow_whole",
        forward=torch.pow,
        vjp=_pow,
        code="torch.pow({0}, exponent={exponent})",
        formula=_CALCULUS,
        parameters=_whole_exponent,
        complex=True,
    ),
    Op(
        name="pow",
        forward=torch.pow,
        vjp=_pow,
        code="torch.pow({0}, exponent={exponent})",
        formula=_CALCULUS,
        parameters=_any_exponent,
        domains=_POSITIVE,
    ),
    Op(
        name="scale",
        forward=_scale_forward,
        vjp=_scale,
        code="{0} * {factor}",
        formula="linear",
        parameters=_factor,
        complex=True,
    ),
    Op(
        name="shift",
        forward=_shift_forward,
        vjp=_shift,
        code="{0} + {offset}",
        formula="linear",
        parameters=_offset,
        complex=True,
    ),
)
