"""Rows 17, 25 and 26: noise, several outputs, cotangents that are not used linearly."""

import numpy
import torch
from torch.autograd import Function

from tests.faults.table.row import X, classes, row, squares


def _noise(x, g, size):
    """Noise that no seed governs, as of atomic additions."""
    drawn = numpy.random.default_rng().standard_normal(tuple(x.shape))
    return 2 * x * g * (1 + size * torch.from_numpy(drawn).to(x.dtype))


def both(x):
    return x.sin(), x.exp()


def both_backward(x, g, h):
    return g * x.cos() + h * x.exp()


def two(number, name, wrong):
    return row(number, name, both, both_backward, wrong, X)


class NoZeros(Function):
    """Wants no zeros for outputs without a cotangent, and handles None."""

    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.exp()

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        parts = [w * d for w, d in ((g, x.cos()), (h, x.exp())) if w is not None]
        return sum(parts) if parts else None


class NoneUnhandled(NoZeros):
    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        return g * x.cos() + h * x.exp()


def nonlinear(number, name, wrong):
    return row(number, name, lambda x: x.exp(), lambda x, g: g * x.exp(), wrong, X)


ROWS = [
    squares("17a", "backward with noise of 1e-9", lambda x, g: _noise(x, g, 1e-9)),
    squares("17b", "backward with noise of 10 %", lambda x, g: _noise(x, g, 0.1)),
    two(
        "25a",
        "second output dropped where the first has a cotangent",
        lambda x, g, h: g * x.cos() if g.any() else h * x.exp(),
    ),
    two("25b", "product of two cotangents added", lambda x, g, h: both_backward(x, g, h) + g * h),
    classes("25c", "missing cotangent not handled", NoneUnhandled, NoZeros),
    nonlinear("26a", "absolute cotangent", lambda x, g: g.abs() * x.exp()),
    nonlinear("26b", "squared cotangent", lambda x, g: g * g * x.exp()),
    nonlinear("26c", "clamped cotangent", lambda x, g: g.clamp(-1, 1) * x.exp()),
    nonlinear("26d", "negative cotangents dropped", lambda x, g: g.relu() * x.exp()),
]
