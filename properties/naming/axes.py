"""Sums and means along the wrong axis."""

from __future__ import annotations

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import (
    AXES,
    AXIS,
    SAYS_AXIS,
    Planted,
    of,
    real,
)


def _batch_statistics(x, w, b, g):
    hat, r = n._hat(x, (-1,))
    gh = g * w
    gx = r * (gh - gh.mean(0, keepdim=True) - hat * (gh * hat).mean(0, keepdim=True))
    return gx, (g * hat).sum(0), g.sum(0)


def _over_everything(x, w, g):
    r = (x.square().mean(-1, keepdim=True) + n.EPS).rsqrt()
    gh = g * w
    return r * gh - r**3 * x * (gh * x).mean(), (g * x * r).sum(0)


def _over_rows(x, g):
    size = (x.square().sum(-1, keepdim=True) + n.EPS).sqrt()
    return g / size - x * (g * x).sum(0, keepdim=True) / size**3


def _over_batch_alone(x, w, b, g):
    hat, r = n._hat(x, (0, 2))
    gh = g * w[:, None]
    gx = r * (gh - gh.mean(0, keepdim=True) - hat * (gh * hat).mean(0, keepdim=True))
    return gx, (g * hat).sum((0, 2)), g.sum((0, 2))


def _softmax_over_rows(x, g):
    y = x.softmax(-1)
    return y * (g - (g * y).sum(0, keepdim=True))


_NORM = (real(5, 4), real(4), real(4))

ENTRIES: tuple[Planted, ...] = (
    of(
        n.softmax,
        n.softmax_backward,
        _softmax_over_rows,
        real(4, 5),
        told=True,
        id="softmax-sums-rows",
        kind=AXIS,
        cause="the inner product is summed along axis 0, not the last",
        names=AXES,
        or_says=SAYS_AXIS,
    ),
    of(
        n.layer_norm,
        n.layer_norm_backward,
        _batch_statistics,
        *_NORM,
        id="layer-norm-batch-means",
        kind=AXIS,
        cause="the two means run along the batch, not the features",
        names=AXES,
        or_says=SAYS_AXIS,
    ),
    of(
        n.log_softmax,
        n.log_softmax_backward,
        lambda x, g: g - x.softmax(-1) * g.sum(0, keepdim=True),
        real(4, 4),
        told=True,
        id="log-softmax-sums-rows",
        kind=AXIS,
        cause="the cotangent is summed along axis 0, not the last",
        names=AXES,
        or_says=SAYS_AXIS,
    ),
    of(
        n.rms_norm,
        n.rms_norm_backward,
        _over_everything,
        real(5, 4),
        real(4),
        id="rms-norm-mean-of-all",
        kind=AXIS,
        cause="the mean runs over all rows together, not along the last axis alone",
        names=AXES,
        or_says=SAYS_AXIS + "|all rows|over all|whole|across rows|rows",
    ),
    of(
        n.normalize,
        n.normalize_backward,
        _over_rows,
        real(4, 3),
        told=True,
        id="normalize-sums-rows",
        kind=AXIS,
        cause="the inner product is summed along axis 0, not the last",
        names=AXES,
        or_says=SAYS_AXIS,
    ),
    of(
        f.cumsum,
        f.cumsum_backward,
        lambda x, g: g.flip(0).cumsum(0).flip(0),
        real(4, 4),
        id="cumsum-other-axis",
        kind=AXIS,
        cause="the sum from the end runs along axis 0, not 1",
        names=(*AXES, "TRANSPOSED"),
        or_says=SAYS_AXIS,
    ),
    of(
        n.channel_norm,
        n.channel_norm_backward,
        _over_batch_alone,
        real(3, 2, 4),
        real(2),
        real(2),
        told=True,
        id="channel-norm-batch-alone",
        kind=AXIS,
        cause="the means run over the batch, and not over time as well",
        names=AXES,
        or_says=SAYS_AXIS,
    ),
    of(
        n.linear,
        n.linear_backward,
        lambda x, w, b, g: (g @ w, g.mT @ x, g.sum(1)),
        real(4, 3),
        real(4, 3),
        real(4),
        id="linear-bias-sums-features",
        kind=AXIS,
        cause="the bias's gradient is summed along axis 1, not 0",
        names=(*AXES, "WRONG_SHAPE"),
        or_says=rf"{SAYS_AXIS}|cotangent transposed",  # g.sum(1) is g.T.sum(0)
    ),
)
