"""Elementwise functions of PyTorch: smooth ones, ones with kinks, jumps or edges; some with a second formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from properties.drawing import Arg, Entry

S = torch.special


def _one(name, function, *, low=None, high=None, at=(0.0,), reference=None):
    arg = Arg(low=low, high=high, specials=tuple(at))
    return Entry(name=name, function=function, args=(arg,), reference=reference)


def _two(name, function, *, first=None, second=None, reference=None):
    args = (first or Arg(), second or Arg())
    return Entry(name=name, function=function, args=args, reference=reference, family="binary")


SMOOTH = [
    _one("sin", torch.sin),
    _one("cos", torch.cos),
    _one("tan", torch.tan, low=-1.5, high=1.5),
    _one("asin", torch.asin, low=-1, high=1),
    _one("acos", torch.acos, low=-1, high=1),
    _one("atan", torch.atan),
    _one("sinh", torch.sinh),
    _one("cosh", torch.cosh),
    _one("tanh", torch.tanh, reference=lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
    _one("asinh", torch.asinh),
    _one("acosh", torch.acosh, low=1),
    _one("atanh", torch.atanh, low=-1, high=1),
    _one("exp", torch.exp),
    _one("exp2", torch.exp2, reference=lambda x: (x * torch.log(torch.tensor(2.0, dtype=x.dtype))).exp()),
    _one("expm1", torch.expm1),
    _one("log", torch.log, low=0),
    _one("log2", torch.log2, low=0, reference=lambda x: x.log() / torch.log(torch.tensor(2.0, dtype=x.dtype))),
    _one("log1p", torch.log1p, low=-1),
    _one("sqrt", torch.sqrt, low=0, reference=lambda x: x**0.5),
    _one("rsqrt", torch.rsqrt, low=0, reference=lambda x: 1 / x.sqrt()),
    _one("reciprocal", torch.reciprocal, reference=lambda x: 1 / x),
    _one("square", torch.square, reference=lambda x: x * x),
    _one("pow 3", lambda x: x**3, reference=lambda x: x * x * x),
    _one("pow 2.5", lambda x: x**2.5, low=0),
    _one("pow 0.3", lambda x: x**0.3, low=0),
    _one("pow -2", lambda x: x**-2, reference=lambda x: 1 / (x * x)),
    _one("sigmoid", torch.sigmoid, reference=lambda x: 1 / (1 + (-x).exp())),
    _one("logsigmoid", F.logsigmoid, reference=lambda x: -torch.logaddexp(-x, torch.zeros_like(x))),
    _one("silu", F.silu, reference=lambda x: x / (1 + (-x).exp())),
    _one("mish", F.mish, at=(0.0, 20.0), reference=lambda x: x * torch.tanh(F.softplus(x))),
    _one("gelu", F.gelu, reference=lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
    _one("gelu tanh", lambda x: F.gelu(x, approximate="tanh")),
    _one("softsign", F.softsign),
    _one("tanhshrink", F.tanhshrink, reference=lambda x: x - torch.tanh(x)),
    _one("erf", torch.erf),
    _one("erfc", torch.erfc),
    _one("erfinv", torch.erfinv, low=-1, high=1),
    _one("lgamma", torch.lgamma, low=0, at=(1.0, 2.0)),
    _one("digamma", torch.digamma, low=0.01, at=(1.0,)),
    _one("sinc", torch.sinc, at=(0.0, 1.0, 2.0)),
    _one("i0", torch.i0),
    _one("i0e", S.i0e),
    _one("i1", S.i1),
    _one("ndtr", S.ndtr),
    _one("log_ndtr", S.log_ndtr, at=(-1.0, 0.0)),
    _one("ndtri", S.ndtri, low=0.0, high=1.0, at=(0.5,)),
    _one("entr", S.entr, low=0),
    _one("logit", torch.logit, low=0.0, high=1.0, at=(0.5,), reference=lambda x: (x / (1 - x)).log()),
    _one("sin 50x", lambda x: torch.sin(50 * x)),
    _one("polynomial", lambda x: 1 + x - 3 * x * x + x**5, at=(0.0, 1.0)),
]

KINKY = [
    _one("relu", F.relu, reference=lambda x: (x + x.abs()) / 2),
    _one("leaky_relu", lambda x: F.leaky_relu(x, 0.1), reference=lambda x: torch.where(x >= 0, x, 0.1 * x)),
    _one("relu6", F.relu6, at=(0.0, 6.0), reference=lambda x: torch.minimum(torch.relu(x), torch.full_like(x, 6.0))),
    _one("elu", F.elu, reference=lambda x: torch.where(x > 0, x, torch.expm1(x.clamp(max=0)))),
    _one("celu", lambda x: F.celu(x, 0.7)),
    _one("selu", F.selu),
    _one("hardtanh", F.hardtanh, at=(-1.0, 1.0), reference=lambda x: ((x + 1).abs() - (x - 1).abs()) / 2),
    _one("hardsigmoid", F.hardsigmoid, at=(-3.0, 3.0)),
    _one("hardswish", F.hardswish, at=(-3.0, 3.0)),
    _one("softshrink", F.softshrink, at=(-0.5, 0.5)),
    _one("hardshrink", F.hardshrink, at=(-0.5, 0.5)),
    _one("threshold", lambda x: F.threshold(x, 0.25, -1.0), at=(0.25,)),
    _one("softplus", F.softplus, at=(20.0, 0.0), reference=lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    _one("abs", torch.abs, reference=lambda x: torch.where(x >= 0, x, -x)),
    _one("sign", torch.sign),
    _one(
        "clamp",
        lambda x: x.clamp(-1, 0.5),
        at=(-1.0, 0.5),
        reference=lambda x: torch.where(x < -1, -1.0, x).minimum(torch.full_like(x, 0.5)),
    ),
    _one("round", torch.round, at=(-0.5, 0.5, 1.5)),
    _one("floor", torch.floor, at=(-1.0, 0.0, 1.0)),
    _one("trunc", torch.trunc, at=(-1.0, 0.0, 1.0)),
    _one("frac", torch.frac, at=(-1.0, 0.0, 1.0), reference=lambda x: x - x.trunc()),
    _one("fmod", lambda x: torch.fmod(x, 0.75), at=(0.0, 0.75, -0.75)),
    _one("remainder", lambda x: torch.remainder(x, 0.75), at=(0.0, 0.75, -0.75)),
    _one("where", lambda x: torch.where(x > 0, x * x, -x), reference=lambda x: torch.relu(x) ** 2 + torch.relu(-x)),
    _one("nan_to_num", torch.nan_to_num),
    _one("sqrt abs", lambda x: x.abs().sqrt()),
    _one("x|x|", lambda x: x * x.abs()),
]

BINARY = [
    _two("mul", torch.mul, reference=lambda x, y: torch.einsum("ij,ij->ij", x, y)),
    _two("div", torch.div, second=Arg(specials=(1.0, -1.0, 1e-3)), reference=lambda x, y: x * (1 / y)),
    _two("maximum", torch.maximum, reference=lambda x, y: torch.where(x > y, x, y)),
    _two("minimum", torch.minimum, reference=lambda x, y: (x + y - (x - y).abs()) / 2),
    _two("fmax", torch.fmax),
    _two("atan2", torch.atan2),
    _two("hypot", torch.hypot, reference=lambda x, y: (x * x + y * y).sqrt()),
    _two("logaddexp", torch.logaddexp, reference=lambda x, y: (x.exp() + y.exp()).log()),
    _two("pow", torch.pow, first=Arg(low=0, specials=(0.0, 1.0)), second=Arg(specials=(0.0, 1.0, 2.0))),
    _two("xlogy", torch.xlogy, second=Arg(low=0, specials=(0.0, 1.0))),
    _two("xlog1py", S.xlog1py, second=Arg(low=-1, specials=(0.0,))),
    _two("copysign", torch.copysign),
    _two("lerp", lambda x, y: torch.lerp(x, y, 0.3), reference=lambda x, y: x + 0.3 * (y - x)),
    _two("smooth_l1", lambda x, y: F.smooth_l1_loss(x, y, reduction="none"), second=Arg(specials=(1.0, -1.0, 0.0))),
    _two("huber", lambda x, y: F.huber_loss(x, y, reduction="none"), second=Arg(specials=(1.0, -1.0, 0.0))),
    _two("l1", lambda x, y: F.l1_loss(x, y), reference=lambda x, y: (x - y).abs().mean()),
    _two("mse", F.mse_loss, reference=lambda x, y: (x - y).square().mean()),
    _two(
        "prelu",
        lambda x, w: F.prelu(x, w.mean().reshape(1)),
        reference=lambda x, w: torch.where(x > 0, x, x * w.mean()),
    ),
    _two("addcmul", lambda x, y: torch.addcmul(x, x, y, value=0.5), reference=lambda x, y: x + 0.5 * x * y),
]

ENTRIES = [*SMOOTH, *KINKY, *BINARY]
