"""Rows 05, 13, 14, 33 and 36: regions of values, special points, complex numbers, a wrong forward."""

from dataclasses import replace

import torch

from tests.faults.planting import function, randn
from tests.faults.table.row import XY, Row, X, given, made, row, squares, uniform


def _norm(x):
    return x.square().sum(-1).sqrt()


def _norm_backward(x, g):
    return (g / _norm(x))[..., None] * x


def _norm_backward_safe(x, g):
    size = _norm(x)[..., None]
    return torch.where(size > 0, g[..., None] * x / torch.where(size > 0, size, 1.0), 0.0)


def _sigmoid_naive(x, g):
    e = x.exp()
    return g * e / (1 + e) ** 2


def _sigmoid_backward(x, g):
    s = x.sigmoid()
    return g * s * (1 - s)


def _lse(x):
    return x.logsumexp(-1)


def _lse_naive(x, g):
    e = x.exp()
    return g[..., None] * e / e.sum(-1, keepdim=True)


def _zero_row(g):
    x = torch.randn(3, 4, generator=g, dtype=torch.float64)
    x[1] = 0
    return (x,)


def _complex(g):
    return tuple(torch.randn(3, 4, generator=g, dtype=torch.complex128) for _ in range(2))


def _fixed(*numbers):
    return made(lambda g: (torch.tensor([numbers], dtype=torch.float64),))


NEGATIVE = squares("05a", "wrong for x < 0", lambda x, g: torch.where(x < 0, 3.0, 2.0) * x * g)
LARGE = squares("05c", "wrong for |x| > 10", lambda x, g: torch.where(x.abs() > 10, 3.0, 2.0) * x * g)
NORM = row("13a", "norm: NaN at 0", _norm, _norm_backward_safe, _norm_backward)
SIGMOID = row("14", "sigmoid: NaN at 800", lambda x: x.sigmoid(), _sigmoid_backward, _sigmoid_naive)
LSE = row("14b", "logsumexp: NaN at 1000", _lse, lambda x, g: g[..., None] * x.softmax(-1), _lse_naive)
CONJUGATE = row(
    "33",
    "conjugate missing",
    lambda x, y: x * y,
    lambda x, y, g: (g * y.conj(), g * x.conj()),
    lambda x, y, g: (g * y, g * x),
    XY,
    warning=True,
)
EXP = function(lambda x: x.exp(), lambda x, g: g * x.exp())

ROWS = [
    NEGATIVE,
    Row("05b", "wrong for x < 0, inputs from rand", NEGATIVE.wrong, NEGATIVE.right, uniform(3, 4), warning=True),
    LARGE,
    given(LARGE, "large", randn((3, 4), scale=20)),
    NORM,
    Row("13b", "norm: NaN at 0, a zero row given", NORM.wrong, NORM.right, made(_zero_row)),
    SIGMOID,
    given(SIGMOID, "800", _fixed(800.0, -1.0, 0.5, 2.0)),
    LSE,
    given(LSE, "1000", _fixed(1000.0, 999.0, 0.5, 998.0)),
    CONJUGATE,
    replace(CONJUGATE, number="33 reference", reference=torch.mul, warning=False),
    Row("33b", "conjugate missing, complex inputs", CONJUGATE.wrong, CONJUGATE.right, made(_complex)),
    Row(
        "36",
        "forward wrong, backward consistent",
        function(lambda x: 1.01 * x.exp(), lambda x, g: 1.01 * g * x.exp()),
        EXP,
        X,
        reference=torch.exp,
        only_against_reference=True,
    ),
]
