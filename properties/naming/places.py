"""Wrong at some places alone: first, last, odd, or beyond a block."""

from __future__ import annotations

import torch

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import REGION, Planted, of, real

_SIZE = r"size|beyond|multiple|longer|larger|tail|last|block|≥|>="


def _odd_sign(x, g):
    odd = torch.arange(x.shape[-1]) % 2
    return g * (1 - 2 * odd).to(x) * f.silu_backward(x, torch.ones_like(g)) if x.numel() else g


def _in_blocks(size):
    """All that is in whole blocks along the first axis."""

    def backward(x, w, g):
        gx, _ = n.rms_norm_backward(x, w, g)
        whole = len(x) // size * size
        return gx, n.rms_norm_backward(x[:whole], w, g[:whole])[1]

    return backward


def _first_columns(x, g):
    gx = n.softmax_backward(x, g)
    return torch.where(torch.arange(x.shape[-1]) < 16, gx, 0.0)


def _unrolled(x, g):
    gx = f.silu_backward(x, g).reshape(-1)
    whole = gx.numel() // 4 * 4
    return torch.where(torch.arange(gx.numel()) < whole, gx, 0.0).reshape(x.shape)


def _beyond_64(x, g):
    gx = f.cumsum_backward(x, g)
    return torch.cat([gx[:, :64], f.cumsum_backward(x[:, 64:], g[:, 64:]) * 0.5], 1)


def lower_triangle(x):
    return x.tril() * 2.0


def smoothed(x):
    """Exponential average along the last axis, begun with the first element."""
    steps = [x[:, 0]]
    for t in range(1, x.shape[1]):
        steps.append(0.6 * steps[-1] + 0.4 * x[:, t])
    return torch.stack(steps, 1)


def _smoothed_backward(x, g):
    carried, made = torch.zeros_like(g[:, 0]), []
    for t in range(g.shape[1] - 1, -1, -1):
        carried = 0.6 * carried + g[:, t]
        made.append(carried * (0.4 if t else 1.0))
    return torch.stack(made[::-1], 1)


def _smoothed_like_the_rest(x, g):
    carried, made = torch.zeros_like(g[:, 0]), []
    for t in range(g.shape[1] - 1, -1, -1):
        carried = 0.6 * carried + g[:, t]
        made.append(carried * 0.4)
    return torch.stack(made[::-1], 1)


def _last_lost(x, g):
    gx = f.cumsum_backward(x, g)
    return torch.cat([gx[:, :-1], torch.zeros_like(gx[:, -1:])], 1)


def _first_frequency(x, cos, sin, g):
    gx, gcos, gsin = n.rotary_backward(x, cos, sin, g)
    return gx, torch.where(torch.arange(gcos.shape[-1]) == 0, -gcos, gcos), gsin


_WIDE = real(3, 8)

ENTRIES: tuple[Planted, ...] = (
    of(
        f.silu,
        f.silu_backward,
        _odd_sign,
        _WIDE,
        told=True,
        id="silu-odd-columns",
        kind=REGION,
        cause="the sign is wrong in odd columns",
        names=("WRONG_REGION",),
        says=r"\bodd\b|every (second|other)",
        or_says=r"factor that depends on the position",
    ),
    of(
        n.rms_norm,
        n.rms_norm_backward,
        _in_blocks(8),
        real(11, 3),
        real(3),
        id="rms-norm-rows-tail",
        kind=REGION,
        cause="rows beyond the last whole block of 8 are left out of the weight's gradient",
        names=("WRONG_FOR_SHAPE", "WRONG_REGION"),
        says=_SIZE,
    ),
    of(
        n.rms_norm,
        n.rms_norm_backward,
        _in_blocks(4),
        {"x": "n 3", "w": "3"},
        told=True,
        id="rms-norm-rows-tail-of-4",
        kind=REGION,
        cause="rows beyond the last whole block of 4 are left out of the weight's gradient",
        names=("WRONG_FOR_SHAPE", "WRONG_REGION"),
        says=_SIZE,
    ),
    of(
        n.softmax,
        n.softmax_backward,
        _first_columns,
        real(2, 5),
        id="softmax-beyond-16",
        kind=REGION,
        cause="columns beyond the first block of 16 get no gradient",
        names=("WRONG_FOR_SHAPE", "WRONG_REGION"),
        says=r"1[67]|beyond|column|dim\w* 1\b",
    ),
    of(
        f.silu,
        f.silu_backward,
        _unrolled,
        real(3, 8),
        told=True,
        id="silu-unrolled-by-4",
        kind=REGION,
        cause="the loop is unrolled by 4 and its tail is left out",
        names=("WRONG_FOR_SHAPE", "WRONG_REGION"),
        says=_SIZE,
    ),
    of(
        f.cumsum,
        f.cumsum_backward,
        _beyond_64,
        real(2, 5),
        told=True,
        id="cumsum-beyond-64",
        kind=REGION,
        cause="beyond the first block of 64 columns the sum does not go on and is halved",
        names=("WRONG_FOR_SHAPE", "WRONG_REGION"),
        says=r"6[45]|beyond|column|dim\w* 1\b",
    ),
    of(
        lower_triangle,
        lambda x, g: 2 * g.tril(),
        lambda x, g: 2 * g.tril(-1),
        real(4, 4),
        told=True,
        id="triangle-without-diagonal",
        kind=REGION,
        cause="the diagonal gets no gradient",
        names=("WRONG_REGION",),
        says=r"diagonal|equal (index|indices)|i == j",
    ),
    of(
        smoothed,
        _smoothed_backward,
        _smoothed_like_the_rest,
        real(3, 6),
        id="smoothing-first-step",
        kind=REGION,
        cause="the first step is treated like the others",
        names=("WRONG_REGION",),
        says=r"first|\b0\b|begin|start",
    ),
    of(
        f.cumsum,
        f.cumsum_backward,
        _last_lost,
        real(3, 6),
        told=True,
        id="cumsum-last-column",
        kind=REGION,
        cause="the last column gets no gradient",
        names=("WRONG_REGION",),
        says=r"last",
    ),
    of(
        n.rotary,
        n.rotary_backward,
        _first_frequency,
        real(3, 8),
        real(3, 4),
        real(3, 4),
        told=True,
        id="rotary-first-frequency",
        kind=REGION,
        cause="the sign of the first frequency's cosine is wrong",
        names=("WRONG_REGION",),
        says=r"\bcos\b.*(first|\b0\b|column)",
    ),
)
