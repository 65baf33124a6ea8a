"""Wrong for some values, or where a mask or an ignored class says so."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming.entry import REGION, Planted, of, real, values

_BELOW = r"\bx\b.*(<|negativ|below|not positive|≤|up to)|(<|negativ|below|≤).*\bx\b"


def _elu_unscaled(x, g):
    return g * torch.where(x > 0, 1.0, x.clamp(max=0).exp())


def _gelu_of_size(x, g):
    return g * ((1 + (x / 2**0.5).erf()) / 2 + x.abs() * (-x * x / 2).exp() / (2 * torch.pi) ** 0.5)


def _huber_unclipped(pred, target, g):
    d = g * (pred - target)
    return d, -d


def _leaking(x, keep, g):
    return (g / keep.to(x).sum(1).clamp(min=1))[:, None].expand_as(x)


def _ignored_rows(logits, target, g):
    hot = torch.nn.functional.one_hot(target.clamp(min=0), logits.shape[1]).to(logits)
    return g * (logits.softmax(1) - hot)


def soft_threshold(x):
    """Linear beyond 3 on purpose."""
    return torch.where(x > 3, x + 0.048587351573742, (1 + x.clamp(max=3).exp()).log())


def _soft_threshold_backward(x, g):
    return g * torch.where(x > 3, 1.0, x.sigmoid())


def past_scores(q, k, slope):
    """Scores against the past, with a penalty for the distance; zero above the diagonal."""
    return torch.tril(q @ k.mT - slope * _distance(q, k))


def _distance(q, k):
    return (torch.arange(q.shape[0])[:, None] - torch.arange(k.shape[0])).to(q)


def _past_backward(q, k, slope, g):
    g = g.tril()
    return g @ k, g.mT @ q, -(g * _distance(q, k)).sum()


def _future_too(q, k, slope, g):
    return g @ k, g.mT @ q, -(g.tril() * _distance(q, k)).sum()


def straight_through(x, scale):
    """Seven levels; the rounding has slope one."""
    v = (x / scale).clamp(-3, 3)
    return (v + (v.round() - v).detach()) * scale


class FakeQuant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return (x / scale).clamp(-3, 3).round() * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, scale = ctx.saved_tensors
        v = x / scale
        inside, level = v.abs() < 3, v.clamp(-3, 3).round()
        return g * inside, (g * torch.where(inside, level - v, level)).sum()


class FakeQuantUnsaturated(FakeQuant):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, scale = ctx.saved_tensors
        v = x / scale
        gx = g * (v.abs() < 3)
        return gx, (gx * (v.round() - v)).sum()


_MASK = values(*[bool(i % 3) for i in range(20)])

ENTRIES: tuple[Planted, ...] = (
    of(
        f.elu,
        f.elu_backward,
        _elu_unscaled,
        real(4, 5),
        told=True,
        id="elu-without-alpha",
        kind=REGION,
        cause="alpha is missing for x < 0",
        names=("WRONG_REGION",),
        says=_BELOW,
    ),
    of(
        f.leaky_relu,
        f.leaky_relu_backward,
        lambda x, g: g * (x > 0),
        real(4, 5),
        id="leaky-relu-as-relu",
        kind=REGION,
        cause="zero in place of the slope for x < 0",
        names=("WRONG_REGION",),
        says=_BELOW,
    ),
    of(
        f.gelu,
        f.gelu_backward,
        _gelu_of_size,
        real(4, 5),
        told=True,
        id="gelu-of-size",
        kind=REGION,
        cause="|x| in place of x in the density's term: wrong for x < 0",
        names=("WRONG_REGION",),
        says=_BELOW,
    ),
    of(
        f.hardtanh,
        f.hardtanh_backward,
        lambda x, g: g,
        real(4, 5, scale=2.0),
        id="hardtanh-straight-through",
        kind=REGION,
        cause="the cotangent goes through beyond ±1.5",
        names=("WRONG_REGION",),
        says=r"\bx\b.*(>|<|beyond|abs|outside|large)|\|x\|",
    ),
    of(
        f.huber,
        f.huber_backward,
        _huber_unclipped,
        real(4, 3, scale=2.0),
        real(4, 3),
        told=True,
        id="huber-unclipped",
        kind=REGION,
        cause="the difference is not clipped beyond the threshold",
        names=(),
        or_says=r"pred ?[-−–] ?target|target ?[-−–] ?pred|difference|larger than 0\.8",
    ),
    of(
        f.masked_mean,
        f.masked_mean_backward,
        _leaking,
        real(4, 5),
        lambda g: _MASK(g).reshape(4, 5),
        id="masked-mean-leaks",
        kind=REGION,
        cause="masked elements get a share of the gradient",
        names=("WRONG_REGION", "WRONG_FOR_ARGUMENT"),
        says=r"\bkeep\b|\bmask",
    ),
    of(
        f.nll_ignoring,
        f.nll_ignoring_backward,
        _ignored_rows,
        real(6, 4),
        values(0, -1, 2, 3, -1, 1),
        told=True,
        id="nll-ignored-rows",
        kind=REGION,
        cause="rows whose target is ignored get a gradient",
        names=("WRONG_REGION", "WRONG_FOR_ARGUMENT"),
        says=r"\btarget\b|ignore",
    ),
    of(
        soft_threshold,
        _soft_threshold_backward,
        lambda x, g: g * torch.where(x > 3, 0.0, x.sigmoid()),
        real(4, 5, scale=4.0),
        id="softplus-zero-beyond-threshold",
        kind=REGION,
        cause="zero beyond the threshold 3",
        names=("WRONG_REGION", "WRONG_AT_EXTREME"),
        says=r">|above|beyond|large|huge",
    ),
    of(
        past_scores,
        _past_backward,
        _future_too,
        real(4, 3),
        real(4, 3),
        real(),
        id="past-scores-future-too",
        kind=REGION,
        cause="the mask is not applied to the cotangent for q and k",
        names=(),
        or_says=r"\bmask|triang|above the diagonal|future|later|derivative of `tril`",
    ),
    Planted(
        id="fake-quant-saturated",
        kind=REGION,
        wrong=FakeQuantUnsaturated,
        twin=FakeQuant,
        inputs=(real(4, 6), real(low=0.2, high=0.4)),
        reference=straight_through,
        surrogate=True,
        cause="saturated elements are left out of the scale's gradient",
        or_says=r"satur|clamp|beyond|outside|\bx\b.*(>|large)",
    ),
)
