"""Faults that show for some values, some places or some shapes only."""

import torch

from gradharness.model.verdict import Fault
from tests.faults.planting import planted, randn

X = randn((3, 4))


def local(name, wrong, **rest):
    """A fault of a smooth function's backward that hits some elements only."""
    return planted(
        name,
        lambda x: x.sin() + x,
        lambda x, g: g * (x.cos() + 1),
        lambda x, g: wrong(x, g * (x.cos() + 1)),
        **{"forms": "function manual", "inputs": X, "check": "vjp", "fault": Fault.WRONG_REGION, **rest},
    )


def _one_element(x, gradient):
    gradient = gradient.clone().reshape(-1)
    gradient[5731:5732] *= 1.001
    return gradient.reshape(x.shape)


def _block(x, gradient):
    return torch.where(torch.arange(x.numel()).reshape(x.shape) < 128, gradient, 0.0)


def _rows(x, gradient):
    return torch.where(torch.arange(len(x))[:, None] < 128, gradient, 0.0)


def _last_row(x, gradient):
    gradient = gradient.clone()
    gradient[-1:] = 0
    return gradient


def _naive(x, gradient):
    y = x.tanh()
    return gradient * (1 - y.abs()) / (1 - y.abs())


def _reject(condition, gradient):
    if condition:
        torch.zeros(2).view(3)
    return gradient


FAULTS = [
    *local("wrong for negative x", lambda x, d: torch.where(x < 0, 0.5 * d, d), says=("x < 0",)),
    *local("wrong for |x| > 10", lambda x, d: torch.where(x.abs() > 10, 0.0, d), says=("|x| >",)),
    *local(
        "one element of ten thousand",
        _one_element,
        forms="function",
        inputs=randn((100, 100)),
        fault=Fault.WRONG_ELEMENTS,
        says=("wrong in 1 of", "[57, "),
        elements=6000,
    ),
    *local(
        "one element of ten thousand, with a reference",
        _one_element,
        forms="function",
        inputs=randn((100, 100)),
        fault=Fault.WRONG_ELEMENTS,
        reference=lambda x: torch.sin(x) + x,
        says=("wrong in 1 of", "[57, "),
        elements=6000,
    ),
    *local("last row missing", _last_row, says=("dimension 0 is the last",)),
    *local("elements beyond a block lost", _block, check="shape", says=("128 or beyond",), elements=129),
    *local("rows beyond a block lost", _rows, check="shape", says=("dimension 0 is 128 or beyond",), elements=129),
    *local(
        "wrong for a leading size of one",
        lambda x, d: 2 * d if len(x) == 1 else d,
        check="shape",
        fault=Fault.WRONG_FOR_SHAPE,
        says=("size 1 in dimension 0",),
    ),
    *local("NaN where tanh saturates", _naive, fault=Fault.NON_FINITE, says=("nan",)),
    *local(
        "crash for size zero",
        lambda x, d: _reject(x.numel() == 0, d),
        check="shape",
        fault=Fault.BACKWARD_RAISES,
        elements=0,
    ),
    *local(
        "crash beyond four columns",
        lambda x, d: _reject(x.shape[-1] > 4, d),
        check="shape",
        fault=Fault.BACKWARD_RAISES,
        elements=5,
    ),
]
