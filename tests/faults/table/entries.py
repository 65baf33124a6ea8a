"""The faults in subjects that torch's tools take no notice of: modules, plain classes, pairs, nested inputs."""

import numpy
import torch

from gradharness import manual, pair
from tests.faults.planting import function, randn
from tests.faults.table.row import XY, Row, square

LINEAR = function(lambda x, w: x @ w, lambda x, w, g: (g @ w.mH, x.mH @ g))
NO_WEIGHT = function(lambda x, w: x @ w, lambda x, w, g: (g @ w.mH, 0 * (x.mH @ g)))
PRODUCT = function(lambda x, y: x * y, lambda x, y, g: (g * y.conj(), g * x.conj()))
WRONG_PRODUCT = function(lambda x, y: x * y, lambda x, y, g: (g * y.conj(), 2 * g * x.conj()))


class Layer(torch.nn.Module):
    """A module around a Function."""

    def __init__(self, product):
        super().__init__()
        self.product = product
        drawn = torch.randn(4, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.weight = torch.nn.Parameter(drawn)

    def forward(self, x):
        return self.product(x, self.weight)


class Plain:
    """A class without autograd."""

    factor = 2

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, g):
        self.dx = self.factor * self.x * g


class PlainWrong(Plain):
    factor = 3


class Array:
    """The same, in numpy."""

    factor = 2

    def forward(self, x):
        self.x = x.detach().numpy() if isinstance(x, torch.Tensor) else numpy.asarray(x)
        return torch.from_numpy(self.x * self.x)

    def backward(self, g):
        self.dx = torch.from_numpy(self.factor * self.x * numpy.asarray(g))


class ArrayWrong(Array):
    factor = 3


def _manual(layer):
    return manual(layer, gradients=lambda one: {"x": one.dx})


def _vjp(factor):
    return pair(square, lambda primals, cotangents: (factor * primals[0] * cotangents[0],))


def _listed():
    return (list(XY()),)


def _one_of_list(product):
    return lambda tensors: product(tensors[0], tensors[1])


def _scaled(product):
    return lambda x, y, *, scale=2.0: scale * product(x, y)


def _nested(product):
    return lambda x, y: {"product": product(x, y), "parts": (x + y, None, 1.5)}


ROWS = [
    Row("d1", "module: weight's gradient is zero", Layer(NO_WEIGHT), Layer(LINEAR)),
    Row("d1 w", "the same with the weight as an input", NO_WEIGHT, LINEAR, randn((3, 4), (4, 2))),
    Row("d2", "plain class, factor 3 for 2", _manual(PlainWrong), _manual(Plain)),
    Row("d3", "plain class in numpy, factor 3 for 2", _manual(ArrayWrong), _manual(Array)),
    Row("d4", "forward and vjp, factor 3 for 2", _vjp(3), _vjp(2)),
    Row("d5", "tensors in a list", _one_of_list(WRONG_PRODUCT), _one_of_list(PRODUCT), _listed),
    Row("d6", "nested output with None and a number", _nested(WRONG_PRODUCT), _nested(PRODUCT), XY),
    Row("d7", "keyword argument", _scaled(WRONG_PRODUCT), _scaled(PRODUCT), XY),
]
