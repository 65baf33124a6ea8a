"""A sign, and a mean where a sum is due or the other way round."""

from __future__ import annotations

import torch.nn.functional as F

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import AVERAGED, MEAN, SIGN, Planted, of, real, values, whole

_COUNT = r"\bn\b|batch|size|count|number|rows|numel|mean|averag|length|elements"


def _flipped_second(a, b, g):
    return g / b, g * a / (b * b)


def _crossed_hot(logits, target, g):
    return -f.cross_entropy_backward(logits, target, g)


def _hinge_up(scores, sign, g):
    gs, gy = f.hinge_backward(scores, sign, g)
    return -gs, gy


def _gru_update(x, h, wz, wr, wn, g):
    gx, gh, gz, gr, gn = n.gru_cell_backward(x, h, wz, wr, wn, g)
    return gx, gh, -gz, gr, gn


def _kl_up(mu, logvar, g):
    return g * mu, g * 0.5 * (1 - logvar.exp())


def forward_difference(x):
    return x[:, 1:] - x[:, :-1]


def _layer_norm_averaged(x, w, b, g):
    gx, gw, gb = n.layer_norm_backward(x, w, b, g)
    return gx, gw / len(x), gb


def _bias_averaged(x, w, b, g):
    return g @ w, g.mT @ x, g.mean(0)


def _conv_averaged(x, w, b, g):
    gx, gw, gb = n.conv1d_backward(x, w, b, g)
    return gx, gw / x.shape[0], gb


def _segments_summed(x, segment, g):
    return g[segment]


def _mask_mean_over_all(x, keep, g):
    return (g / x.shape[1])[:, None] * keep.to(x)


_LINEAR = (real(4, 3), real(5, 3), real(5))

_ROWS = (real(6, 4), whole(6, below=4))

_MASK = values(*[bool(i % 3) for i in range(20)])

ENTRIES: tuple[Planted, ...] = (
    of(
        f.difference,
        f.difference_backward,
        lambda a, b, g: (g, g),
        real(4, 3),
        real(4, 3),
        told=True,
        id="difference-same-sign",
        kind=SIGN,
        cause="the subtrahend's minus is forgotten",
        names=("SIGN", "SWAPPED_GRADIENTS"),
        says=r"\bb\b",
    ),
    of(
        f.quotient,
        f.quotient_backward,
        _flipped_second,
        real(4, 3),
        real(4, 3, low=0.5, high=2.0),
        id="quotient-denominator-sign",
        kind=SIGN,
        cause="the denominator's minus is forgotten",
        names=("SIGN",),
        says=r"\bb\b",
    ),
    of(
        f.cross_entropy,
        f.cross_entropy_backward,
        _crossed_hot,
        *_ROWS,
        told=True,
        id="cross-entropy-hot-minus-p",
        kind=SIGN,
        cause="one-hot minus p in place of p minus one-hot",
        names=("SIGN",),
    ),
    of(
        f.hinge,
        f.hinge_backward,
        _hinge_up,
        real(4, 3),
        real(4, 3),
        id="hinge-up",
        kind=SIGN,
        cause="the loss is climbed by the scores",
        names=("SIGN",),
        says=r"\bscores\b",
    ),
    of(
        n.gru_cell,
        n.gru_cell_backward,
        _gru_update,
        real(3, 2),
        real(3, 4),
        real(6, 4),
        real(6, 4),
        real(6, 4),
        id="gru-update-gate-sign",
        kind=SIGN,
        cause="n - h in place of h - n in the update gate's weights",
        names=("SIGN",),
        says=r"\bwz\b",
    ),
    of(
        f.gaussian_kl,
        f.gaussian_kl_backward,
        _kl_up,
        real(4, 3),
        real(4, 3),
        told=True,
        id="kl-logvar-sign",
        kind=SIGN,
        cause="1 - exp(logvar) in place of exp(logvar) - 1",
        names=("SIGN",),
        says=r"\blogvar\b",
    ),
    of(
        forward_difference,
        lambda x, g: (F.pad(g, (1, 0)) - F.pad(g, (0, 1)))[:, : x.shape[1]],
        lambda x, g: (F.pad(g, (0, 1)) - F.pad(g, (1, 0)))[:, : x.shape[1]],
        real(3, 6),
        id="difference-padded-sides",
        kind=SIGN,
        cause="the two paddings are exchanged, which is the opposite sign",
        names=("SIGN",),
    ),
    of(
        n.linear,
        n.linear_backward,
        _bias_averaged,
        *_LINEAR,
        id="linear-bias-averaged",
        kind=MEAN,
        cause="mean over the rows for the bias, not the sum",
        names=AVERAGED,
        says=rf"(\bb\b.*({_COUNT}|dim|shape))",
    ),
    of(
        n.layer_norm,
        n.layer_norm_backward,
        _layer_norm_averaged,
        real(5, 4),
        real(4),
        real(4),
        told=True,
        id="layer-norm-weight-averaged",
        kind=MEAN,
        cause="mean over the rows for the weight, not the sum",
        names=AVERAGED,
        says=rf"(\bw\b.*({_COUNT}|dim|shape))",
    ),
    of(
        n.conv1d,
        n.conv1d_backward,
        _conv_averaged,
        real(3, 2, 7),
        real(4, 2, 3),
        real(4),
        told=True,
        id="conv-weight-averaged",
        kind=MEAN,
        cause="the weight's gradient is averaged over the batch",
        names=AVERAGED,
        says=rf"(\bw\b.*({_COUNT}|dim|shape))",
    ),
    of(
        f.segment_mean,
        f.segment_mean_backward,
        _segments_summed,
        real(7, 2),
        values(0, 0, 1, 2, 2, 2, 1),
        id="segment-mean-as-sum",
        kind=MEAN,
        cause="the gradient is not divided by the segment's number of rows",
        names=("LOST_MEAN", "MEAN_FOR_SUM", "WRONG_AVERAGE"),
        or_says=r"count|number of|divid|averag|\bmean\b|lacks the factor.*`div`",
    ),
    of(
        f.masked_mean,
        f.masked_mean_backward,
        _mask_mean_over_all,
        real(4, 5),
        lambda g: _MASK(g).reshape(4, 5),
        told=True,
        id="masked-mean-over-all",
        kind=MEAN,
        cause="divided by the row's length in place of the number of kept elements",
        names=("LOST_MEAN", "MEAN_FOR_SUM", "WRONG_AVERAGE"),
        or_says=r"count|number of|divid|averag|mean over|\bkeep\b|length",
    ),
)
