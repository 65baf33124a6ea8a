"""Shifted, reversed or off by one."""

from __future__ import annotations

import torch.nn.functional as F

from properties.naming import functions as f
from properties.naming import layers as n
from properties.naming.entry import SAYS_SHIFT, SHIFT, SHIFTED, Planted, of, real, whole


def ring(x):
    return x.roll(1, -1)


def delayed(x):
    """Each step sees half of the step before."""
    return x + 0.5 * F.pad(x, (1, 0))[..., :-1]


def _shift_backward(x, g):
    return g + 0.5 * F.pad(g, (0, 1))[..., 1:]


def _next_class(logits, target, g):
    hot = F.one_hot((target + 1) % logits.shape[1], logits.shape[1]).to(logits)
    return g * (logits.softmax(1) - hot) / len(logits)


def _kernel_reversed(x, w, b, g):
    gx, gw, gb = n.conv1d_backward(x, w, b, g)
    return gx, gw.flip(2), gb


def _exclusive(x, g):
    return f.cumsum_backward(x, g) - g


ENTRIES: tuple[Planted, ...] = (
    of(
        ring,
        lambda x, g: g.roll(-1, -1),
        lambda x, g: g.roll(1, -1),
        real(3, 6),
        id="roll-same-way",
        kind=SHIFT,
        cause="rolled in the forward's direction again",
        names=SHIFTED,
        or_says=SAYS_SHIFT,
    ),
    of(
        delayed,
        _shift_backward,
        lambda x, g: g + 0.5 * F.pad(g, (1, 0))[..., :-1],
        real(3, 6),
        told=True,
        id="token-shift-same-way",
        kind=SHIFT,
        cause="the cotangent is shifted forward in time, not back",
        names=SHIFTED,
        or_says=SAYS_SHIFT + "|transpos|later|earlier",
    ),
    of(
        f.cross_entropy,
        f.cross_entropy_backward,
        _next_class,
        real(6, 4),
        whole(6, below=4),
        told=True,
        id="cross-entropy-next-class",
        kind=SHIFT,
        cause="the one-hot is at the class after the target's",
        names=SHIFTED,
        or_says=SAYS_SHIFT + "|class|target",
    ),
    of(
        n.conv1d,
        n.conv1d_backward,
        _kernel_reversed,
        real(3, 2, 7),
        real(4, 2, 3),
        real(4),
        id="conv-kernel-reversed",
        kind=SHIFT,
        cause="the weight's gradient is reversed along the kernel",
        names=("FLIPPED", "REVERSED"),
        or_says=r"revers|flip|mirror",
    ),
    of(
        f.cumsum,
        f.cumsum_backward,
        _exclusive,
        real(3, 6),
        told=True,
        id="cumsum-exclusive",
        kind=SHIFT,
        cause="each element's own cotangent is left out of the sum from the end",
        names=SHIFTED,
        or_says=SAYS_SHIFT
        + "|cotangent is (missing|left|lack)|minus the cotangent|lacks? .*cotangent|times the cotangent",
    ),
)
