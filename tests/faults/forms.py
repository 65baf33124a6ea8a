"""Faults in subjects of other forms: custom ops, nested inputs, several outputs by name, complex numbers."""

import torch
from torch.autograd.function import once_differentiable

from gradharness.model.verdict import Fault
from tests.faults.planting import Planted, function, planted, randn

X = randn((3, 4))


@torch.library.custom_op("gradharness_tests::half_square", mutates_args=())
def half_square(x: torch.Tensor) -> torch.Tensor:
    return x * x / 2


@torch.library.custom_op("gradharness_tests::half_square_wrong", mutates_args=())
def half_square_wrong(x: torch.Tensor) -> torch.Tensor:
    return x * x / 2


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


half_square.register_autograd(lambda ctx, g: g * ctx.saved_tensors[0], setup_context=_keep)
half_square_wrong.register_autograd(lambda ctx, g: 2 * g * ctx.saved_tensors[0], setup_context=_keep)

PRODUCT = function(lambda a, b: a * b.exp(), lambda a, b, g: (g * b.exp(), g * a * b.exp()))
WRONG_PRODUCT = function(lambda a, b: a * b.exp(), lambda a, b, g: (g * b.exp(), g * b.exp()))
SINE = function(lambda x: (x.sin(), x.exp()), lambda x, g, h: g * x.cos() + h * x.exp())
WRONG_SINE = function(lambda x: (x.sin(), x.exp()), lambda x, g, h: g * x.cos())


def in_list(product):
    """A subject whose tensors come in a list."""
    return lambda tensors: product(tensors[0], tensors[1])


def by_name(two):
    """A subject whose outputs come in a dict."""
    return lambda x: dict(zip(("sin", "exp"), two(x), strict=True))


def listed():
    return (list(randn((3, 4), (3, 4))()),)


def complex_pair():
    g = torch.Generator().manual_seed(1)
    drawn = (torch.randn((3, 4), generator=g, dtype=torch.complex128) for _ in range(2))
    return tuple(x.requires_grad_() for x in drawn)


class Stale(torch.autograd.Function):
    """The output that it keeps is changed before it is returned."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.kept = y
        return y.mul_(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g * (1 - ctx.kept**2)


class Kept(Stale):
    """It keeps a copy."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.kept = y.clone()
        return y.mul_(2)


class Rows(torch.nn.Module):
    """A module around a Function."""

    def __init__(self, square):
        super().__init__()
        self.square = square

    def forward(self, x):
        return self.square(x).sum(0)


FAULTS = [
    Planted(
        name="custom op, factor 2",
        wrong=half_square_wrong,
        right=half_square,
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("gradient of x is 2 times",),
    ),
    Planted(
        name="list of tensors",
        wrong=in_list(WRONG_PRODUCT),
        right=in_list(PRODUCT),
        inputs=listed,
        check="vjp",
        fault=Fault.SWAPPED_GRADIENTS,
        says=("gradient of tensors[1] is the gradient of tensors[0]",),
    ),
    Planted(
        name="dict of outputs, one dropped",
        wrong=by_name(WRONG_SINE),
        right=by_name(SINE),
        inputs=X,
        check="vjp",
        fault=Fault.OUTPUT_DROPPED,
        says=("output['exp']",),
    ),
    Planted(
        name="stale output kept",
        wrong=Stale,
        right=Kept,
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("`ctx.kept**2`", "1/4"),
    ),
    Planted(
        name="module around a Function",
        wrong=Rows(half_square_wrong),
        right=Rows(half_square),
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("is 2 times",),
    ),
    *planted(
        "conjugate missing",
        lambda x, y: x * y,
        lambda x, y, g: (g * y.conj(), g * x.conj()),
        lambda x, y, g: (g * y, g * x.conj()),
        forms="function pair",
        inputs=complex_pair,
        check="vjp",
        fault=Fault.MISSING_CONJUGATE,
        says=("gradient of x", "conjugate"),
    ),
    *planted(
        "complex gradient half as large",
        lambda x, y: x * y,
        lambda x, y, g: (g * y.conj(), g * x.conj()),
        lambda x, y, g: (g * y.conj() / 2, g * x.conj()),
        inputs=complex_pair,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("gradient of x is 1/2 times",),
    ),
]
PLAIN = {
    "elementwise": (lambda x: x.sin() * x.exp(), X),
    "two arguments": (lambda x, y: torch.cdist(x, y) + x.sum(), randn((3, 4), (3, 4))),
    "layer norm": (lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]), X),
    "kinks": (lambda x: x.relu() + x.abs().amax(-1, keepdim=True), X),
    "module": (torch.nn.Softplus(), X),
    "complex": (lambda x, y: (x * y).abs().sum(), complex_pair),
}
