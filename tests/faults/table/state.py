"""Rows 06 to 08: what is kept between the calls, and what is written to."""

from typing import ClassVar

import torch
from torch.autograd import Function

from tests.faults.table.row import Square, classes


class Counter(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        ctx.calls = getattr(ctx, "calls", 0) + 1
        return 2 * ctx.calls * x * g


class OnTheClass(Square):
    """Keeps its input on the class: the last call's is used for all."""

    kept = None

    @staticmethod
    def forward(ctx, x):
        OnTheClass.kept = x
        return x * x

    @staticmethod
    def backward(ctx, g):
        kept = OnTheClass.kept
        return 2 * kept * g if kept.shape == g.shape else 2 * g


class StaticBuffer(Square):
    """Returns the same memory each time."""

    buffers: ClassVar[dict] = {}

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        key = x.shape, x.dtype
        buffer = StaticBuffer.buffers.setdefault(key, torch.empty(x.shape, dtype=x.dtype))
        with torch.no_grad():
            return torch.mul(2 * x, g, out=buffer)


class StaticScratch(Square):
    """Works in memory that it keeps, and returns its own."""

    buffers: ClassVar[dict] = {}

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        key = x.shape, x.dtype
        buffer = StaticScratch.buffers.setdefault(key, torch.empty(x.shape, dtype=x.dtype))
        return torch.mul(2 * x, g, out=buffer).clone()


class KeptAsAttribute(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.x * g


class InPlaceOnCotangent(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.mul_(2 * x)


class ZeroesCotangent(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gradient = 2 * x * g
        g.data.zero_()
        return gradient


class InPlaceOnSaved(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x.mul_(2) * g


class InPlaceOnSavedData(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x.data.mul_(2) * g


class ClampsItsInput(Function):
    @staticmethod
    def forward(ctx, x):
        x.data.clamp_(min=0)
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class ClampsACopy(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0).square()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x.clamp(min=0) * g


class ReturnsItsInput(Function):
    """Squares its input where it lies, and returns it, without saying so."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.clone())
        return x.square_()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


ROWS = [
    classes("06a", "second backward scaled", Counter, Square),
    classes("06b", "residual kept on the class", OnTheClass, Square),
    classes("06c", "static gradient buffer returned", StaticBuffer, StaticScratch),
    classes("06d", "input kept as an attribute of ctx", KeptAsAttribute, Square),
    classes("07a", "in place on the cotangent", InPlaceOnCotangent, Square),
    classes("07b", "cotangent set to zero after use", ZeroesCotangent, Square),
    classes("08a", "in place on a saved tensor", InPlaceOnSaved, Square),
    classes("08b", "in place on a saved tensor, through .data", InPlaceOnSavedData, Square),
    classes("08c", "forward clamps its input", ClampsItsInput, ClampsACopy),
    classes("08d", "forward returns its changed input", ReturnsItsInput, Square),
]
