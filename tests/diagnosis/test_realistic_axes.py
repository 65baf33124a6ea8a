"""Sums along the wrong axis, and terms that a fused operation of the forward hides: each beside its correct twin."""

import pytest
import torch
import torch.nn.functional as F

from gradharness.model.verdict import Fault
from tests.diagnosis.test_realistic import found, normalised
from tests.engine.searching import looker, search
from tests.faults.planting import function, randn


def is_right(forward, backward, inputs):
    """Whether the check ``vjp`` finds nothing."""
    return search(looker(function(forward, backward), examples=inputs()), examples=4, shrinks=0).run() is None


def layer_norm(x):
    return F.layer_norm(x, x.shape[-1:])


def layer_norm_backward(axes, **how):
    def backward(x, g):
        normal, rstd = normalised(x)
        return rstd * (g - g.mean(axes, **how) - normal * (g * normal).mean(axes, **how))

    return backward


def layer_norm_numpy(axis):
    def backward(x, g):
        x, g = x.detach().numpy(), g.numpy()
        rstd = (x.var(-1, keepdims=True) + 1e-5) ** -0.5
        normal = (x - x.mean(-1, keepdims=True)) * rstd
        direct = g - g.mean(axis, keepdims=True) - normal * (g * normal).mean(axis, keepdims=True)
        return torch.from_numpy(rstd * direct)

    return backward


def batch_norm(x):
    return F.batch_norm(x, None, None, training=True)


def batch_norm_backward(axes):
    def backward(x, g):
        mean, var = x.mean((0, 2), keepdim=True), x.var((0, 2), keepdim=True, unbiased=False)
        rstd = (var + 1e-5).rsqrt()
        normal = (x - mean) * rstd
        return rstd * (g - g.mean(axes, keepdim=True) - normal * (g * normal).mean(axes, keepdim=True))

    return backward


def softmax_backward(axis, sum_axis):
    def backward(x, g):
        y = x.softmax(axis)
        return y * (g - (g * y).sum(sum_axis, keepdim=True))

    return backward


def softmax_in_a_loop(*, rows):
    def backward(x, g):
        y, dx = x.softmax(-1), torch.zeros_like(x)
        for k in range(x.shape[0] if rows else x.shape[1]):
            at = k if rows else (slice(None), k)
            dx[at] = y[at] * (g[at] - (g[at] * y[at]).sum())
        return dx

    return backward


def back_sum(axis):
    return lambda x, g: g.flip(axis).cumsum(axis).flip(axis)


CASES = {
    "each row": (
        layer_norm,
        layer_norm_backward((0, 1), keepdim=True),
        layer_norm_backward(-1, keepdim=True),
        (6, 5),
        "dimensions 0 and 1 where dimension 1 is due",
    ),
    "numpy": (
        layer_norm,
        layer_norm_numpy(0),
        layer_norm_numpy(-1),
        (6, 5),
        "sums over dimension 0 where dimension 1 is due, in `native_layer_norm`",
    ),
    "batch and time": (
        batch_norm,
        batch_norm_backward((0,)),
        batch_norm_backward((0, 2)),
        (4, 3, 5),
        "dimension 0 where dimensions 0 and 2 are due",
    ),
    "both": (
        lambda x: x.softmax(-1),
        softmax_backward(0, 0),
        softmax_backward(-1, -1),
        (4, 5),
        "`x.softmax(axis)`",
    ),
    "loop": (
        lambda x: x.softmax(-1),
        softmax_in_a_loop(rows=False),
        softmax_in_a_loop(rows=True),
        (4, 5),
        "in `softmax`",
    ),
    "cumulative": (lambda x: x.cumsum(1), back_sum(0), back_sum(1), (4, 5), "and 2 others work along dimension 0"),
    "whole mean": (
        lambda x: x - x.mean(-1, keepdim=True),
        lambda x, g: g - g.mean(),
        lambda x, g: g - g.mean(-1, keepdim=True),
        (4, 5),
        "`g.mean()` in line",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sum_along_another_axis(name):
    forward, wrong, right, shape, words = CASES[name]
    finding = found(forward, wrong, randn(shape))
    assert finding.fault is Fault.WRONG_AXIS, finding.message
    assert words in finding.message
    assert is_right(forward, right, randn(shape))


def normalize(x):
    return F.normalize(x, dim=-1)


def normalize_backward(*, diagonal):
    def backward(x, g):
        y = F.normalize(x, dim=-1)
        projected = y * y * g if diagonal else y * (y * g).sum(-1, keepdim=True)
        return (g - projected) / x.norm(dim=-1, keepdim=True)

    return backward


def group_norm_backward(*, projected):
    def backward(x, g):
        parts, slope = x.reshape(len(x), 2, -1), g.reshape(len(x), 2, -1)
        normal, rstd = normalised(parts)
        dx = slope - slope.mean(-1, keepdim=True)
        dx = dx - normal * (slope * normal).mean(-1, keepdim=True) if projected else dx
        return (rstd * dx).reshape(x.shape)

    return backward


FUSED = {
    "softmax": (
        lambda x: x.softmax(-1),
        lambda x, g: x.softmax(-1) * (1 - x.softmax(-1)) * g,
        softmax_backward(-1, -1),
        (4, 5),
        "diagonal of the Jacobian of `softmax`",
    ),
    "log_softmax": (
        lambda x: x.log_softmax(-1),
        lambda x, g: g * (1 - x.softmax(-1)),
        lambda x, g: g - x.softmax(-1) * g.sum(-1, keepdim=True),
        (4, 5),
        "diagonal of the Jacobian of `log_softmax`",
    ),
    "normalize": (
        normalize,
        normalize_backward(diagonal=True),
        normalize_backward(diagonal=False),
        (4, 5),
        "Jacobian's diagonal alone",
    ),
    "group_norm": (
        lambda x: F.group_norm(x, 2),
        group_norm_backward(projected=False),
        group_norm_backward(projected=True),
        (3, 4, 5),
        "projection term",
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_a_term_of_a_fused_operation(name):
    forward, wrong, right, shape, words = FUSED[name]
    finding = found(forward, wrong, randn(shape))
    assert finding.fault is Fault.MISSING_TERM, finding.message
    assert words in finding.message
    assert is_right(forward, right, randn(shape))
