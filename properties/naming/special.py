"""Special values, and second derivatives."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming.entry import SECOND, SPECIAL, Planted, function, of, real


def length(x):
    return x.norm(dim=-1)


def _length_backward(x, g):
    size = x.norm(dim=-1, keepdim=True)
    return torch.where(size > 0, g[..., None] * x / torch.where(size > 0, size, 1.0), 0.0)


def logsumexp(x):
    return x.logsumexp(-1)


def cumprod(x):
    return x.cumprod(-1)


def _cumprod_backward(x, g):
    """Element by element: the product of all the others up to each place."""
    made = []
    for i in range(x.shape[-1]):
        others = torch.cat([x[..., :i], torch.ones_like(x[..., :1]), x[..., i + 1 :]], -1).cumprod(-1)
        made.append((g * others)[..., i:].sum(-1))
    return torch.stack(made, -1) if made else torch.zeros_like(x)


def _cumprod_divided(x, g):
    return (g * x.cumprod(-1)).flip(-1).cumsum(-1).flip(-1) / x


class Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.sigmoid()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y * (1 - y)


class SigmoidKept(Sigmoid):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.sigmoid()
        return ctx.y.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.y * (1 - ctx.y)


class SlopeSaved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = x.sigmoid()
        ctx.save_for_backward(s * (1 + x * (1 - s)))
        return x * s

    @staticmethod
    def backward(ctx, g):
        (slope,) = ctx.saved_tensors
        return g * slope


def _detached(x, g):
    return f.silu_backward(x.detach(), g)


def sigmoid(x):
    return x.sigmoid()


ENTRIES: tuple[Planted, ...] = (
    of(
        length,
        _length_backward,
        lambda x, g: g[..., None] * x / x.norm(dim=-1, keepdim=True),
        real(4, 3),
        told=True,
        id="length-at-zero",
        kind=SPECIAL,
        cause="0 / 0 for a row of zeros",
        names=("NON_FINITE", "WRONG_AT_EXTREME"),
    ),
    of(
        sigmoid,
        lambda x, g: g * x.sigmoid() * (-x).sigmoid(),
        lambda x, g: g * (-x).exp() / (1 + (-x).exp()) ** 2,
        real(4, 3),
        id="sigmoid-overflow",
        kind=SPECIAL,
        cause="exp(-x) overflows for very negative x",
        names=("NON_FINITE", "WRONG_AT_EXTREME"),
    ),
    of(
        logsumexp,
        lambda x, g: g[..., None] * x.softmax(-1),
        lambda x, g: g[..., None] * x.exp() / x.exp().sum(-1, keepdim=True),
        real(4, 3),
        told=True,
        id="logsumexp-overflow",
        kind=SPECIAL,
        cause="exp(x) overflows for large x",
        names=("NON_FINITE", "WRONG_AT_EXTREME"),
    ),
    of(
        cumprod,
        _cumprod_backward,
        _cumprod_divided,
        real(3, 4),
        told=True,
        id="cumprod-divided-by-zero",
        kind=SPECIAL,
        cause="division by x where an element is zero",
        names=("NON_FINITE", "WRONG_AT_EXTREME"),
    ),
    of(
        f.softplus,
        f.softplus_backward,
        lambda x, g: g * x.exp() / (1 + x.exp()),
        real(4, 3),
        id="softplus-overflow",
        kind=SPECIAL,
        cause="exp(x) overflows for large x",
        names=("NON_FINITE", "WRONG_AT_EXTREME"),
    ),
    Planted(
        id="sigmoid-kept-on-context",
        kind=SECOND,
        wrong=SigmoidKept,
        twin=Sigmoid,
        inputs=(real(4, 3),),
        reference=torch.sigmoid,
        cause="the output is a constant to the second derivative",
        names=("SECOND_ORDER",),
    ),
    Planted(
        id="silu-slope-saved",
        kind=SECOND,
        wrong=SlopeSaved,
        twin=function(f.silu, f.silu_backward),
        inputs=(real(4, 3),),
        cause="the slope is saved and is a constant to the second derivative",
        names=("SECOND_ORDER",),
    ),
    of(
        f.silu,
        f.silu_backward,
        _detached,
        real(4, 3),
        told=True,
        id="silu-detached",
        kind=SECOND,
        cause="x is detached in the backward",
        names=("SECOND_ORDER",),
    ),
)
