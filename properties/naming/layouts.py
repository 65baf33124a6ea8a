"""What depends on strides, or on the graph around the node."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming.entry import (
    CONTEXT,
    LAYOUT,
    Planted,
    function,
    real,
)

SILU = function(f.silu, f.silu_backward)


class RowMajor(torch.autograd.Function):
    """Reads the cotangent as a kernel does that takes no strides."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return f.silu(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return f.silu_backward(x, _as_stored(g))


def _as_stored(t):
    flat = t.as_strided((t.untyped_storage().nbytes() // t.itemsize - t.storage_offset(),), (1,))
    flat = flat[: t.numel()] if flat.numel() >= t.numel() else flat[:1].expand(t.numel())
    return flat.reshape(t.shape)


class RowMajorPrimal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return f.silu(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return f.silu_backward(_as_stored(x), g)


def _flat_view(x, g):
    return f.silu_backward(x.reshape(-1), g.view(-1)).reshape(x.shape)


def _flat_primal(x, g):
    return f.silu_backward(x.view(-1), g.reshape(-1)).reshape(x.shape)


class GradedByLeaf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.inner = not x.is_leaf
        return f.silu(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gx = f.silu_backward(x, g)
        return gx / 2 if ctx.inner else gx  # half of it comes by the residual path


class LeavesAlone(torch.autograd.Function):
    """Weights are taken to be leaves."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        ctx.learns = w.is_leaf
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w.conj(), (g * x.conj()).sum(0) if ctx.learns else torch.zeros_like(w)


def row_scaled(x, w):
    return x * w


def _layout(id: str, wrong: object, cause: str, *names: str, **rest) -> Planted:
    return Planted(id=id, kind=LAYOUT, wrong=wrong, twin=SILU, inputs=(real(4, 3),), cause=cause, names=names, **rest)


ENTRIES: tuple[Planted, ...] = (
    _layout("cotangent-row-major", RowMajor, "the cotangent's strides are ignored", "LAYOUT", reference=f.silu),
    _layout("primal-row-major", RowMajorPrimal, "the primal's strides are ignored", "LAYOUT"),
    _layout(
        "cotangent-view",
        function(f.silu, _flat_view),
        "g.view(-1) raises for a transposed cotangent",
        "LAYOUT",
        "BACKWARD_RAISES",
        reference=f.silu,
    ),
    _layout(
        "primal-view",
        function(f.silu, _flat_primal),
        "x.view(-1) raises for a transposed primal",
        "LAYOUT",
        "BACKWARD_RAISES",
    ),
    Planted(
        id="no-leaf-no-gradient",
        kind=CONTEXT,
        wrong=LeavesAlone,
        twin=function(row_scaled, lambda x, w, g: (g * w.conj(), (g * x.conj()).sum(0))),
        inputs=(real(4, 3), real(3)),
        cause="w gets zeros where it is another node's output",
        names=("IN_CONTEXT",),
    ),
    Planted(
        id="halved-inside-graph",
        kind=CONTEXT,
        wrong=GradedByLeaf,
        twin=SILU,
        inputs=(real(4, 3),),
        cause="the gradient is halved where x is another node's output",
        names=("IN_CONTEXT",),
        reference=f.silu,
        or_says=r"not a leaf|inside a|larger graph|intermediate",
    ),
)
