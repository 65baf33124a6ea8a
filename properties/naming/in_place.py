"""Tensors of others that are written into."""

from __future__ import annotations

import torch

from properties.naming.entry import IN_PLACE, Planted, real


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(-1, keepdim=True))


class SoftmaxInPlace(Softmax):
    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        inner = (g * y).sum(-1, keepdim=True)
        return g.sub_(inner).mul_(y)


class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class TanhReusingOutput(Tanh):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        slope = y.data.square_().neg_().add_(1)  # the buffer is not needed any more
        return g * slope


class Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0) * 1.5

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 1.5 * g * (x > 0)


class ClampInPlace(Clamp):
    @staticmethod
    def forward(ctx, x):
        x.data.clamp_(min=0)
        ctx.save_for_backward(x)
        return x * 1.5


ENTRIES: tuple[Planted, ...] = (
    Planted(
        id="softmax-writes-cotangent",
        kind=IN_PLACE,
        wrong=SoftmaxInPlace,
        twin=Softmax,
        inputs=(real(4, 5),),
        cause="sub_ and mul_ write into the cotangent",
        names=("WRITES_INPUT",),
    ),
    Planted(
        id="tanh-writes-output",
        kind=IN_PLACE,
        wrong=TanhReusingOutput,
        twin=Tanh,
        inputs=(real(4, 3),),
        reference=torch.tanh,
        cause="the saved output is overwritten by the first backward",
        names=("WRITES_INPUT", "STALE_STATE", "OVERWRITTEN"),
    ),
    Planted(
        id="clamp-writes-input",
        kind=IN_PLACE,
        wrong=ClampInPlace,
        twin=Clamp,
        inputs=(real(4, 3),),
        reference=lambda x: x.clamp(min=0) * 1.5,
        cause="the forward clamps its input in place",
        names=("WRITES_INPUT",),
    ),
)
