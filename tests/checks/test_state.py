"""Check ``state``: what one call leaves for another is found, and what is a call's own passes."""

import threading
from typing import ClassVar

import pytest
import torch
from torch.autograd.function import once_differentiable

from gradharness import Fault, Severity, Verdict, manual, pair
from tests.checks.repeating import Layer, Square, left, looked, statuses


class Counts(Square):
    """Each backward of a graph is larger than the one before."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        ctx.calls = getattr(ctx, "calls", 0) + 1
        return 2 * ctx.calls * x * g


class OnTheClass(Square):
    """Keeps its input on the class."""

    @staticmethod
    def forward(ctx, x):
        OnTheClass.kept = x.detach().clone()
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        kept = OnTheClass.kept
        return 2 * kept * g if kept.shape == g.shape else 2 * g


class OneBuffer(Square):
    """Returns the same memory each time."""

    buffers: ClassVar[dict] = {}

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        buffer = OneBuffer.buffers.setdefault((x.shape, x.dtype), torch.empty_like(x))
        return torch.mul(2 * x, g, out=buffer)


class OneScratch(Square):
    """Works in memory that it keeps, and returns its own."""

    buffers: ClassVar[dict] = {}

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        buffer = OneScratch.buffers.setdefault((x.shape, x.dtype), torch.empty_like(x))
        return torch.mul(2 * x, g, out=buffer).clone()


class OneOutput(Square):
    """Its forward returns the same memory each time."""

    buffers: ClassVar[dict] = {}

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.clone())
        buffer = OneOutput.buffers.setdefault((x.shape, x.dtype), torch.empty_like(x))
        return torch.mul(x, x, out=buffer).detach()


LOCAL = threading.local()


class OfItsThread(Square):
    """Keeps its input where another thread does not see it."""

    @staticmethod
    def forward(ctx, x):
        ctx.number = len(LOCAL.__dict__)
        setattr(LOCAL, f"x{ctx.number}", x.detach().clone())
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * getattr(LOCAL, f"x{ctx.number}", torch.ones_like(g)) * g


class LastShape(Square):
    """Remembers how its last input was shaped."""

    @staticmethod
    def forward(ctx, x):
        LastShape.rows = x.shape[0] if x.dim() else 1
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g * (LastShape.rows / (x.shape[0] if x.dim() else 1))


FAULTY = [
    (Counts, Square, Fault.STALE_STATE, "second backward of one graph"),
    (OnTheClass, Square, Fault.STALE_STATE, "used twice in one graph"),
    (OneBuffer, OneScratch, Fault.STALE_STATE, "used twice in one graph"),
    (OneOutput, Square, Fault.OVERWRITTEN, "overwrites the output"),
    (OfItsThread, Square, Fault.STALE_STATE, "another thread"),
    (LastShape, Square, Fault.STALE_STATE, "another shape"),
]


@pytest.mark.parametrize(("wrong", "right", "fault", "words"), FAULTY, ids=lambda one: getattr(one, "__name__", None))
def test_a_faulty_function_is_found_and_its_twin_passes(wrong, right, fault, words):
    result = looked(wrong, "state")
    assert result.verdict is Verdict.FAIL
    finding = result.findings[0]
    assert finding.fault is fault
    assert words in finding.message
    assert statuses(finding, wrong, right) == (1, 0)
    assert looked(right, "state").verdict is Verdict.PASS


class LastCallOnly(Layer):
    def push(self, call):
        self.calls = [call]

    def pop(self):
        return self.calls[0]


class FirstInFirstOut(Layer):
    def pop(self):
        return self.calls.pop(0)


class SharedCache(Layer):
    """All objects keep their calls in one place."""

    def push(self, call):
        SharedCache.call = call

    def pop(self):
        return SharedCache.call


class KeepsOne(Layer):
    """One forward, then its backward; adds up over the uses within one backward, as for a tied weight."""

    def push(self, call):
        self.call = call

    def pop(self):
        return self.call


class Assigns(KeepsOne):
    def put(self, name, value):
        self.grad[name] = value


def layer(cls):
    return manual(cls, gradients=left)


@pytest.mark.parametrize(
    ("wrong", "words"), [(LastCallOnly, "keeps a list of calls"), (SharedCache, "another call's forward")]
)
def test_a_faulty_layer_is_found(wrong, words):
    result = looked(layer(wrong), "state", (3, 4), (4, 2))
    assert result.verdict is Verdict.FAIL
    finding = result.findings[0]
    assert finding.fault is Fault.STALE_STATE
    assert words in finding.message
    assert statuses(finding, wrong, Layer) == (1, 0)


@pytest.mark.parametrize("right", [Layer, FirstInFirstOut, KeepsOne, Assigns])
def test_a_right_layer_passes(right):
    assert looked(layer(right), "state", (3, 4), (4, 2)).verdict is Verdict.PASS


LAST = {}


def remembering(x):
    LAST["x"] = x.clone()
    return x * x


def reading(x, g):
    kept = LAST["x"]
    return 2 * kept * g if kept.shape == g.shape else g


def forgetting(x, g):
    return 2 * x * g


def test_a_pair_with_state_between_its_functions():
    result = looked(pair(remembering, reading), "state")
    assert result.verdict is Verdict.FAIL
    assert "another call's forward" in result.findings[0].message
    assert statuses(result.findings[0], reading, forgetting) == (1, 0)
    assert looked(pair(remembering, forgetting), "state").verdict is Verdict.PASS


class GivesBackEarly(torch.autograd.Function):
    """Drops what it kept: a second backward raises, and none is wrong."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = x.clone()
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            raise RuntimeError("its memory has been given back")
        return 2 * kept * g


def test_refusing_a_second_backward_is_a_warning():
    result = looked(GivesBackEarly, "state")
    assert result.verdict is Verdict.PASS
    assert [f.severity for f in result.findings] == [Severity.WARNING]
    assert "a second backward" in result.findings[0].message
    assert statuses(result.findings[0], GivesBackEarly, Square) == (1, 0)


def dropout(x):
    return torch.nn.functional.dropout(x, 0.5)


class Counter(torch.nn.Module):
    """Counts its calls, as batch normalisation does; the values do not hang on it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return Square.apply(x) + x


@pytest.mark.parametrize("right", [OneScratch, dropout, Counter(), lambda x: (x.sin(), x.argmax(-1))])
def test_right_and_unusual(right):
    assert looked(right, "state").verdict is Verdict.PASS


def test_what_does_not_repeat_is_undecided():
    noise = torch.Generator()

    class Noisy(Square):
        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g * (1 + torch.randn(x.shape, generator=noise, dtype=x.dtype))

    result = looked(Noisy, "state")
    assert result.verdict is Verdict.UNDECIDED
    assert "equal calls" in result.reason
