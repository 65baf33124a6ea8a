"""Backwards written by hand, and right: one Function for each way of writing one."""

from __future__ import annotations

from typing import ClassVar

import numpy
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from properties.subjects import correct, normal

X = (3, 4)


class WithSetupContext(Function):
    @staticmethod
    def forward(x, y):
        return x * y.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y.sin(), g * x * y.cos()


class SavesItsOutput(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class Recomputes(Function):
    """Runs its forward again under autograd."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        with torch.no_grad():
            return (x @ w).relu().square()

    @staticmethod
    def backward(ctx, g):
        leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            y = (leaves[0] @ leaves[1]).relu().square()
        return torch.autograd.grad(y, leaves, g)


class RecomputesOnce(Recomputes):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return Recomputes.backward(ctx, g)


class OnceDifferentiable(SavesItsOutput):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g.clone().mul_(1 - y * y)


class WithNumpy(Function):
    """numpy in forward and backward."""

    @staticmethod
    def forward(ctx, x):
        array = x.detach().cpu().numpy()
        ctx.array = numpy.array(array)
        return torch.from_numpy(numpy.array(numpy.sin(array) * array)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        slope = numpy.sin(ctx.array) + ctx.array * numpy.cos(ctx.array)
        return g * torch.from_numpy(numpy.asarray(slope)).to(g.dtype)


class StaticScratch(Function):
    """Works in memory that lives on the class, and returns its own."""

    scratch: ClassVar[dict] = {}

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        key = tuple(x.shape), x.dtype
        buffer = StaticScratch.scratch.setdefault(key, torch.empty(x.shape, dtype=x.dtype))
        torch.exp(x, out=buffer)
        return buffer.mul_(g).clone()


class MarksDirty(Function):
    """Works in its input and says so."""

    @staticmethod
    def forward(ctx, x):
        x.mul_(3)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return 3 * g


def marks_dirty(x):
    return MarksDirty.apply(x.clone())


class NonDifferentiableOutput(Function):
    @staticmethod
    def forward(ctx, x):
        values, places = x.sort(dim=-1, stable=True)
        ctx.save_for_backward(places)
        ctx.mark_non_differentiable(places)
        return values, places

    @staticmethod
    def backward(ctx, g, _):
        (places,) = ctx.saved_tensors
        return torch.zeros_like(g).scatter(-1, places, g)


class NoZeros(Function):
    """Gets None for outputs without a cotangent."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, y)
        return x * y, x + y

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        if g is None:
            return h, h
        return (g * y, g * x) if h is None else (g * y + h, g * x + h)


class SeveralOutputs(Function):
    @staticmethod
    def forward(ctx, x):
        mean, centred = x.mean(-1, keepdim=True), x - x.mean(-1, keepdim=True)
        ctx.save_for_backward(centred)
        return mean, centred, centred.square().sum(-1)

    @staticmethod
    def backward(ctx, g, h, k):
        (centred,) = ctx.saved_tensors
        inner = h + 2 * centred * k[..., None]
        return inner - inner.mean(-1, keepdim=True) + (g / centred.shape[-1]).expand_as(centred)


class HonoursNeeds(Function):
    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return torch.addmm(b, x, w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        gx = g @ w.mT if needs[0] else None
        return gx, x.mT @ g if needs[1] else None, g.sum(0) if needs[2] else None


class ColumnMajor(Function):
    """Returns an output and a gradient whose first axis is the fastest."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.mT.contiguous().square().mT

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (2 * x.mT.contiguous() * g.mT.contiguous()).mT


class ExpandsItsGradient(Function):
    """Returns a gradient of stride zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.sum()

    @staticmethod
    def backward(ctx, g):
        return g.expand(ctx.shape)


class Contiguous(Function):
    """Reads flat memory, after making it so."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.contiguous())
        return (x.contiguous().view(-1) ** 3).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (3 * x.view(-1).square() * g.contiguous().view(-1)).view(x.shape)


class OwnBuffers(Function):
    """In place throughout, on memory of its own."""

    @staticmethod
    def forward(ctx, x, y):
        total = x.clone()
        total.mul_(y).add_(x)
        ctx.save_for_backward(x, y)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        gx = g.clone().mul_(y).add_(g)
        return gx, torch.empty_like(g).copy_(g).mul_(x)


class Kahan(Function):
    """A compensated sum."""

    @staticmethod
    def forward(ctx, x):
        total, lost = x.new_zeros(x.shape[1:]), x.new_zeros(x.shape[1:])
        for one in x:
            term = one - lost
            new = total + term
            lost, total = (new - total) - term, new
        ctx.count = len(x)
        return total

    @staticmethod
    def backward(ctx, g):
        return g.unsqueeze(0).repeat(ctx.count, *[1] * g.dim())


class SavesNothing(Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x * scale

    @staticmethod
    def backward(ctx, g):
        return g * ctx.scale, None


class SavesAMask(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def backward(ctx, g):
        (positive,) = ctx.saved_tensors
        return torch.where(positive, g, 0.1 * g)


class DrawsAMask(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mask = (torch.rand_like(x) < 0.5).to(x.dtype) * 2
        return x * ctx.mask

    @staticmethod
    def backward(ctx, g):
        return g * ctx.mask


class WithJvp(Function):
    """Brings forward mode as well."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.cos()

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return t * x.cos()


class WithVmap(Function):
    """Brings a rule for vmap."""

    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y

    @staticmethod
    def vmap(info, in_dims, x):
        return WithVmap.apply(x), in_dims[0]


class GeneratesVmap(WithSetupContext):
    generate_vmap_rule = True


class ComplexProduct(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y.conj(), g * x.conj()


class ComplexSquare(Function):
    """|z|², real of complex."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return (z * z.conj()).real

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return 2 * g * z


Z = normal(3, 4, dtype=torch.complex128)

SUBJECTS = [
    correct("style: setup_context", WithSetupContext, X, X),
    correct("style: saves its output", SavesItsOutput, {"x": "n d"}),
    correct("style: recomputation", RecomputesOnce, X, (4, 2)),
    correct("style: once differentiable", OnceDifferentiable, X),
    correct("style: numpy", WithNumpy, X),
    correct("style: static scratch memory", StaticScratch, X),
    correct("style: mark_dirty", marks_dirty, X),
    correct("style: output without gradient", NonDifferentiableOutput, X),
    correct("style: no zeros for missing cotangents", NoZeros, X, X),
    correct("style: several outputs", SeveralOutputs, X),
    correct("style: needs_input_grad", HonoursNeeds, X, (4, 2), (2,)),
    correct("style: column-major", ColumnMajor, X),
    correct("style: gradient of stride zero", ExpandsItsGradient, X),
    correct("style: contiguous copies", Contiguous, X),
    correct("style: own buffers", OwnBuffers, X, X),
    correct("style: compensated sum", Kahan, (5, 3)),
    correct("style: plain argument", SavesNothing.apply, X, 2.5),
    correct("style: saves a mask", SavesAMask, X),
    correct("style: draws a mask", DrawsAMask, X),
    correct("style: jvp", WithJvp, X),
    correct("style: vmap rule", WithVmap, X),
    correct("style: generated vmap rule", GeneratesVmap, X, X),
    correct("style: complex product", ComplexProduct, Z, Z),
    correct("style: complex to real", ComplexSquare, Z),
]
