"""Check ``leak``: cycles and growing lists are told, caches with a limit are not."""

import gc
from functools import lru_cache
from typing import ClassVar

import pytest
import torch
from torch.autograd.function import once_differentiable

from gradharness import Fault, Severity, Verdict, manual, pair
from tests.checks.repeating import Layer, Square, left, looked, statuses


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class OnCtx(Exp):
    """Output and node hold each other."""

    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.y


class Collects(Square):
    """Keeps every input it has seen."""

    seen: ClassVar[list] = []

    @staticmethod
    def forward(ctx, x):
        Collects.seen.append(x.detach().clone())
        return Square.forward(ctx, x)


class CollectsGradients(Square):
    """Keeps every cotangent."""

    seen: ClassVar[list] = []

    @staticmethod
    def backward(ctx, g):
        CollectsGradients.seen.append(g)
        return Square.backward(ctx, g)


FAULTY = [
    (OnCtx, Exp, Fault.REFERENCE_CYCLE, "garbage collector"),
    (Collects, Square, Fault.MEMORY_GROWTH, "keeps tensors of every call"),
    (CollectsGradients, Square, Fault.MEMORY_GROWTH, "keeps tensors of every call"),
]


@pytest.mark.parametrize(("wrong", "right", "fault", "words"), FAULTY)
def test_a_leak_is_a_warning_and_the_twin_has_none(wrong, right, fault, words):
    result = looked(wrong, "leak")
    assert result.verdict is Verdict.PASS
    (finding,) = result.findings
    assert (finding.fault, finding.severity) == (fault, Severity.WARNING)
    assert words in finding.message
    assert statuses(finding, wrong, right) == (1, 0)
    gc.enable()  # the script has switched it off
    result = looked(right, "leak")
    assert result.verdict is Verdict.PASS
    assert not result.findings


class Logged(Layer):
    """A class that keeps all of its objects' calls."""

    log: ClassVar[list] = []

    def push(self, call):
        Logged.log.append(call)
        super().push(call)


HISTORY = []


def logging(x, g):
    HISTORY.append(g)
    return 2 * x * g


def plain(x, g):
    return 2 * x * g


def square(x):
    return x * x


def test_a_layer_and_a_pair_that_keep_everything():
    result = looked(manual(Logged, gradients=left), "leak", (3, 4), (4, 2))
    assert [f.fault for f in result.findings] == [Fault.MEMORY_GROWTH]
    assert not looked(manual(Layer, gradients=left), "leak", (3, 4), (4, 2)).findings
    assert [f.fault for f in looked(pair(square, logging), "leak").findings] == [Fault.MEMORY_GROWTH]
    assert not looked(pair(square, plain), "leak").findings


@lru_cache(maxsize=32)
def scale(_key):
    return torch.full((), 2.0, dtype=torch.float64)


NUMBERS = iter(range(10**9))


class Cached(Square):
    """A cache that fills, and has a limit."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return scale(next(NUMBERS)) * x * g


class LastOnly(Square):
    """Keeps the last input, and no more."""

    @staticmethod
    def forward(ctx, x):
        LastOnly.last = x.detach().clone()
        return Square.forward(ctx, x)


@pytest.mark.parametrize("right", [Cached, LastOnly, torch.sin, lambda x: Exp.apply(x) * x])
def test_right_and_unusual(right):
    result = looked(right, "leak")
    assert result.verdict is Verdict.PASS
    assert not result.findings


def test_the_collector_is_left_as_it_was():
    before = gc.isenabled(), gc.get_freeze_count()
    looked(Square, "leak")
    assert (gc.isenabled(), gc.get_freeze_count()) == before
