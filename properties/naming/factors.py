"""A constant factor too many or too few."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import AVERAGED, FACTOR, Planted, manual_dense, of, real, whole

_COUNT = r"\bn\b|batch|size|count|number|rows|numel|mean|averag|length|elements"


def _doubled_weight(x, w, b, g):
    gx, gw, gb = n.linear_backward(x, w, b, g)
    return gx, 2 * gw, gb


def _half_of_mse(pred, target, g):
    d = g * (pred - target) / pred.numel()
    return d, -d


def _mse_per_row(pred, target, g):
    d = 2 * g * (pred - target) / len(pred)
    return d, -d


def _sum_of_rows(logits, target, g):
    return g * (logits.softmax(1) - F.one_hot(target, logits.shape[1]).to(logits))


def _unscaled_queries(q, k, v, g):
    p = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    gp = g @ v.mT
    gs = p * (gp - (gp * p).sum(-1, keepdim=True))
    return gs @ k, gs.mT @ q / q.shape[-1] ** 0.5, p.mT @ g


def heat(x, temperature):
    return (x / temperature).softmax(-1)


def _heat_backward(x, temperature, g):
    return f_softmax(x / temperature, g) / temperature


def f_softmax(z, g):
    y = z.softmax(-1)
    return y * (g - (g * y).sum(-1, keepdim=True))


def perplexity_bits(x):
    return x.sigmoid().log2()


def degrees(x):
    return torch.sin(x * math.pi / 180)


_LINEAR = (real(4, 3), real(5, 3), real(5))

_ROWS = (real(6, 4), whole(6, below=4))

ENTRIES: tuple[Planted, ...] = (
    of(
        n.linear,
        n.linear_backward,
        _doubled_weight,
        *_LINEAR,
        told=True,
        id="linear-weight-doubled",
        kind=FACTOR,
        cause="the weight's gradient is doubled",
        names=("CONSTANT_FACTOR",),
        says=r"\bw\b.*\b2(\.0)? times|twice",
    ),
    of(
        f.mse,
        f.mse_backward,
        _half_of_mse,
        real(4, 3),
        real(4, 3),
        id="mse-without-two",
        kind=FACTOR,
        cause="the 2 of the square's derivative is missing",
        names=("CONSTANT_FACTOR",),
        says=r"0\.5|1/2|½|half",
    ),
    of(
        f.mse,
        f.mse_backward,
        _mse_per_row,
        real(4, 3),
        real(4, 3),
        told=True,
        id="mse-divided-by-rows",
        kind=FACTOR,
        cause="the mean runs over all elements, the gradient is divided by the number of rows alone",
        names=AVERAGED,
        says=r"dim\w* 1|column|width|\bd\b|last",
    ),
    of(
        f.cross_entropy,
        f.cross_entropy_backward,
        _sum_of_rows,
        *_ROWS,
        id="cross-entropy-lost-batch-mean",
        kind=FACTOR,
        cause="the mean over the batch is missing in the gradient",
        names=AVERAGED,
        says=_COUNT + "|dim|shape",
    ),
    of(
        n.attention,
        n.attention_backward,
        _unscaled_queries,
        real(4, 3),
        real(5, 3),
        real(5, 2),
        told=True,
        id="attention-query-unscaled",
        kind=FACTOR,
        cause="the query's gradient lacks 1/sqrt(d)",
        names=("CONSTANT_FACTOR",),
        says=r"\bq\b.*(sqrt|√|root|\^|\*\*|½|0\.5|1\.73)",
    ),
    of(
        f.variance,
        f.variance_backward,
        lambda x, g: 2 * g[..., None] * f.deviation(x) / x.shape[-1],
        real(4, 5),
        id="variance-biased-backward",
        kind=FACTOR,
        cause="the forward divides by n - 1, the backward by n",
        names=("CONSTANT_FACTOR",),
        says=r"[-−–] ?1|n/\(n|correction|bessel|unbiased",
    ),
    of(
        heat,
        _heat_backward,
        lambda x, t, g: f_softmax(x / t, g),
        real(4, 3),
        2.5,
        told=True,
        id="softmax-temperature-forgotten",
        kind=FACTOR,
        cause="the chain rule's 1 / temperature is missing",
        names=("CONSTANT_FACTOR",),
        says=r"temperature|2\.5|5/2",
    ),
    of(
        f.avg_pool,
        f.avg_pool_backward,
        lambda x, k, g: k * f.avg_pool_backward(x, k, g),
        real(2, 9),
        3,
        id="average-pool-undivided",
        kind=FACTOR,
        cause="the gradient is not divided by the window's size k",
        names=AVERAGED,
        says=r"\bk\b|\b3(\.0)? times|window",
    ),
    of(
        perplexity_bits,
        lambda x, g: g * (-x).sigmoid() / math.log(2),
        lambda x, g: g * (-x).sigmoid(),
        real(4, 3),
        id="log2-as-natural-log",
        kind=FACTOR,
        cause="log2 is differentiated as the natural logarithm",
        names=("CONSTANT_FACTOR",),
        says=r"ln|log|0\.69",
    ),
    of(
        degrees,
        lambda x, g: g * torch.cos(x * math.pi / 180) * math.pi / 180,
        lambda x, g: g * torch.cos(x * math.pi / 180),
        real(4, 3, scale=40.0),
        told=True,
        id="degrees-inner-derivative",
        kind=FACTOR,
        cause="the inner derivative pi/180 is missing",
        names=("CONSTANT_FACTOR",),
        says=r"π|\bpi\b|57\.[23]",
    ),
    manual_dense(
        "dense-class-halved",
        FACTOR,
        "dw is half of what it should be",
        ("CONSTANT_FACTOR",),
        r"\bw\b.*(0\.5|1/2|½|half)",
        dw=lambda x, w, g: x.mT @ g / 2,
    ),
)
