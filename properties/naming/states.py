"""What a call leaves behind for the next, and contributions that are added up or not."""

from __future__ import annotations

from typing import ClassVar

import torch

from gradharness import manual
from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import (
    ACCUMULATED,
    SAYS_COTANGENT,
    SAYS_TERM,
    STALE,
    Planted,
    function,
    of,
    real,
)

SILU = function(f.silu, f.silu_backward)


class OnClass(torch.autograd.Function):
    saved: ClassVar[list[torch.Tensor]] = [torch.zeros(())]

    @staticmethod
    def forward(ctx, x):
        OnClass.saved[0] = x
        return f.silu(x)

    @staticmethod
    def backward(ctx, g):
        return f.silu_backward(OnClass.saved[0], g)


_MASKS: dict[tuple[int, ...], torch.Tensor] = {}


class CachedMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = tuple(x.shape)
        if ctx.shape not in _MASKS:
            _MASKS[ctx.shape] = x > 0
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * _MASKS[ctx.shape]


class FreshMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        (positive,) = ctx.saved_tensors
        return g * positive


_BUFFERS: dict[tuple[object, ...], torch.Tensor] = {}


class ReusedBuffer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return f.silu(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        buffer = _BUFFERS.setdefault((x.shape, x.dtype), torch.empty(x.shape, dtype=x.dtype))
        return buffer.copy_(f.silu_backward(x, g))


class AddsUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.total = torch.zeros_like(x)
        return f.silu(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        ctx.total = ctx.total + f.silu_backward(x, g)
        return ctx.total


class LastNorm(torch.autograd.Function):
    """The inverse deviation is kept on the class, all else on the context."""

    rstd: ClassVar[list[torch.Tensor]] = [torch.zeros(())]

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        LastNorm.rstd[0] = (x.square().mean(-1, keepdim=True) + n.EPS).rsqrt()
        return n.rms_norm(x, w)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        r, gh = LastNorm.rstd[0], g * w
        return r * gh - r**3 * x * (gh * x).mean(-1, keepdim=True), (g * x * r).sum(0)


class Tied:
    """An autoencoder whose weight is used twice."""

    def __init__(self):
        self.w = torch.zeros(())

    def forward(self, x):
        self.x, self.h = x, torch.tanh(x @ self.w)
        return self.h @ self.w.mT

    def backward(self, g):
        self.dw = g.mT @ self.h
        gz = (g @ self.w) * (1 - self.h**2)
        self.dw = self.dw + self.x.mT @ gz
        self.dx = gz @ self.w.mT


class TiedAssigned(Tied):
    def backward(self, g):
        super().backward(g)
        self.dw = self.x.mT @ ((g @ self.w) * (1 - self.h**2))


class Recurrent:
    """tanh(x_t + h w), step by step."""

    def __init__(self):
        self.w = torch.zeros(())

    def forward(self, x):
        self.states = [torch.zeros_like(x[0])]
        for step in x:
            self.states.append(torch.tanh(step + self.states[-1] @ self.w))
        return self.states[-1]

    def backward(self, g):
        self.dw, made = torch.zeros_like(self.w), []
        for before, state in zip(self.states[-2::-1], self.states[:0:-1], strict=True):
            gz = g * (1 - state**2)
            self.update(before.mT @ gz)
            made.append(gz)
            g = gz @ self.w.mT
        self.dx = torch.stack(made[::-1])

    def update(self, dw):
        self.dw = self.dw + dw


class RecurrentAssigned(Recurrent):
    def update(self, dw):
        self.dw = dw


def _left(layer):
    return {"x": layer.dx, "w": layer.dw}


def residual(x):
    return x + torch.tanh(x)


def _residual_backward(x, g):
    return g + f.tanh_backward(x, g)


_RMS = function(n.rms_norm, n.rms_norm_backward)


def _state(id: str, wrong: object, twin: object, cause: str, *names: str, **rest) -> Planted:
    return Planted(id=id, kind=STALE, wrong=wrong, twin=twin, inputs=(real(4, 3),), cause=cause, names=names, **rest)


ENTRIES: tuple[Planted, ...] = (
    _state(
        "saved-on-class",
        OnClass,
        SILU,
        "x is kept on the class, where the next call replaces it",
        "STALE_STATE",
        "UNNOTICED_EDIT",
    ),
    _state(
        "mask-cached-by-shape",
        CachedMask,
        FreshMask,
        "the first call's mask serves all calls of its shape",
        "STALE_STATE",
    ),
    _state(
        "buffer-returned",
        ReusedBuffer,
        SILU,
        "the returned gradient is a buffer that the next call writes",
        "OVERWRITTEN",
        "STALE_STATE",
        reference=f.silu,
    ),
    _state(
        "context-adds-up",
        AddsUp,
        SILU,
        "the context adds the gradients of repeated backwards",
        "STALE_STATE",
        "NOT_ACCUMULATED",
        "ACCUMULATED",
        or_says="adds? up|accumul|second (backward|time)|called (again|twice)",
    ),
    Planted(
        id="norm-rstd-on-class",
        kind=STALE,
        wrong=LastNorm,
        twin=_RMS,
        inputs=(real(4, 3), real(3)),
        reference=n.rms_norm,
        cause="rstd is kept on the class",
        names=("STALE_STATE",),
    ),
    Planted(
        id="tied-weight-assigned",
        kind=ACCUMULATED,
        wrong=manual(TiedAssigned, gradients=_left, state=("w",)),
        twin=manual(Tied, gradients=_left, state=("w",)),
        inputs=(real(4, 3), real(3, 2)),
        cause="the second use of w overwrites the gradient of the first",
        names=("NOT_ACCUMULATED", "LOST_TERM"),
        or_says=r"\bw\b.*(accumul|overwrit|added|twice|use|contribution|term|lacks the part)",
    ),
    Planted(
        id="recurrent-weight-assigned",
        kind=ACCUMULATED,
        wrong=manual(RecurrentAssigned, gradients=_left, state=("w",)),
        twin=manual(Recurrent, gradients=_left, state=("w",)),
        inputs=(real(3, 2, 4), real(4, 4)),
        cause="each step overwrites the weight's gradient",
        names=("NOT_ACCUMULATED",),
        or_says=r"gradient of w is zero|\bw\b.*(accumul|overwrit|added|step|contribution)|more than one step",
    ),
    of(
        residual,
        _residual_backward,
        lambda x, g: f.tanh_backward(x, g),
        real(4, 3),
        told=True,
        id="residual-lost",
        kind=ACCUMULATED,
        cause="the residual path's cotangent is not added",
        names=("MISSING_TERM", "LOST_TERM"),
        or_says=f"{SAYS_TERM}|{SAYS_COTANGENT}",
    ),
    of(
        residual,
        _residual_backward,
        lambda x, g: 2 * g + f.tanh_backward(x, g),
        real(4, 3),
        id="residual-twice",
        kind=ACCUMULATED,
        cause="the residual path's cotangent is added twice",
        names=("EXTRA_TERM",),
        or_says=rf"{SAYS_COTANGENT}|part through `add`.*2 times",
    ),
    of(
        f.silu,
        f.silu_backward,
        lambda x, g: g * x.sigmoid(),
        real(4, 3),
        told=True,
        id="silu-one-path",
        kind=ACCUMULATED,
        cause="only one of the two paths from x is differentiated",
        names=("MISSING_TERM", "LOST_TERM"),
        or_says=r"missing (a |the )?term|sigmoid|lacks? ",
    ),
)
