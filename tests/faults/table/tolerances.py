"""The faults that hide in a tolerance or in one projection: small errors, one of many elements, tiny gradients."""

import torch

from tests.faults.planting import randn
from tests.faults.table.row import made, row, squares, uniform


def _scaled(factor):
    return lambda x, g: 2 * factor * x * g


def _one_wrong(factor):
    def wrong(x, g):
        gradient = (2 * x * g).reshape(-1)
        place = torch.arange(gradient.numel()) == gradient.numel() // 2
        return torch.where(place, factor * gradient, gradient).reshape(x.shape)

    return wrong


def _alternating(x, g):
    signs = 1 - 2 * (torch.arange(x.numel()) % 2).reshape(x.shape)
    return 2 * x * g * (1 + 0.05 * signs)


def _tiny(number, scale):
    return row(
        number,
        f"sign wrong, gradients of {scale:g}",
        lambda x: scale * x.sin(),
        lambda x, g: scale * g * x.cos(),
        lambda x, g: -scale * g * x.cos(),
    )


def _small(g):
    return (1e-3 * torch.randn(20, 20, generator=g, dtype=torch.float64),)


def _many(count):
    return uniform(count, low=0.5, high=1.5)


ROWS = [
    squares("c1", "9e-4 too large everywhere", _scaled(1.0009), uniform(3, 4, low=0.5, high=1.5)),
    squares("c2", "3 % too large, 1e4 elements", _scaled(1.03), _many(10_000)),
    squares("c3", "30 % too large, 1e5 elements", _scaled(1.3), _many(100_000)),
    squares("c4", "gradient zero, 3e5 elements", _scaled(0.0), _many(300_000)),
    squares("c5", "one element of a thousand twice too large", _one_wrong(2.0), _many(1000)),
    squares("c6", "one element of ten thousand a thousand times too large", _one_wrong(1000.0), _many(10_000)),
    squares("c7", "rolled by one position, 1e4 elements", lambda x, g: (2 * x * g).roll(1, 0), _many(10_000)),
    squares("c8", "5 % too large and too small by turns, 1000 elements", _alternating, _many(1000)),
    _tiny("c9", 1e-5),
    _tiny("c10", 1e-6),
    row(
        "c11",
        "gradient zero of a mean of 400 small squares",
        lambda x: x.square().mean(),
        lambda x, g: 2 * x * g / x.numel(),
        lambda x, g: 0 * x * g,
        made(_small),
    ),
    squares("c12", "1.0005 times too large", _scaled(1.0005)),
    squares("c13", "99 added, no elements given", lambda x, g: 2 * x * g + 99, randn((0, 4))),
    squares("c14", "one element of 400 wrong", _one_wrong(1.5), randn((20, 20))),
]
