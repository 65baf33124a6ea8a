"""Rows 09 to 12: second derivatives, memory, which gradients are wanted, what is returned."""

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tests.faults.table.row import XY, Square, classes, given, row


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class ExpIntermediate(Function):
    """exp(x) computed once and kept: a second derivative takes it for a constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = x.exp()
        return ctx.kept.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.kept


class ExpCycle(Exp):
    """Output and node hold each other."""

    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.y


class Detaches(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * g


class UsesNumpy(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(2 * x.detach().numpy() * g.detach().numpy())


class UsesNumpyOnce(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(2 * x.numpy() * g.numpy())


class SquareOnce(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Matmul(Function):
    """Computes what is asked for."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x @ y.mT

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        needs_x, needs_y = ctx.needs_input_grad
        return g @ y.conj() if needs_x else None, g.mT @ x.conj() if needs_y else None


class OneNeeded(Matmul):
    """Doubles the first gradient where the second is not asked for."""

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return 2 * g @ y.conj(), None
        return g @ y.conj(), g.mT @ x.conj()


class Wasteful(Matmul):
    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g @ y.conj(), g.mT @ x.conj()


def _first_only():
    x, y = XY()
    return x, y.detach()


def _product_backward(x, y, g):
    return g * y.conj(), g * x.conj()


def _narrow(g):
    return torch.complex64 if g.is_complex() else torch.float32


def product(number, name, wrong, **rest):
    return row(number, name, lambda x, y: x * y, _product_backward, wrong, XY, **rest)


ONE = classes("11a", "wrong where only the first input is differentiated", OneNeeded, Matmul, XY)

ROWS = [
    classes("09a", "intermediate as an attribute: second derivative wrong", ExpIntermediate, Exp),
    classes("09b", "output as an attribute: reference cycle", ExpCycle, Exp, warning=True),
    classes("10a", "detach in backward", Detaches, SquareOnce),
    classes("10b", "numpy in backward", UsesNumpy, UsesNumpyOnce),
    ONE,
    given(ONE, "second without gradient", _first_only),
    classes("11b", "needs_input_grad ignored", Wasteful, Matmul, XY, warning=True),
    product("11c", "None for a needed input", lambda x, y, g: (g * y.conj(), None)),
    product("12a", "float32 for float64", lambda x, y, g: ((g * y.conj()).to(_narrow(g)), g * x.conj())),
    product("12b", "wrong shape", lambda x, y, g: (g * y.conj(), (g * x.conj()).mT)),
    product(
        "12c", "extra leading dimension", lambda x, y, g: (g * y.conj(), torch.stack([g * x.conj(), g * x.conj()]))
    ),
    product("12d", "wrong device", lambda x, y, g: (g * y.conj(), (g * x.conj()).to("meta"))),
]
