"""Arguments that choose what is computed, and formulas that are simply others."""

from __future__ import annotations

import math

import torch

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import FORMULA, MODE, Planted, of, real


def squared_error(pred, target, reduction):
    d = (pred - target).square()
    return d.mean() if reduction == "mean" else d.sum()


def _squared_backward(pred, target, reduction, g):
    d = 2 * g * (pred - target)
    d = d / pred.numel() if reduction == "mean" else d
    return d, -d


def _always_mean(pred, target, reduction, g):
    return _squared_backward(pred, target, "mean", g)


def causal_attention(q, k, v, causal):
    return _weights(q, k, causal) @ v


def _weights(q, k, causal):
    s = q @ k.mT / q.shape[-1] ** 0.5
    if causal:
        later = torch.ones(s.shape, dtype=torch.bool).triu(1)
        s = s.masked_fill(later, -math.inf)
    return s.softmax(-1)


def _causal_backward(q, k, v, causal, g):
    p = _weights(q, k, causal)
    gp = g @ v.mT
    gs = p * (gp - (gp * p).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
    return gs @ k, gs.mT @ q, p.mT @ g


def _seeing_all(q, k, v, causal, g):
    return _causal_backward(q, k, v, False, g)  # noqa: FBT003


def power(x, squared):
    return x * x if squared else x * x * x


def total(x, keepdim):
    return x.square().sum(-1, keepdim=keepdim)


def _total_backward(x, keepdim, g):
    return 2 * x * (g if keepdim else g[..., None])


def sigmoid(x):
    return x.sigmoid()


def _gelu_tanh_slope(x, g):
    inner = (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)
    slope = (2 / math.pi) ** 0.5 * (1 + 3 * 0.044715 * x**2)
    return g * (0.5 * (1 + inner.tanh()) + 0.5 * x * (1 - inner.tanh() ** 2) * slope)


def quadratic(x, a):
    return (x @ a * x).sum(-1)


def _quadratic_backward(x, a, g):
    g = g[..., None]
    return g * (x @ a + x @ a.mT), x.mT @ (g * x)


def _symmetric(x, a, g):
    g = g[..., None]
    return 2 * g * (x @ a.mT), x.mT @ (g * x)


def _lstm_new_state(a, c, gh, gc):
    i, f_, o, u = a.chunk(4, 1)
    i, f_, o, u = i.sigmoid(), f_.sigmoid(), o.sigmoid(), u.tanh()
    new = f_ * c + i * u
    gnew = gc + gh * o * (1 - new.tanh() ** 2)
    gates = (gnew * u * i * (1 - i), gnew * new * f_ * (1 - f_), gh * new.tanh() * o * (1 - o), gnew * i * (1 - u * u))
    return torch.cat(gates, 1), gnew * f_


ENTRIES: tuple[Planted, ...] = (
    of(
        squared_error,
        _squared_backward,
        _always_mean,
        real(4, 3),
        real(4, 3),
        "sum",
        told=True,
        id="reduction-always-mean",
        kind=MODE,
        cause="the backward divides whatever the reduction is",
        names=("WRONG_FOR_ARGUMENT", "CONSTANT_FACTOR"),
        says=r"reduction|numel|elements|number",
    ),
    of(
        n.softmax_along,
        n.softmax_along_backward,
        lambda x, dim, g: n.softmax_along_backward(x, -1, g),
        real(4, 5),
        0,
        told=True,
        id="softmax-dim-ignored",
        kind=MODE,
        cause="the backward sums along the last axis whatever dim is",
        names=("WRONG_FOR_ARGUMENT", "WRONG_AXIS", "WRONG_DIM"),
        says=r"\bdim\b|axis",
    ),
    of(
        causal_attention,
        _causal_backward,
        _seeing_all,
        real(4, 3),
        real(4, 3),
        real(4, 2),
        True,  # noqa: FBT003
        id="causal-ignored",
        kind=MODE,
        cause="the backward makes the weights without the causal mask",
        names=("WRONG_FOR_ARGUMENT",),
        says=r"\bcausal\b",
        or_says=r"\bcausal\b.*True",
    ),
    of(
        causal_attention,
        _causal_backward,
        _seeing_all,
        real(4, 3),
        real(4, 3),
        real(4, 2),
        False,  # noqa: FBT003
        told=True,
        id="causal-ignored-off",
        kind=MODE,
        cause="the backward makes the weights without the causal mask",
        names=("WRONG_FOR_ARGUMENT",),
        says=r"\bcausal\b",
    ),
    of(
        total,
        _total_backward,
        lambda x, keepdim, g: 2 * x * g,
        real(4, 4),
        True,  # noqa: FBT003
        id="total-keepdim-assumed",
        kind=MODE,
        cause="the backward takes keepdim=True for granted",
        names=("WRONG_FOR_ARGUMENT", "BACKWARD_RAISES"),
        says=r"keepdim|False|size",
    ),
    of(
        power,
        lambda x, squared, g: g * (2 * x if squared else 3 * x * x),
        lambda x, squared, g: g * 2 * x,
        real(4, 3),
        True,  # noqa: FBT003
        id="power-always-squared",
        kind=MODE,
        cause="the backward differentiates the square in both cases",
        names=("WRONG_FOR_ARGUMENT",),
        says=r"\bsquared\b",
    ),
    of(
        f.tanh,
        f.tanh_backward,
        lambda x, g: g * (1 - x.tanh()),
        real(4, 3),
        told=True,
        id="tanh-unsquared",
        kind=FORMULA,
        cause="1 - y in place of 1 - y²",
        or_says=r"1 ?[-−–] ?y|1 ?/ ?\(1 ?\+|function of (x|y|the output)|`x.tanh\(\)`.*lacks the factor the output",
    ),
    of(
        sigmoid,
        lambda x, g: g * x.sigmoid() * (1 - x.sigmoid()),
        lambda x, g: g * x * (1 - x),
        real(4, 3),
        id="sigmoid-of-input",
        kind=FORMULA,
        cause="x(1 - x) in place of y(1 - y)",
        or_says=r"function of x|x ?\(1 ?[-−–] ?x\)|polynomial|outgrow",
    ),
    of(
        f.gelu,
        f.gelu_backward,
        _gelu_tanh_slope,
        real(4, 3),
        id="gelu-tanh-for-erf",
        kind=FORMULA,
        cause="the derivative of the tanh approximation for the exact function",
        or_says=r"approximat|function of x",
    ),
    of(
        quadratic,
        _quadratic_backward,
        _symmetric,
        real(4, 3),
        real(3, 3),
        told=True,
        id="quadratic-symmetric",
        kind=FORMULA,
        cause="2 A x in place of (A + A.T) x: the matrix is taken to be symmetric",
        names=("TRANSPOSED",),
        or_says=r"symmetr|transpos",
    ),
    of(
        n.lstm_cell,
        n.lstm_cell_backward,
        _lstm_new_state,
        real(3, 8),
        real(3, 2),
        told=True,
        id="lstm-new-cell-state",
        kind=FORMULA,
        cause="the forget gate's gradient has the new cell state where the old one is due",
        or_says=r"\ba\b.*(columns?|ind(ex|ices)|chunk|slice|block)|takes output\[1\] where c is due",
    ),
)
