"""Check ``program``: backwards that are right by themselves and wrong beside others, and their correct twins."""

import re
import sys

import pytest
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gradharness import check, manual, pair
from gradharness.model.verdict import Fault, Verdict

ANY = {"x": "n m"}
TWO = {"x": "n m", "y": "n m"}


class WritesCotangent(Function):
    """x²; multiplies grad_output in place."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.mul_(2 * x)


class OwnCopy(WritesCotangent):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.clone().mul_(2 * x)


class WritesThroughData(WritesCotangent):
    """The same behind autograd's back."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        g.data.mul_(2 * x)
        return g


class ZeroesCotangent(WritesCotangent):
    """Clears what it has done with."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gradient = 2 * x * g
        g.zero_()
        return gradient


class OutputOnCtx(Function):
    """exp; its output as an attribute, which nothing watches."""

    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.y.detach()


class OutputSaved(Function):
    """exp; its output as it should be."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class SharedMemory(Function):
    """tanh; keeps a detached view of its output, which shares its memory."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.y = y.detach()
        return y

    @staticmethod
    def backward(ctx, g):
        return g * (1 - ctx.y**2)


class OwnMemory(SharedMemory):
    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.y = y.detach().clone()
        return y


class StaticBuffer(Function):
    """sin; keeps its input on the class."""

    held = None

    @staticmethod
    def forward(ctx, x):
        StaticBuffer.held = x.detach().clone()
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * StaticBuffer.held.cos()


class OwnBuffer(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


_BUFFERS = {}


class ReusedWorkspace(Function):
    """cube; what it saves lives in a workspace that is made once for each shape."""

    @staticmethod
    def forward(ctx, x):
        space = _BUFFERS.setdefault((tuple(x.shape), x.dtype), torch.empty_like(x.detach()))
        space.copy_(3 * x.detach() ** 2)
        ctx.space = space
        return x**3

    @staticmethod
    def backward(ctx, g):
        return g * ctx.space


class FreshWorkspace(ReusedWorkspace):
    @staticmethod
    def forward(ctx, x):
        ctx.space = 3 * x.detach() ** 2
        return x**3


class FlatCotangent(OwnBuffer):
    """Reads the cotangent's memory as if it had no gaps."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if g.untyped_storage().nbytes() < g.numel() * g.element_size():
            return g.reshape(-1)[:1] * torch.linspace(1, 2, x.numel(), dtype=x.dtype).reshape(x.shape) * x.cos()
        strides = torch.empty(g.shape).stride()
        return g.as_strided(g.shape, strides, g.storage_offset()) * x.cos()


class AnyCotangent(OwnBuffer):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.contiguous() * x.cos()


class FirstElement(OwnBuffer):
    """Takes an expanded cotangent for the gradient of a mean."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        scale = 1 / g.numel() if g.numel() > 1 and 0 in g.stride() else 1.0
        return g * x.cos() * scale


class FlatInput(Function):
    """square; reads its input's memory as if it had no gaps, in backward only."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach()
        return x * x

    @staticmethod
    def backward(ctx, g):
        x = ctx.x
        return 2 * g * x.as_strided(x.shape, torch.empty(x.shape).stride(), x.storage_offset())


class AnyInput(FlatInput):
    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.x


class OneGradientForBoth(Function):
    """x + y; writes the second's gradient into the first's memory, and into the cotangent's."""

    @staticmethod
    def forward(ctx, x, y):
        return x + 3 * y

    @staticmethod
    def backward(ctx, g):
        first = g.clone()
        return first, g.mul_(3)


class BothGradients(OneGradientForBoth):
    @staticmethod
    def backward(ctx, g):
        return g, 3 * g


class MissingCotangent(Function):
    """(x², x³); takes an output that is not used for one whose cotangent is one."""

    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x * x, x**3

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        g = torch.ones_like(x) if g is None else g
        h = torch.ones_like(x) if h is None else h
        return 2 * x * g + 3 * x * x * h


class NoCotangent(MissingCotangent):
    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        gradient = torch.zeros_like(x)
        gradient = gradient if g is None else gradient + 2 * x * g
        return gradient if h is None else gradient + 3 * x * x * h


class LeavesOnly(OwnBuffer):
    """Gives its gradient only where its input is a leaf."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.leaf = ctx.needs_input_grad[0] and x._base is None and x.storage_offset() == 0 and x.is_contiguous()
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos() * (1.0 if ctx.leaf else 0.5)


class RoundTrip(WritesCotangent):
    """Writes into the cotangent while it works, and puts back what was there."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        kept = g.clone()
        gradient = g.mul_(2 * x).clone()
        g.copy_(kept)
        return gradient


class Once(OwnBuffer):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


class Dirty(Function):
    """Doubles its input in place, and says so."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Strict(OwnBuffer):
    """Refuses cotangents with gaps, in clear words."""

    @staticmethod
    def backward(ctx, g):
        if not g.is_contiguous():
            raise ValueError("grad_output must be contiguous")
        return g * ctx.saved_tensors[0].cos()


FAULTY = [
    (WritesCotangent, ANY, "shared|cotangent|branch"),
    (WritesThroughData, ANY, "branch"),
    (ZeroesCotangent, ANY, "branch"),
    (OutputOnCtx, ANY, "writes into its output"),
    (SharedMemory, ANY, "writes into its output"),
    (StaticBuffer, ANY, "called twice"),
    (ReusedWorkspace, ANY, "called twice"),
    (FlatCotangent, ANY, "expanded|strided"),
    (FirstElement, ANY, "expanded"),
    (FlatInput, ANY, "results of other ops"),
    (OneGradientForBoth, TWO, "branch"),
    (MissingCotangent, ANY, "only its (first|last) output"),
    (LeavesOnly, ANY, "results of other ops|stands before"),
]
RIGHT = [
    (OwnCopy, ANY),
    (OutputSaved, ANY),
    (OwnMemory, ANY),
    (OwnBuffer, ANY),
    (FreshWorkspace, ANY),
    (AnyCotangent, ANY),
    (AnyInput, ANY),
    (BothGradients, TWO),
    (NoCotangent, ANY),
    (RoundTrip, ANY),
    (Once, ANY),
    (Strict, ANY),
]


def look(subject, inputs, **more):
    return check(subject, inputs, checks=("program",), seed=0, **more)


@pytest.mark.parametrize(("subject", "inputs", "words"), FAULTY, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_wrong_only_in_context_is_found(subject, inputs, words):
    report = look(subject, inputs)
    assert report.verdict is Verdict.FAIL
    finding = report.findings[0]
    assert finding.fault is Fault.IN_CONTEXT
    assert "is not what the same backward gives by itself" in finding.message
    assert re.search(words, finding.message)


@pytest.mark.parametrize(("subject", "inputs", "words"), FAULTY, ids=lambda v: getattr(v, "__name__", ""))
def test_these_are_right_by_themselves(subject, inputs, words):
    assert check(subject, inputs, checks=("vjp",), seed=0).verdict is Verdict.PASS


@pytest.mark.parametrize(("subject", "inputs"), RIGHT, ids=lambda v: getattr(v, "__name__", ""))
def test_correct_twins_pass(subject, inputs):
    report = look(subject, inputs)
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex128"])
def test_other_dtypes_pass(dtype):
    if dtype == "complex128":
        from gradharness import tensor

        report = look(lambda x: x * x, {"x": tensor("n m", dtype=torch.complex128)})
    else:
        report = look(OwnBuffer, ANY, dtypes=(dtype,))
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.nn.functional.dropout(x, 0.5),
        torch.relu,
        lambda x: x.round() + x,
        lambda x: torch.softmax(x, -1).sum(-1),
        lambda x: x.expand(3, *x.shape),
        lambda x: (x * 1e8).sin(),
        lambda x: torch.unbind(x, 0),
    ],
    ids=["random", "kinks", "steps", "cancels", "expands", "sensitive", "views"],
)
def test_correct_but_unusual_subjects_pass(function):
    report = look(function, ANY)
    assert report.verdict is not Verdict.FAIL, str(report)


def test_a_subject_that_writes_into_its_input_is_left_to_other_checks():
    assert look(Dirty, ANY).verdict is not Verdict.FAIL


def sine(x):
    return x.sin()


def gapped(x, g):
    """Reads the cotangent as if it were one number where it is expanded from one."""
    return g * x.cos() * (0.5 if 0 in g.stride() else 1.0)


class Tanh:
    """By hand; the class itself holds what forward made."""

    made = None

    def forward(self, x):
        Tanh.made = self.y = x.tanh()
        return self.y

    def backward(self, dy):
        self.dx = dy * (1 - Tanh.made**2)


class OwnTanh(Tanh):
    def backward(self, dy):
        self.dx = dy * (1 - self.y**2)


def by_hand(cls):
    return manual(cls, gradients=lambda obj: {"x": obj.dx})


@pytest.mark.parametrize(("subject", "words"), [(pair(sine, gapped), "expanded"), (by_hand(Tanh), "called twice")])
def test_code_without_autograd_is_a_node_through_its_pullback(subject, words):
    report = look(subject, ANY)
    assert report.verdict is Verdict.FAIL
    finding = report.findings[0]
    assert finding.fault is Fault.IN_CONTEXT
    assert words in finding.message
    assert exit_code(finding.reproducer) == 1


@pytest.mark.parametrize("subject", [pair(sine, lambda x, g: g * x.cos()), by_hand(OwnTanh)])
def test_correct_code_without_autograd_passes(subject):
    assert look(subject, ANY).verdict is Verdict.PASS


def exit_code(reproducer):
    """What the script exits with; it runs in this process, since torch takes seconds to import."""
    path = [*sys.path]
    try:
        exec(compile(reproducer, "reproduce.py", "exec"), {"__name__": "__main__"})
    except SystemExit as stop:
        return stop.code
    finally:
        sys.path[:] = path
    return None


@pytest.mark.parametrize("subject", [WritesCotangent, SharedMemory, StaticBuffer, FlatInput, MissingCotangent])
def test_the_reproducer_fails_while_the_fault_is_there(subject):
    finding = look(subject, ANY).findings[0]
    assert exit_code(finding.reproducer) == 1
    twin = {"WritesCotangent": "OwnCopy", "SharedMemory": "OwnMemory", "StaticBuffer": "OwnBuffer"}
    twin |= {"FlatInput": "AnyInput", "MissingCotangent": "NoCotangent"}
    mended = re.sub(rf"\b{subject.__name__}\b", twin[subject.__name__], finding.reproducer)
    assert mended != finding.reproducer
    assert exit_code(mended) == 0


class Holds(torch.nn.Module):
    """A model with a Function in it, whose cotangent another branch shares."""

    def __init__(self, function):
        super().__init__()
        self.lift, self.drop, self.function = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2), function

    def forward(self, x):
        h = self.lift(x)
        return self.drop(self.function.apply(h) + h)


def test_in_a_model_the_guilty_call_is_named():
    report = check(Holds(WritesCotangent), (torch.randn(5, 3),), checks=["program"], seed=1)
    (finding,) = report.findings
    assert finding.fault is Fault.IN_CONTEXT
    assert "WritesCotangent.apply stands in this model" in finding.message


def test_in_a_model_a_backward_with_its_own_copy_passes():
    report = check(Holds(OwnCopy), (torch.randn(5, 3),), checks=["program"], seed=1)
    assert report.verdict is Verdict.PASS
