"""What is done with the cotangent: ignored, replaced or bent."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradharness import manual
from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import COTANGENT, NOT_LINEAR, Planted, manual_dense, of, real, whole


class Sigmoid:
    """A layer as courses write it."""

    def forward(self, x):
        self.y = x.sigmoid()
        return self.y

    def backward(self, g):
        self.dx = g * self.y * (1 - self.y)


class SigmoidAlone(Sigmoid):
    def backward(self, g):
        self.dx = self.y * (1 - self.y)


def sine_and_cosine(x):
    return x.sin(), x.cos()


def _huber_alone(pred, target, g):
    d = (pred - target).clamp(-0.8, 0.8)
    return d, -d


def _loss_alone(logits, target, g):
    hot = F.one_hot(target, logits.shape[1]).to(logits)
    return (logits.softmax(1) - hot) / len(logits)


def _weight_alone(v, gain, g):
    gv, _ = n.weight_norm_backward(v, gain, g)
    return gv, n.weight_norm_backward(v, gain, torch.ones_like(g))[1]


def _lstm_hidden_alone(a, c, gh, gc):
    return n.lstm_cell_backward(a, c, gh, torch.zeros_like(gc))


def _cotangent_mean(x, g):
    return f.silu_backward(x, g.mean().expand_as(g))


def _decayed(x, w, b, g):
    gx, gw, gb = n.linear_backward(x, w, b, g)
    return gx, gw + 0.01 * w, gb


def _clipped(x, g):
    gx = f.silu_backward(x, g)
    return gx / gx.norm().clamp(min=1.0)


def _rectified(x, g):
    return (g * (x > 0)).clamp(min=0)


def relu(x):
    return x.clamp(min=0)


_ROWS = (real(6, 4), whole(6, below=4))

ENTRIES: tuple[Planted, ...] = (
    of(
        f.huber,
        f.huber_backward,
        _huber_alone,
        real(4, 3),
        real(4, 3),
        told=True,
        id="huber-without-cotangent",
        kind=COTANGENT,
        cause="the derivative is not multiplied by the cotangent",
        names=("COTANGENT_IGNORED",),
    ),
    of(
        f.softplus,
        f.softplus_backward,
        lambda x, g: x.sigmoid(),
        real(4, 3),
        id="softplus-without-cotangent",
        kind=COTANGENT,
        cause="the derivative is not multiplied by the cotangent",
        names=("COTANGENT_IGNORED",),
    ),
    of(
        f.cross_entropy,
        f.cross_entropy_backward,
        _loss_alone,
        *_ROWS,
        id="cross-entropy-without-cotangent",
        kind=COTANGENT,
        cause="a loss is taken to be the end: its cotangent is ignored",
        names=("COTANGENT_IGNORED",),
    ),
    Planted(
        id="sigmoid-class-without-cotangent",
        kind=COTANGENT,
        wrong=manual(SigmoidAlone, gradients=lambda s: {"x": s.dx}),
        twin=manual(Sigmoid, gradients=lambda s: {"x": s.dx}),
        inputs=(real(4, 3),),
        cause="the class's backward ignores its argument",
        names=("COTANGENT_IGNORED",),
    ),
    of(
        n.weight_norm,
        n.weight_norm_backward,
        _weight_alone,
        real(4, 3),
        real(4),
        told=True,
        id="weight-norm-gain-of-ones",
        kind=COTANGENT,
        cause="the gain's gradient is made with ones for the cotangent",
        names=("COTANGENT_IGNORED",),
        says=r"\bgain\b",
    ),
    of(
        f.silu,
        f.silu_backward,
        _cotangent_mean,
        real(4, 3),
        id="silu-mean-cotangent",
        kind=COTANGENT,
        cause="the cotangent's mean is taken for all of it, as if it were constant",
        names=("COTANGENT_AVERAGED",),
        or_says=r"(mean|average|constant|same|each element|single).*cotangent|cotangent.*(mean|averag|constant)",
    ),
    of(
        n.lstm_cell,
        n.lstm_cell_backward,
        _lstm_hidden_alone,
        real(3, 8),
        real(3, 2),
        told=True,
        id="lstm-cell-state-dropped",
        kind=COTANGENT,
        cause="the cotangent of the new cell state is dropped",
        names=("OUTPUT_DROPPED",),
        says=r"\b(output )?(1|second|#1)\b|\[1\]",
    ),
    of(
        sine_and_cosine,
        lambda x, gs, gc: gs * x.cos() - gc * x.sin(),
        lambda x, gs, gc: gc * x.cos() - gs * x.sin(),
        real(4, 3),
        id="sine-cosine-crossed",
        kind=COTANGENT,
        cause="the two outputs' cotangents are exchanged",
        names=("OUTPUTS_CROSSED",),
    ),
    of(
        n.linear,
        n.linear_backward,
        _decayed,
        real(4, 3),
        real(5, 3),
        real(5),
        told=True,
        id="linear-weight-decay",
        kind=NOT_LINEAR,
        cause="weight decay is added to the gradient",
        names=("NOT_LINEAR",),
        or_says=r"\bw\b.*(zero cotangent|constant|multiple of|adds|plus)",
    ),
    of(
        f.silu,
        f.silu_backward,
        _clipped,
        real(4, 3, scale=2.0),
        id="silu-clipped-norm",
        kind=NOT_LINEAR,
        cause="the gradient is clipped to norm one",
        names=("NOT_LINEAR",),
    ),
    of(
        relu,
        lambda x, g: g * (x > 0),
        _rectified,
        real(4, 3),
        told=True,
        id="relu-guided",
        kind=NOT_LINEAR,
        cause="negative gradients are dropped (guided backpropagation)",
        names=("NOT_LINEAR",),
    ),
    of(
        f.hardtanh,
        f.hardtanh_backward,
        lambda x, g: g.sign() * (x.abs() < 1.5),
        real(4, 3),
        id="hardtanh-sign",
        kind=NOT_LINEAR,
        cause="only the cotangent's sign goes on",
        names=("NOT_LINEAR",),
    ),
    manual_dense(
        "dense-weight-momentum",
        NOT_LINEAR,
        "a constant is added to dw",
        ("NOT_LINEAR",),
        r"\bw\b",
        dw=lambda x, w, g: x.mT @ g + 0.1,
    ),
)
