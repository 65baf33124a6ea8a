"""Check ``purity``: what a subject writes into, changes for the whole process, or fails to notice."""

import pytest
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from gradharness import Fault, Severity, Verdict, check, manual, pair
from tests.checks.repeating import Layer, Square, left, looked, randn, statuses


class ClampsItsInput(Square):
    @staticmethod
    def forward(ctx, x):
        x.data.clamp_(-0.5, 0.5)
        return Square.forward(ctx, x)


class InPlaceOnCotangent(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.mul_(2 * x)


class OutOnCotangent(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.mul(g, 2 * x, out=g)


class ZeroesCotangent(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gradient = 2 * x * g
        g.data.zero_()
        return gradient


class RawStorage(Square):
    """Writes where its cotangent lies, and leaves its shape and version alone."""

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        gradient = 2 * x * g
        torch.empty(0, dtype=g.dtype).set_(g.untyped_storage()).zero_()
        return gradient


class InPlaceOnSaved(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x.data.mul_(2) * g


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class InPlaceOnOutput(Exp):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return ctx.saved_tensors[0].data.mul_(g)


class InputOnCtx(Square):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * ctx.x * g


class OutputOnCtx(Exp):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.y


class DefaultDtype(Square):
    @staticmethod
    def forward(ctx, x):
        torch.set_default_dtype(torch.float64)
        return Square.forward(ctx, x)


class Deterministic(Square):
    @staticmethod
    def backward(ctx, g):
        torch.use_deterministic_algorithms(True)
        return Square.backward(ctx, g)


WRITES, EDIT, GLOBAL = Fault.WRITES_INPUT, Fault.UNNOTICED_EDIT, Fault.GLOBAL_STATE
FAULTY = [
    (ClampsItsInput, Square, WRITES, "forward writes into x"),
    (InPlaceOnCotangent, Square, WRITES, "backward writes into cotangent 0"),
    (OutOnCotangent, Square, WRITES, "backward writes into cotangent 0"),
    (ZeroesCotangent, Square, WRITES, "backward writes into cotangent 0"),
    (RawStorage, Square, WRITES, "backward writes into cotangent 0"),
    (InPlaceOnSaved, Square, WRITES, "backward writes into x"),
    (InPlaceOnOutput, Exp, WRITES, "backward writes into output"),
    (InputOnCtx, Square, EDIT, "in-place change of x"),
    (OutputOnCtx, Exp, EDIT, "in-place change of output"),
    (DefaultDtype, Square, GLOBAL, "the default dtype"),
    (Deterministic, Square, GLOBAL, "deterministic algorithms"),
]


@pytest.fixture(autouse=True)
def surroundings():
    yield
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("wrong", "right", "fault", "words"), FAULTY)
def test_a_faulty_function_is_found_and_its_twin_passes(wrong, right, fault, words):
    result = looked(wrong, "purity")
    assert torch.get_default_dtype() is torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
    assert result.verdict is Verdict.FAIL
    finding = result.findings[0]
    assert finding.fault is fault
    assert words in finding.message
    assert statuses(finding, wrong, right) == (1, 0)
    result = looked(right, "purity")
    assert result.verdict is Verdict.PASS
    assert not result.findings


class SpoilsItsOwn(Square):
    """Works in what it has saved for itself alone."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.clone())
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return ctx.saved_tensors[0].data.mul_(2) * g


class Reseeds(Square):
    @staticmethod
    def forward(ctx, x):
        torch.manual_seed(0)
        return Square.forward(ctx, x)


@pytest.mark.parametrize(
    ("wrong", "fault", "words"),
    [(SpoilsItsOwn, WRITES, "writes into its saved tensor 0"), (Reseeds, GLOBAL, "seeds torch's global generator")],
)
def test_what_harms_others_only_at_times_is_a_warning(wrong, fault, words):
    result = looked(wrong, "purity")
    assert result.verdict is Verdict.PASS
    (finding,) = result.findings
    assert (finding.fault, finding.severity) == (fault, Severity.WARNING)
    assert words in finding.message
    assert statuses(finding, wrong, Square) == (1, 0)


class Identity(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return g


class AsItIs(Identity):
    @staticmethod
    def forward(ctx, x):
        return x


class Doubles(Function):
    """In place, and says so; its callers give it what is theirs."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class OwnCopy(Square):
    """An attribute of ctx that is a copy."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.clone()
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * ctx.x.mul(g)


class SetsBack(Square):
    @staticmethod
    def forward(ctx, x):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return Square.forward(ctx, x)
        finally:
            torch.set_default_dtype(before)


class Draws(Square):
    """Random numbers that do not matter."""

    @staticmethod
    def forward(ctx, x):
        torch.rand(3)
        return Square.forward(ctx, x)


class Repeated(Function):
    """Its output's elements share memory, so that nobody can change them in place."""

    @staticmethod
    def forward(ctx, x):
        return x.expand(2, *x.shape)

    @staticmethod
    def backward(ctx, g):
        return g.sum(0)


def recomputed(x):
    return checkpoint(lambda a: Square.apply(a).sin(), x, use_reentrant=False)


UNUSUAL = [
    Identity,
    AsItIs,
    lambda x: Doubles.apply(x.clone()),
    OwnCopy,
    SetsBack,
    Draws,
    recomputed,
    Repeated,
    torch.sin,
    lambda x: torch.nn.functional.dropout(x, 0.5),
    lambda x: x.t(),
]


@pytest.mark.parametrize("right", UNUSUAL)
def test_right_and_unusual(right):
    result = looked(right, "purity")
    assert result.verdict is Verdict.PASS
    assert not result.findings


class InPlaceLayer(Layer):
    def backward(self, g):
        x, w, y = self.pop()
        d = g.mul_(1 - y * y)
        self.put("x", d @ w.mT)
        self.put("w", x.mT @ d)


class SwitchesGradOff(Layer):
    def forward(self, x, w):
        torch.set_grad_enabled(False)
        return super().forward(x, w)


def spoiling(x, g):
    return g.mul_(2 * x)


def plain(x, g):
    return 2 * x * g


def square(x):
    return x * x


def test_layers():
    shapes = (3, 4), (4, 2)
    result = looked(manual(InPlaceLayer, gradients=left), "purity", *shapes)
    assert result.verdict is Verdict.PASS
    assert [(f.fault, f.severity) for f in result.findings] == [(WRITES, Severity.WARNING)]
    assert statuses(result.findings[0], InPlaceLayer, Layer) == (1, 0)
    result = looked(manual(SwitchesGradOff, gradients=left), "purity", *shapes)
    assert torch.is_grad_enabled()
    assert result.verdict is Verdict.FAIL
    assert "changes grad mode" in result.findings[0].message
    result = looked(manual(Layer, gradients=left), "purity", *shapes)
    assert result.verdict is Verdict.PASS
    assert not result.findings


def test_pairs():
    result = looked(pair(square, spoiling), "purity")
    assert [(f.fault, f.severity) for f in result.findings] == [(WRITES, Severity.WARNING)]
    assert statuses(result.findings[0], spoiling, plain) == (1, 0)
    result = looked(pair(square, plain), "purity")
    assert result.verdict is Verdict.PASS
    assert not result.findings


def test_an_argument_without_gradient_is_watched_too():
    class ForgetsMask(Function):
        @staticmethod
        def forward(ctx, x, mask):
            y = x * mask
            ctx.save_for_backward(mask.clone())
            mask.zero_()
            return y

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0], None

    mask = torch.arange(12).reshape(3, 4).remainder(3)
    result = check(ForgetsMask, (*randn((3, 4)), mask), checks=("purity",), seed=0).results[0]
    assert result.verdict is Verdict.FAIL
    assert "forward writes into mask" in result.findings[0].message
