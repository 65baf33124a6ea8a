"""Trigonometric and hyperbolic functions and their inverses, element by element.

A holomorphic function f has the VJP g * conj(f'(x)) by the conjugate Wirtinger convention (Kreutz-Delgado, "The complex
gradient operator and the CR-calculus", 2009). The derivatives are those of Abramowitz and Stegun, sections 4.3 to 4.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from gradharness.programs.op import Call, Domain, Op

_CALCULUS = "Abramowitz and Stegun, sections 4.3 to 4.6"


def _sin(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x.cos().conj()


def _cos(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -g * call.x.sin().conj()


def _tan(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (1 + call.y.square())


def _asin(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (1 - call.x.square()).rsqrt()


def _acos(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -g * (1 - call.x.square()).rsqrt()


def _atan(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (1 + call.x.square())


def _sinh(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x.cosh().conj()


def _cosh(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x.sinh().conj()


def _tanh(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (1 - call.y.square()).conj()


def _asinh(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (1 + call.x.square()).rsqrt()


def _acosh(call: Call, g: torch.Tensor) -> torch.Tensor:
    # sqrt(x - 1) * sqrt(x + 1): the square of x loses digits near 1
    return g * ((call.x - 1) * (call.x + 1)).rsqrt()


def _atanh(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (1 - call.x.square())


def _sinc(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * ((math.pi * call.x).cos() - call.y) / call.x


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], **more: Any) -> Op:
    forward = getattr(torch, name)
    return Op(name=name, forward=forward, vjp=vjp, code=f"torch.{name}({{0}})", formula=_CALCULUS, **more)


OPS = (
    _op("sin", _sin, complex=True),
    _op("tanh", _tanh, complex=True),
    _op("asin", _asin, domains=(Domain.UNIT,)),
    _op("cos", _cos, complex=True),
    _op("tan", _tan, domains=(Domain.UNIT,)),
    _op("acos", _acos, domains=(Domain.UNIT,)),
    _op("atan", _atan),
    _op("sinh", _sinh, complex=True),
    _op("cosh", _cosh, complex=True),
    _op("asinh", _asinh),
    _op("acosh", _acosh, domains=(Domain.ABOVE_ONE,)),
    _op("atanh", _atanh, domains=(Domain.UNIT,)),
    _op("sinc", _sinc, domains=(Domain.NONZERO,)),
)
