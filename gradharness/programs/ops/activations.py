"""Activations of neural networks, element by element; each formula is the derivative of the one that torch documents.

Where a function has a kink, the VJP takes the side that torch.autograd takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import every_dim, grid

_CALCULUS = "elementary calculus"
_ROOT_2 = math.sqrt(2)
_ROOT_2_PI = math.sqrt(2 * math.pi)
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_THRESHOLD = 20.0  # from where softplus is the identity in torch

# --------------------------------------------------------------------------------------------------- piecewise linear


def _relu(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (call.x > 0)


def _relu6(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * ((call.x > 0) & (call.x < 6))


def _leaky_relu(call: Call, g: torch.Tensor) -> torch.Tensor:
    return torch.where(call.x > 0, g, g * call.parameters["negative_slope"])


def _slope(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, negative_slope=(0.1, 0.01, 0.5, 1.5))


def _hardtanh(call: Call, g: torch.Tensor) -> torch.Tensor:
    inside: torch.Tensor = (call.x > call.parameters["min_val"]) & (call.x < call.parameters["max_val"])
    return g * inside


def _hardtanh_limits(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, min_val=(-1.0, -0.3, -2.5), max_val=(1.0, 0.4, 2.0))


def _clamp(call: Call, g: torch.Tensor) -> torch.Tensor:
    low, high = call.parameters["min"], call.parameters["max"]
    if low is not None:
        g = g * (call.x >= low)
    if high is not None:
        g = g * (call.x <= high)
    return g


def _clamp_limits(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    limits = grid(choice, min=(-1.0, 0.2, None), max=(1.0, 0.5, None))
    return {"min": -0.5, "max": None} if limits == {"min": None, "max": None} else limits


def _hardsigmoid_forward(x: torch.Tensor) -> torch.Tensor:
    # F.hardsigmoid's own backward has 1 / 6 in single precision, for double too (torch 2.13)
    return F.relu6(x + 3) / 6


def _hardsigmoid(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * ((call.x > -3) & (call.x < 3)) / 6


def _softshrink(call: Call, g: torch.Tensor) -> torch.Tensor:
    lambd: float = call.parameters["lambd"]
    return g * (call.x.abs() > lambd)


def _lambd(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, lambd=(0.5, 0.1, 1.2))


def _threshold(call: Call, g: torch.Tensor) -> torch.Tensor:
    threshold: float = call.parameters["threshold"]
    return g * (call.x > threshold)


def _threshold_and_value(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, threshold=(0.0, 0.3, -1.0), value=(0.0, -2.0))


# ------------------------------------------------------------------------------------------------------------- smooth


def _hardswish(call: Call, g: torch.Tensor) -> torch.Tensor:
    middle = g * (call.x / 3 + 0.5)
    return torch.where(call.x <= -3, 0, torch.where(call.x < 3, middle, g))


def _elu(call: Call, g: torch.Tensor) -> torch.Tensor:
    return torch.where(call.x > 0, g, g * (call.y + call.parameters["alpha"]))


def _celu(call: Call, g: torch.Tensor) -> torch.Tensor:
    return torch.where(call.x > 0, g, g * (call.x / call.parameters["alpha"]).exp())


def _alpha(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, alpha=(1.0, 0.4, 2.0))


def _short_alpha(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    # F.celu's own backward rounds alpha to single precision (torch 2.13): only such as that does not change
    return grid(choice, alpha=(1.0, 0.375, 2.0))


def _selu(call: Call, g: torch.Tensor) -> torch.Tensor:
    return torch.where(call.x > 0, g * _SELU_SCALE, g * (call.y + _SELU_SCALE * _SELU_ALPHA))


def _silu(call: Call, g: torch.Tensor) -> torch.Tensor:
    gate = call.x.sigmoid()
    return g * gate * (1 + call.x * (1 - gate))


def _gelu_exact_forward(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x)


def _gelu_exact(call: Call, g: torch.Tensor) -> torch.Tensor:
    # (x Phi(x))' = Phi(x) + x phi(x), Phi the normal distribution and phi its density
    distribution = 0.5 * (1 + (call.x / _ROOT_2).erf())
    density = (-0.5 * call.x.square()).exp() / _ROOT_2_PI
    return g * (distribution + call.x * density)


def _gelu_tanh_forward(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")


def _gelu_tanh(call: Call, g: torch.Tensor) -> torch.Tensor:
    x = call.x
    scale = math.sqrt(2 / math.pi)
    t = (scale * (x + 0.044715 * x.pow(3))).tanh()
    slope = scale * (1 + 3 * 0.044715 * x.square())
    return g * 0.5 * (1 + t + x * (1 - t.square()) * slope)


def _softplus(call: Call, g: torch.Tensor) -> torch.Tensor:
    scaled = call.x * call.parameters["beta"]
    return torch.where(scaled > _THRESHOLD, g, g * scaled.sigmoid())


def _beta(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, beta=(1.0, 0.5, 3.0))


def _softsign(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (1 + call.x.abs()).square()


def _mish(call: Call, g: torch.Tensor) -> torch.Tensor:
    t = F.softplus(call.x).tanh()
    return g * (t + call.x * (1 - t.square()) * call.x.sigmoid())


def _logsigmoid(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (-call.x).sigmoid()


def _tanhshrink(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x.tanh().square()


def _glu(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim = call.parameters["dim"]
    value, gate = call.x.chunk(2, dim)
    opened = gate.sigmoid()
    return torch.cat([g * opened, g * value * opened * (1 - opened)], dim)


def _even_dim(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    (shape,) = shapes
    return grid(choice, dim=[dim for dim in every_dim(len(shape)) if shape[dim] and shape[dim] % 2 == 0])


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], formula: str, names: str = "", **more: Any) -> Op:
    """An op of ``torch.nn.functional``, unless ``more`` says otherwise; its parameters are given by name."""
    arguments = "".join(f", {name}={{{name}}}" for name in names.split())
    forward = more.pop("forward", None) or getattr(F, name)
    code = more.pop("code", f"torch.nn.functional.{name}({{0}}{arguments})")
    return Op(name=name, forward=forward, vjp=vjp, code=code, formula=formula, **more)


_ELU = "Clevert et al. 2016, Fast and accurate deep network learning by ELUs"
_CELU = "Barron 2017, Continuously differentiable ELUs"
_SELU = "Klambauer et al. 2017, Self-normalizing neural networks"
_HARDSWISH = "Howard et al. 2019, Searching for MobileNetV3"
_GELU = "Hendrycks and Gimpel 2016, Gaussian error linear units"

_LINEAR_PIECES = (
    _op("relu", _relu, _CALCULUS, kinks="at 0"),
    _op("relu6", _relu6, _CALCULUS, kinks="at 0 and 6"),
    _op("leaky_relu", _leaky_relu, _CALCULUS, "negative_slope", parameters=_slope, kinks="at 0"),
    _op("hardtanh", _hardtanh, _CALCULUS, "min_val max_val", parameters=_hardtanh_limits, kinks="at both limits"),
    _op(
        "clamp",
        _clamp,
        _CALCULUS,
        parameters=_clamp_limits,
        forward=torch.clamp,
        code="torch.clamp({0}, min={min}, max={max})",
        kinks="at the limits",
    ),
    _op(
        "hardsigmoid",
        _hardsigmoid,
        _CALCULUS,
        forward=_hardsigmoid_forward,
        code="torch.nn.functional.relu6({0} + 3) / 6",
        kinks="at -3 and 3",
    ),
    _op("softshrink", _softshrink, _CALCULUS, "lambd", parameters=_lambd, kinks="at -lambd and lambd"),
    _op(
        "threshold",
        _threshold,
        _CALCULUS,
        "threshold value",
        parameters=_threshold_and_value,
        kinks="a jump or a kink at the threshold",
    ),
)

_SMOOTH_PIECES = (
    _op("elu", _elu, _ELU, "alpha", parameters=_alpha, kinks="at 0 unless alpha is 1"),
    _op("celu", _celu, _CELU, "alpha", parameters=_short_alpha),
    _op("selu", _selu, _SELU, kinks="at 0"),
    _op("hardswish", _hardswish, _HARDSWISH, kinks="at -3 and 3"),
    _op("softplus", _softplus, _CALCULUS, "beta", parameters=_beta),
    _op("glu", _glu, "product rule", "dim", parameters=_even_dim),
)

_SMOOTH = (
    _op("silu", _silu, "product rule"),
    _op("gelu", _gelu_exact, _GELU, forward=_gelu_exact_forward),
    _op(
        "gelu_tanh",
        _gelu_tanh,
        _GELU,
        forward=_gelu_tanh_forward,
        code="torch.nn.functional.gelu({0}, approximate='tanh')",
    ),
    _op("softsign", _softsign, "quotient rule"),
    _op("mish", _mish, "product rule"),
    _op("logsigmoid", _logsigmoid, _CALCULUS),
    _op("tanhshrink", _tanhshrink, _CALCULUS),
)

OPS = (*_LINEAR_PIECES, *_SMOOTH_PIECES, *_SMOOTH)
