"""Check ``determinism``: noise beyond round-off is found and measured, random numbers of the forward's are no noise."""

import itertools
import random

import pytest
import torch
from torch.autograd.function import once_differentiable

from gradharness import Fault, Severity, Verdict, manual, pair
from tests.checks.repeating import Layer, Square, left, looked, statuses

NOISE = torch.Generator()


class Unseeded(Square):
    """Noise of 1e-9 that no seed governs: calls are too large and too small by turns, so that its size is known."""

    signs = itertools.cycle((1, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g * (1 + 1e-9 * next(Unseeded.signs))


class Drawn(Square):
    """Ten percent of torch's own random numbers."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g * (1 + 0.1 * torch.randn_like(x))


class Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        mask = (torch.rand_like(x) < 0.5).to(x.dtype)
        ctx.save_for_backward(mask)
        return 2 * x * mask

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return 2 * g * mask


class TwoMasks(Dropout):
    """Draws another mask for its backward."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g * (torch.rand_like(g) < 0.5).to(g.dtype)


class SameSeed(torch.autograd.Function):
    """Draws its mask twice, from one seed."""

    @staticmethod
    def forward(ctx, x):
        ctx.seed = int(torch.randint(2**31, ()))
        return 2 * x * SameSeed.mask(ctx, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g * SameSeed.mask(ctx, g)

    @staticmethod
    def mask(ctx, like):
        g = torch.Generator().manual_seed(ctx.seed)
        return (torch.rand(like.shape, generator=g, dtype=like.dtype) < 0.5).to(like.dtype)


FAULTY = [
    (Unseeded, Square, "e-09 of its size"),
    (Drawn, Square, "random numbers of its own"),
    (TwoMasks, Dropout, "random numbers of its own"),
]


@pytest.mark.parametrize(("wrong", "right", "words"), FAULTY)
def test_noise_is_found_and_the_twin_passes(wrong, right, words):
    result = looked(wrong, "determinism")
    assert result.verdict is Verdict.FAIL
    finding = result.findings[0]
    assert finding.fault is Fault.NOT_DETERMINISTIC
    assert words in finding.message
    assert statuses(finding, wrong, right) == (1, 0)
    result = looked(right, "determinism")
    assert result.verdict is Verdict.PASS
    assert not result.findings


@pytest.mark.parametrize("right", [SameSeed, lambda x: torch.nn.functional.dropout(x, 0.3), lambda x: (x, x.max(-1))])
def test_right_and_unusual(right):
    result = looked(right, "determinism")
    assert result.verdict is Verdict.PASS
    assert not result.findings


ORDERS = random.Random(7)


class Shuffled(Square):
    """Sums in another order each time, as atomic additions do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sum() ** 2

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        total, numbers = 0.0, x.reshape(-1).tolist()
        ORDERS.shuffle(numbers)
        for number in numbers:
            total += number
        return (2 * total * g).expand(x.shape).clone()


def test_another_order_of_summation_is_a_warning():
    result = looked(Shuffled, "determinism", (10, 10))
    assert result.verdict is Verdict.PASS
    assert {f.fault for f in result.findings} == {Fault.NOT_DETERMINISTIC}
    assert {f.severity for f in result.findings} == {Severity.WARNING}
    assert "round-off in another order" in result.findings[0].message


class Jittered(Layer):
    def put(self, name, value):
        super().put(name, value * (1 + 1e-8 * torch.randn(value.shape, generator=NOISE, dtype=value.dtype)))


def jittering(x, g):
    return 2 * x * g * (1 + 1e-8 * random.random())


def square(x):
    return x * x


def plain(x, g):
    return 2 * x * g


def test_a_layer_and_a_pair_with_noise():
    result = looked(manual(Jittered, gradients=left), "determinism", (3, 4), (4, 2))
    assert result.verdict is Verdict.FAIL
    assert statuses(result.findings[0], Jittered, Layer) == (1, 0)
    assert looked(manual(Layer, gradients=left), "determinism", (3, 4), (4, 2)).verdict is Verdict.PASS
    result = looked(pair(square, jittering), "determinism")
    assert result.verdict is Verdict.FAIL
    assert statuses(result.findings[0], jittering, plain) == (1, 0)
    assert looked(pair(square, plain), "determinism").verdict is Verdict.PASS


def test_noise_of_a_surrogate_is_a_warning():
    result = looked(Drawn, "determinism", surrogate=True, reference=square)
    assert result.verdict is Verdict.PASS
    assert [f.severity for f in result.findings] == [Severity.WARNING]


def test_a_forward_that_no_seed_governs_is_undecided():
    result = looked(lambda x: x * random.random(), "determinism")
    assert result.verdict is Verdict.UNDECIDED
    assert "forward" in result.reason
