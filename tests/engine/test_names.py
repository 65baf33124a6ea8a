"""What arguments are called, for every kind of subject."""

import pytest
import torch

from gradharness import manual, pair
from gradharness.engine.names import argument_names, check_names, signature_names
from gradharness.errors import SpecError
from gradharness.subjects import as_subject


class WithContext(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        return x * weight


class WithSetup(torch.autograd.Function):
    @staticmethod
    def forward(x, weight):
        return x * weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


class Layer:
    bias = torch.zeros(1)

    def forward(self, x, weight):
        return x * weight + self.bias

    def backward(self, w):
        self.dx = w


def loss(output, target, scale=1.0):
    return ((output - target) ** 2).sum() * scale


def free(obj, x):
    return obj.forward(x, 2.0)


NAMES = {
    "function": (lambda a, b: a, ("a", "b")),
    "function with ctx": (WithContext, ("x", "weight")),
    "apply": (WithContext.apply, ("x", "weight")),
    "function with setup_context": (WithSetup, ("x", "weight")),
    "pair": (pair(lambda p, q: p, lambda p, q, w: w), ("p", "q")),
    "manual": (manual(Layer, gradients=vars), ("x", "weight")),
    "manual with state": (manual(Layer, gradients=vars, state=("bias",)), ("x", "weight", "bias")),
    "manual with loss": (manual(Layer, gradients=vars, loss=loss), ("x", "weight", "target")),
    "manual with a callable": (manual(Layer, forward=free, gradients=vars, state=("bias",)), ("x", "bias")),
    "variable arguments": (lambda *xs: xs[0], None),
    "builtin without a signature": (torch.sin, None),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_come_from_the_signature(name):
    subject, expected = NAMES[name]
    assert signature_names(as_subject(subject)) == expected


def test_positions_stand_in_for_unknown_names():
    assert argument_names(as_subject(lambda *xs: xs[0]), 2) == ("argument 0", "argument 1")
    assert argument_names(as_subject(lambda x: x), 1) == ("x",)


def test_a_wrong_name_is_refused_with_the_closest_one():
    with pytest.raises(SpecError, match="did you mean 'weight'"):
        check_names(as_subject(WithContext), ("x", "wieght"))
    check_names(as_subject(WithContext), ("x",))
    check_names(as_subject(lambda *xs: xs[0]), ("anything",))
