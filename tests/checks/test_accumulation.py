"""Check ``accumulation``: gradients of several uses add up, and nothing of one is left in the next."""

from typing import ClassVar

import pytest
import torch
from torch.autograd.function import once_differentiable

from gradharness import Fault, Verdict, manual, pair
from tests.checks.repeating import Layer, Square, left, looked, statuses


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x


class OncePerTensor(Product):
    """Deals out one gradient for one tensor, and forgets that it may come twice."""

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, None if x is y else g * x


class InPlace(Square):
    """Works in the cotangent, which the other branch has as well."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.mul_(2 * x)


class Buffered(Square):
    """Gives a view of memory that it keeps: ``.grad`` may be that very memory."""

    buffers: ClassVar[dict] = {}

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        buffer = Buffered.buffers.setdefault((x.numel(), x.dtype), torch.empty(x.numel(), dtype=x.dtype))
        return torch.mul(2 * x, g, out=buffer.view(x.shape)).view(x.shape)


class AddsUp(Square):
    """Adds to what it left the last time."""

    sums: ClassVar[dict] = {}

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        key = x.shape, x.dtype
        AddsUp.sums[key] = AddsUp.sums.get(key, torch.zeros_like(x)) + 2 * x * g
        return AddsUp.sums[key]


FAULTY = [
    (OncePerTensor, Product, ((3, 4), (3, 4)), Fault.NOT_ACCUMULATED, "one tensor's gradient"),
    (InPlace, Square, ((3, 4),), Fault.NOT_ACCUMULATED, "x·1 + f(x)"),
    (Buffered, Square, ((3, 4),), Fault.OVERWRITTEN, "memory that it keeps"),
    (AddsUp, Square, ((3, 4),), Fault.NOT_ACCUMULATED, "holds what earlier calls left"),
]


@pytest.mark.parametrize(("wrong", "right", "shapes", "fault", "words"), FAULTY)
def test_a_faulty_function_is_found_and_its_twin_passes(wrong, right, shapes, fault, words):
    result = looked(wrong, "accumulation", *shapes)
    assert result.verdict is Verdict.FAIL
    finding = result.findings[0]
    assert finding.fault is fault
    assert words in finding.message
    assert statuses(finding, wrong, right) == (1, 0)
    assert looked(right, "accumulation", *shapes).verdict is Verdict.PASS


class SharedGradients(Layer):
    """All objects add to one dict, as a mutable default would."""

    shared: ClassVar[dict] = {}

    def put(self, name, value):
        key = name, value.shape
        self.shared[key] = self.shared.get(key, 0) + value
        self.grad[name] = self.shared[key]


class AddsTwice(Layer):
    """Adds the last round's gradient once more."""

    def put(self, name, value):
        old = self.grad.get(name)
        self.grad[name] = value if old is None else 2 * old + value


class Affine:
    """x @ w + b, whose weights are its own; adds up what it leaves for them."""

    def __init__(self):
        self.w, self.b = torch.ones(4, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        self.grad = {}

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, g):
        self.grad["x"] = g @ self.w.mT
        self.add("w", self.x.mT @ g)
        self.add("b", g.sum(0))

    def add(self, name, value):
        self.grad[name] = self.grad[name] + value if name in self.grad else value

    def zero_grad(self):
        self.grad.clear()


class BiasAssigned(Affine):
    def add(self, name, value):
        if name == "b":
            self.grad[name] = value
        else:
            super().add(name, value)


class ForgetsToZero(Affine):
    def zero_grad(self):
        self.grad.pop("w", None)


class Assigned(Affine):
    def add(self, name, value):
        self.grad[name] = value


def layer(cls):
    return manual(cls, gradients=left, state=("w", "b") if issubclass(cls, Affine) else ())


def shapes(cls):
    return ((3, 4), (4, 2), (2,)) if issubclass(cls, Affine) else ((3, 4), (4, 2))


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        (SharedGradients, Layer, "holds what earlier calls left"),
        (AddsTwice, Layer, "neither the second round's nor the sum"),
        (BiasAssigned, Affine, "overwrites the gradient of b, while that of w adds up"),
        (ForgetsToZero, Affine, "after zero_grad() the gradient of b"),
    ],
)
def test_a_faulty_layer_is_found_and_its_twin_passes(wrong, right, words):
    result = looked(layer(wrong), "accumulation", *shapes(wrong))
    assert result.verdict is Verdict.FAIL
    finding = result.findings[0]
    assert finding.fault is Fault.NOT_ACCUMULATED
    assert words in finding.message
    assert statuses(finding, wrong, right) == (1, 0)
    assert looked(layer(right), "accumulation", *shapes(right)).verdict is Verdict.PASS


@pytest.mark.parametrize("right", [Assigned])
def test_a_layer_that_assigns_all_passes(right):
    assert looked(layer(right), "accumulation", *shapes(right)).verdict is Verdict.PASS


SUMS = {}


def adding(x, g):
    SUMS[x.shape] = SUMS.get(x.shape, torch.zeros_like(x)) + 2 * x * g
    return SUMS[x.shape]


def alone(x, g):
    return 2 * x * g


def square(x):
    return x * x


def test_a_pair_that_adds_to_what_it_left():
    result = looked(pair(square, adding), "accumulation")
    assert result.verdict is Verdict.FAIL
    assert result.findings[0].fault is Fault.NOT_ACCUMULATED
    assert statuses(result.findings[0], adding, alone) == (1, 0)
    assert looked(pair(square, alone), "accumulation").verdict is Verdict.PASS


class Identity(torch.autograd.Function):
    """Returns its input, and its cotangent, as they are."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return g


def dropout(x):
    return torch.nn.functional.dropout(x, 0.5)


@pytest.mark.parametrize("right", [Identity, dropout, torch.sin, lambda x: (x.sum(), x * 2)])
def test_right_and_unusual(right):
    assert looked(right, "accumulation").verdict is Verdict.PASS


class OwnWork(Square):
    """In place, in memory of its own."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.clone().mul_(x).mul_(2)


def test_in_place_in_its_own_memory_passes():
    assert looked(OwnWork, "accumulation").verdict is Verdict.PASS
