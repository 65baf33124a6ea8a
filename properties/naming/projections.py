"""The terms by which normalising layers are centred and projected, left out."""

from __future__ import annotations

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import (
    LACKS_TERM,
    PROJECTION,
    SAYS_TERM,
    Planted,
    of,
    real,
)


def _layer_norm_without(mean: bool, product: bool):  # noqa: FBT001
    def backward(x, w, b, g):
        hat, r = n._hat(x, (-1,))
        gh = g * w
        gx = gh
        if not mean:
            gx = gx - gh.mean(-1, keepdim=True)
        if not product:
            gx = gx - hat * (gh * hat).mean(-1, keepdim=True)
        return r * gx, (g * hat).sum(0), g.sum(0)

    return backward


def _statistics_held(x, w, b, g):
    hat, r = n._hat(x, (0,))
    return r * g * w, (g * hat).sum(0), g.sum(0)


def _groups_uncentred(x, w, b, g):
    rows, c, steps = x.shape
    grouped = x.reshape(rows, 2, c // 2, steps)
    hat, r = n._hat(grouped, (2, 3))
    gh = (g * w[:, None]).reshape(grouped.shape)
    gx = r * (gh - hat * (gh * hat).mean((2, 3), keepdim=True))
    return gx.reshape(x.shape), (g * hat.reshape(x.shape)).sum((0, 2)), g.sum((0, 2))


def _root_held(x, w, g):
    r = (x.square().mean(-1, keepdim=True) + n.EPS).rsqrt()
    return r * g * w, (g * x * r).sum(0)


def _attention_without_delta(q, k, v, g):
    scale = q.shape[-1] ** -0.5
    p = (q @ k.mT * scale).softmax(-1)
    gs = p * (g @ v.mT) * scale
    return gs @ k, gs.mT @ q, p.mT @ g


def _cosine_unprojected(a, b, g):
    na, nb = (a.square().sum(-1, keepdim=True) + 1e-3).sqrt(), (b.square().sum(-1, keepdim=True) + 1e-3).sqrt()
    return g[..., None] * b / (na * nb), f.cosine_backward(a, b, g)[1]


def _direction_unprojected(v, gain, g):
    size = (v.square().sum(1, keepdim=True) + n.EPS).sqrt()
    return gain[:, None] * g / size, (g * v).sum(1) / size[:, 0]


def weights_of_detached_sum(x):
    e = x.exp()
    return e / e.sum(-1, keepdim=True).detach()


def _detached_twin(x):
    e = x.exp()
    return e / e.sum(-1, keepdim=True)


_NORM = (real(5, 4), real(4), real(4))

_PARTS = "lacks the {} of the gradient of a standardised row"

ENTRIES: tuple[Planted, ...] = (
    of(
        n.layer_norm,
        n.layer_norm_backward,
        _layer_norm_without(mean=True, product=False),
        *_NORM,
        told=True,
        id="layer-norm-without-mean",
        kind=PROJECTION,
        cause=_PARTS.format("mean"),
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.layer_norm,
        n.layer_norm_backward,
        _layer_norm_without(mean=False, product=True),
        *_NORM,
        id="layer-norm-without-product",
        kind=PROJECTION,
        cause=_PARTS.format("projection"),
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.softmax,
        n.softmax_backward,
        lambda x, g: x.softmax(-1) * (1 - x.softmax(-1)) * g,
        real(4, 5),
        id="softmax-diagonal",
        kind=PROJECTION,
        cause="only the diagonal of the Jacobian: y(1 - y)",
        names=LACKS_TERM,
        or_says=SAYS_TERM + "|diagonal|off-diagonal|other elements",
    ),
    of(
        n.softmax,
        n.softmax_backward,
        lambda x, g: x.softmax(-1) * g,
        real(4, 5),
        told=True,
        id="softmax-uncentred",
        kind=PROJECTION,
        cause="the inner product with y is not taken off",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.normalize,
        n.normalize_backward,
        lambda x, g: g / (x.square().sum(-1, keepdim=True) + n.EPS).sqrt(),
        real(4, 3),
        told=True,
        id="normalize-unprojected",
        kind=PROJECTION,
        cause="the norm is treated as a constant",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.batch_norm,
        n.batch_norm_backward,
        _statistics_held,
        real(6, 3),
        real(3),
        real(3),
        id="batch-norm-statistics-held",
        kind=PROJECTION,
        cause="mean and variance are treated as constants",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.rms_norm,
        n.rms_norm_backward,
        _root_held,
        real(5, 4),
        real(4),
        told=True,
        id="rms-norm-unprojected",
        kind=PROJECTION,
        cause="the root mean square is treated as a constant",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.attention,
        n.attention_backward,
        _attention_without_delta,
        real(4, 3),
        real(5, 3),
        real(5, 2),
        told=True,
        id="attention-without-delta",
        kind=PROJECTION,
        cause="the softmax inside lacks the inner product (delta)",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        f.cosine,
        f.cosine_backward,
        _cosine_unprojected,
        real(4, 3),
        real(4, 3),
        id="cosine-unprojected",
        kind=PROJECTION,
        cause="a's norm is treated as a constant",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        f.deviation,
        f.deviation_backward,
        lambda x, g: g,
        real(4, 5),
        told=True,
        id="centred-uncentred",
        kind=PROJECTION,
        cause="the gradient is not centred",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.group_norm,
        n.group_norm_backward,
        _groups_uncentred,
        real(3, 4, 3),
        real(4),
        real(4),
        told=True,
        id="group-norm-uncentred",
        kind=PROJECTION,
        cause=_PARTS.format("mean"),
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    of(
        n.weight_norm,
        n.weight_norm_backward,
        _direction_unprojected,
        real(4, 3),
        real(4),
        id="weight-norm-unprojected",
        kind=PROJECTION,
        cause="v's norm is treated as a constant",
        names=LACKS_TERM,
        or_says=SAYS_TERM,
    ),
    Planted(
        id="softmax-sum-detached",
        kind=PROJECTION,
        wrong=weights_of_detached_sum,
        twin=_detached_twin,
        inputs=(real(3, 4),),
        cause="detach() on the sum leaves out what the softmax takes off",
        names=LACKS_TERM,
        or_says=SAYS_TERM + r"|\bdetach",
    ),
)
