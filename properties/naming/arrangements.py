"""Transposed, or exchanged: the right numbers in the wrong places."""

from __future__ import annotations

import torch

from gradharness import pair
from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import SWAPPED, TRANSPOSED, Planted, of, real, values


def _state_untransposed(x, h, u, w, g):
    gz = g * (1 - n.rnn_cell(x, h, u, w).square())
    return gz @ u.mT, gz @ w, x.mT @ gz, h.mT @ gz


def _weight_transposed(x, w, b, g):
    return g @ w, x.mT @ g, g.sum(0)


def _right_operand_transposed(a, b, g):
    return g @ b.mH, g.mT @ a.conj()


def time_first(x):
    return x.permute(2, 0, 1)


def _keys_untransposed(q, k, v, g):
    scale = q.shape[-1] ** -0.5
    p = (q @ k.mT * scale).softmax(-1)
    gp = g @ v.mT
    gs = p * (gp - (gp * p).sum(-1, keepdim=True)) * scale
    return gs @ k, gs @ q, p.mT @ g


def _turned_again(x, cos, sin, g):
    _, gcos, gsin = n.rotary_backward(x, cos, sin, g)
    a, b = g.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1), gcos, gsin


def split_heads(x):
    """Rows of h * d features as h heads of rows."""
    return x.reshape(x.shape[0], 2, x.shape[1] // 2).transpose(0, 1)


def _kl_exchanged(mu, logvar, g):
    gm, gv = f.gaussian_kl_backward(mu, logvar, g)
    return gv, gm


def _lerp_exchanged(a, b, t, g):
    ga, gb, gt = f.lerp_backward(a, b, t, g)
    return gb, ga, gt


def choose(a, b, keep):
    return torch.where(keep, a, b)


def larger(a, b):
    return torch.where(a >= b, a, b)


def _gate_for_up(gate, up, g):
    gg, gu = f.swiglu_backward(gate, up, g)
    return gu, gg


_CELL = (real(3, 2), real(3, 4), real(2, 4), real(4, 4))

_KEEP = values(*[bool(i % 3) for i in range(12)])

ENTRIES: tuple[Planted, ...] = (
    of(
        n.rnn_cell,
        n.rnn_cell_backward,
        _state_untransposed,
        *_CELL,
        told=True,
        id="rnn-state-untransposed",
        kind=TRANSPOSED,
        cause="gz @ w where gz @ w.T is due",
        names=("TRANSPOSED",),
        or_says=r"transpos",
    ),
    of(
        n.linear,
        n.linear_backward,
        _weight_transposed,
        real(5, 4),
        real(4, 4),
        real(4),
        id="linear-weight-transposed",
        kind=TRANSPOSED,
        cause="x.T @ g where g.T @ x is due",
        names=("TRANSPOSED", "WRONG_SHAPE"),
        says=r"\bw\b",
    ),
    of(
        f.matmul,
        f.matmul_backward,
        _right_operand_transposed,
        real(4, 4),
        real(4, 4),
        told=True,
        id="matmul-right-transposed",
        kind=TRANSPOSED,
        cause="g.T @ a where a.T @ g is due",
        names=("TRANSPOSED", "WRONG_SHAPE"),
        says=r"\bb\b",
    ),
    of(
        time_first,
        lambda x, g: g.permute(1, 2, 0),
        lambda x, g: g.permute(2, 0, 1),
        real(3, 3, 3),
        id="permute-not-inverted",
        kind=TRANSPOSED,
        cause="the permutation is applied again, not its inverse",
        names=("TRANSPOSED", "WRONG_SHAPE", "PERMUTED"),
        or_says=r"permut|transpos|axes",
    ),
    of(
        n.attention,
        n.attention_backward,
        _keys_untransposed,
        real(4, 3),
        real(4, 3),
        real(4, 2),
        told=True,
        id="attention-keys-untransposed",
        kind=TRANSPOSED,
        cause="gs @ q for the keys where gs.T @ q is due",
        names=("TRANSPOSED", "WRONG_SHAPE", "BACKWARD_RAISES"),
        says=r"\bk\b|mat1|shape",
    ),
    of(
        n.rotary,
        n.rotary_backward,
        _turned_again,
        real(3, 4),
        real(3, 2),
        real(3, 2),
        told=True,
        id="rotary-turned-again",
        kind=TRANSPOSED,
        cause="the backward turns forward: the sign of sin is not changed",
        names=("TRANSPOSED", "SIGN"),
        or_says=r"transpos|rotat|inverse",
    ),
    of(
        split_heads,
        lambda x, g: g.transpose(0, 1).reshape(x.shape),
        lambda x, g: g.reshape(x.shape),
        real(3, 4),
        id="heads-reshaped-untransposed",
        kind=TRANSPOSED,
        cause="heads and rows are reshaped without a transposition",
        names=("TRANSPOSED", "PERMUTED"),
        or_says=r"permut|transpos|reorder|order of|reshap|other places",
    ),
    of(
        f.product,
        f.product_backward,
        lambda x, y, g: (g * x.conj(), g * y.conj()),
        real(4, 3),
        real(4, 3),
        id="product-own-factor",
        kind=SWAPPED,
        cause="each factor gets the other's gradient",
        names=("SWAPPED_GRADIENTS",),
    ),
    of(
        f.gaussian_kl,
        f.gaussian_kl_backward,
        _kl_exchanged,
        real(4, 3),
        real(4, 3),
        told=True,
        id="kl-returned-in-reverse",
        kind=SWAPPED,
        cause="the two gradients are returned in reverse order",
        names=("SWAPPED_GRADIENTS",),
    ),
    of(
        f.lerp,
        f.lerp_backward,
        _lerp_exchanged,
        real(4, 3),
        real(4, 3),
        real(4, 3),
        told=True,
        id="lerp-ends-exchanged",
        kind=SWAPPED,
        cause="the ends get each other's gradient",
        names=("SWAPPED_GRADIENTS",),
    ),
    of(
        choose,
        lambda a, b, keep, g: (g * keep, g * ~keep),
        lambda a, b, keep, g: (g * keep, g * keep),
        real(4, 3),
        real(4, 3),
        lambda g: _KEEP(g).reshape(4, 3),
        id="where-same-mask",
        kind=SWAPPED,
        cause="the second operand gets a copy of the first one's gradient",
        names=("SWAPPED_GRADIENTS",),
        or_says=r"copy|of a\b|keep",
    ),
    of(
        larger,
        lambda a, b, g: (g * (a >= b), g * (a < b)),
        lambda a, b, g: (g * (a >= b), g * (a >= b)),
        real(4, 3),
        real(4, 3),
        told=True,
        id="maximum-copied",
        kind=SWAPPED,
        cause="the second operand gets a copy of the first one's gradient",
        names=("SWAPPED_GRADIENTS",),
    ),
    of(
        f.swiglu,
        f.swiglu_backward,
        _gate_for_up,
        real(4, 3),
        real(4, 3),
        id="swiglu-gate-for-up",
        kind=SWAPPED,
        cause="gate and up get each other's gradient",
        names=("SWAPPED_GRADIENTS",),
    ),
    Planted(
        id="matmul-pair-in-reverse",
        kind=SWAPPED,
        wrong=pair(f.matmul, lambda a, b, g: f.matmul_backward(a, b, g)[::-1]),
        twin=pair(f.matmul, f.matmul_backward),
        inputs=(real(3, 4), real(4, 2)),
        cause="the vjp returns its two gradients in reverse order",
        names=("SWAPPED_GRADIENTS", "WRONG_SHAPE"),
    ),
)
