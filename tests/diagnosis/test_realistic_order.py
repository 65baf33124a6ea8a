"""Flags that are not heeded, time that runs the wrong way, heads that are not split, copies: beside correct twins."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gradharness.model.verdict import Fault
from tests.diagnosis.test_realistic import beside, found
from tests.diagnosis.test_realistic_axes import is_right
from tests.engine.searching import looker, search
from tests.faults.planting import randn

CLASSES = torch.tensor([1, 0, 2, 2, 1])


def causal(x, y, masked):
    scores = x @ y.mT
    return (scores.tril() if masked else scores).sin()


class Heedless(torch.autograd.Function):
    heeds = False

    @classmethod
    def forward(cls, ctx, x, y, masked):
        ctx.save_for_backward(x, y)
        ctx.masked = masked
        return causal(x, y, masked)

    @classmethod
    def backward(cls, ctx, g):
        x, y = ctx.saved_tensors
        d = g * (x @ y.mT).cos()
        d = d.tril() if cls.heeds and ctx.masked else d
        return d @ y, d.mT @ x, None


class Heeding(Heedless):
    heeds = True


def test_a_flag_that_the_backward_does_not_heed():
    inputs = beside(randn((4, 3), (4, 3)), True)
    failure = search(looker(Heedless.apply, examples=inputs()), examples=4, shrinks=0).run()
    assert failure.explanation.fault is Fault.WRONG_FOR_ARGUMENT
    assert failure.explanation.message.endswith("is the right one for z = False, whatever z is")
    assert search(looker(Heeding.apply, examples=inputs()), examples=4, shrinks=0).run() is None


def cross_entropy_backward(step):
    def backward(x, t, g):
        p = x.softmax(-1)
        return g / len(t) * (p - F.one_hot((t + step) % x.shape[1], x.shape[1])), None

    return backward


def split(x):
    return x.reshape(x.shape[0], x.shape[1], 2, -1).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def heads(q, v):
    return merge(torch.sigmoid(split(q)) * split(v))


def heads_backward(read):
    def backward(q, v, g):
        s = torch.sigmoid(split(q))
        d = read(g, s)
        return merge(d * split(v) * s * (1 - s)), merge(d * s)

    return backward


def delayed(x):
    return torch.tanh(F.pad(x[:, :-1], (1, 0)))


def delayed_backward(move):
    return lambda x, g: move(g * (1 - delayed(x) ** 2))


def before(x):
    return torch.cat([torch.zeros_like(x[:1]), x[:-1].sin()])


def rotated(x):
    half = x.shape[-1] // 2
    angle = (1.0 + torch.arange(x.shape[-2], dtype=x.dtype))[:, None] * (0.5 + torch.arange(half, dtype=x.dtype))
    a, b = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def by_matrix(x, g, *, inverse):
    """The rotation as one matrix made elsewhere, so that no operation has a sign of its own."""
    half = x.shape[-1] // 2
    angle = np.outer(1 + np.arange(len(x)), 0.5 + np.arange(half))
    cos, sin = np.cos(angle), np.sin(angle) * (-1 if inverse else 1)
    a, b = g.numpy()[:, :half], g.numpy()[:, half:]
    return torch.from_numpy(np.concatenate([a * cos - b * sin, a * sin + b * cos], -1))


CASES = {
    "neighbouring class": (
        F.cross_entropy,
        cross_entropy_backward(1),
        cross_entropy_backward(0),
        beside(randn((5, 4)), CLASSES),
        Fault.WRONG_ELEMENTS,
        "neighbouring places, y + 1",
    ),
    "heads": (
        heads,
        heads_backward(lambda g, s: g.reshape(s.shape)),
        heads_backward(lambda g, s: split(g)),
        randn((2, 3, 4), (2, 3, 4)),
        Fault.TRANSPOSED,
        "have to be exchanged",
    ),
    "delay": (
        delayed,
        delayed_backward(lambda d: F.pad(d[:, :-1], (1, 0))),
        delayed_backward(lambda d: F.pad(d[:, 1:], (0, 1))),
        randn((4, 5)),
        Fault.WRONG_ELEMENTS,
        "in the wrong direction",
    ),
    "previous step": (
        before,
        lambda x, g: torch.cat([torch.zeros_like(g[:1]), g[:-1]]) * x.cos(),
        lambda x, g: torch.cat([g[1:], torch.zeros_like(g[:1])]) * x.cos(),
        randn((5, 3)),
        Fault.WRONG_ELEMENTS,
        "shift in the wrong direction",
    ),
    "rotation": (
        rotated,
        lambda x, g: by_matrix(x, g, inverse=False),
        lambda x, g: by_matrix(x, g, inverse=True),
        randn((3, 4)),
        Fault.TRANSPOSED,
        "is J·w where Jᵀ·w is due",
    ),
    "tile": (
        lambda x: x.repeat(3, 1).sin(),
        lambda x, g: g[: len(x)] * x.cos(),
        lambda x, g: g.reshape(3, *x.shape).sum(0) * x.cos(),
        randn((4, 3)),
        Fault.DUPLICATES,
        "first of 3 copies",
    ),
    "groups": (
        lambda x: x.repeat_interleave(2, 1),
        lambda x, g: g.reshape(g.shape[0], 2, -1, g.shape[-1]).sum(1),
        lambda x, g: g.reshape(g.shape[0], -1, 2, g.shape[-1]).sum(2),
        randn((2, 3, 4)),
        Fault.TRANSPOSED,
        "blocks of another size",
    ),
    "symmetric": (
        lambda A, x: x @ A @ x,
        lambda A, x, g: (g * x[:, None] * x, 2 * g * A @ x),
        lambda A, x, g: (g * x[:, None] * x, g * (A + A.T) @ x),
        randn((4, 4), (4,)),
        Fault.WRONG_FORMULA,
        "has all else twice",
    ),
    "spectrum": (
        lambda x, k: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(k), n=x.shape[-1]),
        lambda x, k, g: filtered(g, k, x, lambda t: t),
        lambda x, k, g: filtered(g, k, x, torch.conj),
        randn((3, 8), (3, 8)),
        Fault.MISSING_CONJUGATE,
        "derivative of `mul`",
    ),
}


def filtered(g, k, x, how):
    n, spectrum = g.shape[-1], torch.fft.rfft(g)
    return (
        torch.fft.irfft(spectrum * how(torch.fft.rfft(k)), n=n),
        torch.fft.irfft(spectrum * torch.fft.rfft(x).conj(), n=n),
    )


@pytest.mark.parametrize("name", CASES)
def test_right_numbers_of_something_else(name):
    forward, wrong, right, inputs, fault, words = CASES[name]
    finding = found(forward, wrong, inputs)
    assert finding.fault is fault, finding.message
    assert words in finding.message
    assert is_right(forward, right, inputs)


def test_half_a_batch_is_no_copy():
    def half(x, w, g):
        return g @ w.T, x[: len(x) // 2].T @ g[: len(x) // 2]

    finding = found(lambda x, w: x @ w, half, randn((6, 3), (3, 2)))
    assert finding.fault is Fault.MISSING_REDUCTION, finding.message
    assert "first 1/2 of the cotangent" in finding.message
