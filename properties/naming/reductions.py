"""Sums that are missing, or too many."""

from __future__ import annotations

import torch

from gradharness import pair
from properties.naming import layers as n
from properties.naming.entry import (
    REDUCTION,
    Planted,
    manual_dense,
    of,
    real,
)


def add_bias(x, b):
    return x + b


def prelu(x, a):
    return torch.where(x > 0, x, a * x)


def scaled(x, s):
    return x * s


def _first_row(x, y, g):
    return g * y.conj(), (g * x.conj())[0]


def row_scaled(x, y):
    return x * y


def _bias_of_everything(x, w, b, g):
    gx, gw, gb = n.layer_norm_backward(x, w, b, g)
    return gx, gw, gb.sum().expand_as(b)


def _time_unsummed(x, w, b, g):
    gx, gw, _ = n.channel_norm_backward(x, w, b, g)
    return gx, gw, g[..., -1].sum(0)


_NORM = (real(5, 4), real(4), real(4))

ENTRIES: tuple[Planted, ...] = (
    Planted(
        id="bias-pair-unsummed",
        kind=REDUCTION,
        wrong=pair(add_bias, lambda x, b, g: (g, g)),
        twin=pair(add_bias, lambda x, b, g: (g, g.sum(0))),
        inputs=(real(4, 3), real(3)),
        reference=add_bias,
        cause="the bias's gradient is not summed over the rows",
        names=("MISSING_REDUCTION", "WRONG_SHAPE"),
        says=r"\bb\b",
    ),
    Planted(
        id="prelu-slope-unsummed",
        kind=REDUCTION,
        wrong=pair(prelu, lambda x, a, g: (torch.where(x > 0, g, a * g), torch.where(x > 0, 0.0, g * x))),
        twin=pair(prelu, lambda x, a, g: (torch.where(x > 0, g, a * g), torch.where(x > 0, 0.0, g * x).sum())),
        inputs=(real(4, 3), real()),
        cause="the shared slope's gradient is not summed",
        names=("MISSING_REDUCTION", "WRONG_SHAPE"),
    ),
    of(
        row_scaled,
        lambda x, y, g: (g * y.conj(), (g * x.conj()).sum(0)),
        _first_row,
        real(4, 3),
        real(3),
        told=True,
        id="row-scale-first-row",
        kind=REDUCTION,
        cause="the first row's product in place of the sum over the rows",
        names=("MISSING_REDUCTION",),
        or_says=r"\by\b.*(first|row|sum|reduc)",
    ),
    of(
        n.layer_norm,
        n.layer_norm_backward,
        _bias_of_everything,
        *_NORM,
        told=True,
        id="layer-norm-bias-over-summed",
        kind=REDUCTION,
        cause="the bias's gradient is summed over the features too",
        names=("OVER_SUMMED", "OVER_REDUCED", "EXCESS_REDUCTION"),
        or_says=r"\bb\b.*(summed|sum over|too many|reduc|equal|same (value|number)|constant along)",
    ),
    manual_dense(
        "dense-bias-unsummed",
        REDUCTION,
        "db is not summed over the rows",
        ("MISSING_REDUCTION", "WRONG_SHAPE"),
        r"\bb\b",
        db=lambda x, w, g: g,
    ),
    Planted(
        id="scalar-scale-half-summed",
        kind=REDUCTION,
        wrong=pair(scaled, lambda x, s, g: (g * s, (g * x).sum(-1))),
        twin=pair(scaled, lambda x, s, g: (g * s.conj(), (g * x.conj()).sum())),
        inputs=(real(4, 3), real()),
        cause="a scalar's gradient is summed along one axis of two",
        names=("MISSING_REDUCTION", "WRONG_SHAPE"),
    ),
    of(
        n.channel_norm,
        n.channel_norm_backward,
        _time_unsummed,
        real(3, 2, 4),
        real(2),
        real(2),
        id="channel-norm-bias-last-step",
        kind=REDUCTION,
        cause="the last step in place of the sum over the steps",
        names=("MISSING_REDUCTION",),
        or_says=r"\bb\b.*(last|sum|reduc|step)",
    ),
)
