"""Faults in the formula itself: factors, signs, transposes, reductions, arguments taken for each other."""

import torch

from gradharness.model.verdict import Fault
from tests.faults.planting import planted, randn

X = randn((3, 4))


def square(x):
    return x * x


def linear(x, w, b):
    return x @ w + b


def linear_backward(x, w, b, g):
    return g @ w.T, x.T @ g, g.sum(0)


def _sum_of_squares(x):
    return (x * x).sum(1).mean()


def _alternating(x):
    return 1 + 0.05 * (-1.0) ** torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)


LINEAR = randn((3, 4), (4, 5), (5,))

FAULTS = [
    *planted(
        "factor 3 for 2",
        square,
        lambda x, g: 2 * x * g,
        lambda x, g: 3 * x * g,
        forms="function manual pair",
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("3/2",),
    ),
    *planted(
        "1.0005 times too large",
        lambda x: x.sin(),
        lambda x, g: g * x.cos(),
        lambda x, g: 1.0005 * g * x.cos(),
        forms="function manual",
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("1.0005",),
    ),
    *planted(
        "wrong sign",
        lambda x: x.cos(),
        lambda x, g: -g * x.sin(),
        lambda x, g: g * x.sin(),
        forms="function pair",
        inputs=X,
        check="vjp",
        fault=Fault.SIGN,
        says=("sign",),
    ),
    *planted(
        "gradient transposed",
        lambda x, w: x @ w,
        lambda x, w, g: (g @ w.T, x.T @ g),
        lambda x, w, g: (g @ w.T, g.T @ x),
        forms="function manual",
        inputs=randn((4, 4), (4, 4)),
        check="vjp",
        fault=Fault.TRANSPOSED,
        says=("gradient of w", "transposed"),
        elements=6,
    ),
    *planted(
        "w used where w.T is due",
        lambda x, w: x @ w,
        lambda x, w, g: (g @ w.T, x.T @ g),
        lambda x, w, g: (g @ w, x.T @ g),
        forms="function pair",
        inputs=randn((3, 4), (4, 4)),
        check="vjp",
        fault=Fault.TRANSPOSED,
        says=("gradient of x", "uses w where w transposed is due"),
        elements=6,
    ),
    *planted(
        "sum over broadcast rows missing",
        lambda x, b: x + b,
        lambda x, b, g: (g, g.sum(0)),
        lambda x, b, g: (g, g),
        forms="pair manual",
        inputs=randn((3, 4), (4,)),
        check="contract",
        fault=Fault.MISSING_REDUCTION,
        elements=4,
    ),
    *planted(
        "mean for sum",
        linear,
        linear_backward,
        lambda x, w, b, g: (g @ w.T, x.T @ g, g.mean(0)),
        forms="function manual",
        inputs=LINEAR,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("gradient of b", "1/the batch size"),
    ),
    *planted(
        "loss not divided by the batch size",
        _sum_of_squares,
        lambda x, g: 2 * x * g / len(x),
        lambda x, g: 2 * x * g,
        forms="function pair",
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("is the batch size",),
    ),
    *planted(
        "two arguments' gradients swapped",
        lambda x, y: x * y.sin(),
        lambda x, y, g: (g * y.sin(), g * x * y.cos()),
        lambda x, y, g: (g * x * y.cos(), g * y.sin()),
        forms="function pair",
        inputs=randn((3, 4), (3, 4)),
        check="vjp",
        fault=Fault.SWAPPED_GRADIENTS,
    ),
    *planted(
        "rolled by one position",
        square,
        lambda x, g: 2 * x * g,
        lambda x, g: (2 * x * g).roll(1, 0),
        forms="function manual",
        inputs=X,
        check="vjp",
        fault=Fault.WRONG_ELEMENTS,
        says=("shifted by one place",),
    ),
    *planted(
        "5 % too large and too small by turns",
        square,
        lambda x, g: 2 * x * g,
        lambda x, g: 2 * x * g * _alternating(x),
        inputs=X,
        check="vjp",
        fault=Fault.WRONG_ELEMENTS,
        says=("position",),
    ),
    *planted(
        "gradient zero where its scale is a millionth",
        lambda x: 1e-6 * x.sin(),
        lambda x, g: 1e-6 * g * x.cos(),
        lambda x, g: 0 * g,
        forms="function manual",
        inputs=X,
        check="vjp",
        fault=Fault.ZERO_GRADIENT,
    ),
    *planted(
        "gradient zero where its scale is a millionth, with a reference",
        lambda x: 1e-6 * x.sin(),
        lambda x, g: 1e-6 * g * x.cos(),
        lambda x, g: 0 * g,
        inputs=X,
        reference=lambda x: 1e-6 * torch.sin(x),
        check="vjp",
        fault=Fault.ZERO_GRADIENT,
    ),
    *planted(
        "one argument's small gradient is zero",
        lambda x, y: x.sin() + 1e-6 * y.sin(),
        lambda x, y, g: (g * x.cos(), 1e-6 * g * y.cos()),
        lambda x, y, g: (g * x.cos(), 0 * g),
        forms="function pair",
        inputs=randn((3, 4), (3, 4)),
        check="vjp",
        fault=Fault.ZERO_GRADIENT,
        says=("gradient of y",),
    ),
    *planted(
        "other function's derivative",
        lambda x: 2 * x.tanh(),
        lambda x, g: 2 * g * (1 - x.tanh() ** 2),
        lambda x, g: g * (2 - (2 * x.tanh()) ** 2),
        forms="function manual",
        inputs=X,
        check="vjp",
        fault=Fault.CONSTANT_FACTOR,
        says=("(2 * x.tanh()) ** 2", "1/2"),
    ),
]
