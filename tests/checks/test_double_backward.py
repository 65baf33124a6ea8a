"""Second derivatives: silently wrong ones are found, right and refused ones are not."""

import pytest
import torch
from torch.autograd.function import once_differentiable

from gradharness import check, manual, pair
from gradharness.checks.double_backward import weights_like
from gradharness.model.verdict import Fault, Verdict
from tests.checks.repeating import Square, looked, randn, statuses
from tests.engine.searching import look, looker
from tests.faults.planting import function
from tests.faults.planting import randn as examples

F64 = torch.float64


class Detached(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (2 * x * g).detach()


class ByNumpy(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(2 * x.detach().numpy() * g.detach().numpy())


class Once(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class DetachedPrimal(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * g


class DetachedCotangent(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.detach()


class SavedIntermediate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors
        return g * (s + x * s * (1 - s))


class Recomputed(SavedIntermediate):
    @staticmethod
    def backward(ctx, g):
        x, _ = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


class Attribute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.slope = x.exp()
        return ctx.slope + 1

    @staticmethod
    def backward(ctx, g):
        return g * ctx.slope


class SavedOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class HalfDetached(torch.autograd.Function):
    """A product of matrices, one of whose gradients is detached from the other factor."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.detach().mT, x.mT @ g


class WhollyAttached(HalfDetached):
    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.mT, x.mT @ g


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class Largest(torch.autograd.Function):
    """Works in place on a buffer of its own."""

    @staticmethod
    def forward(ctx, x):
        index = x.argmax(-1, keepdim=True)
        ctx.save_for_backward(index)
        ctx.size = x.shape
        return x.gather(-1, index)

    @staticmethod
    def backward(ctx, g):
        return torch.zeros(ctx.size, dtype=g.dtype).scatter_(-1, ctx.saved_tensors[0], g)


class Triple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    def backward(ctx, g):
        return 3 * g


class Twice(torch.autograd.Function):
    """Differentiates its forward once more in backward, with a graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh() * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            inner = x if x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(inner.tanh() * inner, inner, g, create_graph=g.requires_grad)[0]


class WrongAndDetached(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x.detach() * g


class WrongAndAttached(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * g


class SmallRows(torch.autograd.Function):
    """The identity, whose backward divides by a length in the branch that is not taken."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        length = ctx.saved_tensors[0].norm(dim=-1, keepdim=True)
        return g * torch.where(length > 1e9, 1 / length, 1.0)


class Identity(SmallRows):
    @staticmethod
    def backward(ctx, g):
        return g * 1


SILENT = [
    (Detached, Square, "detached from autograd: second derivatives come out as zero, silently"),
    (ByNumpy, Once, "mark it @once_differentiable"),
    (DetachedPrimal, Square, "the second derivative by x is missing"),
    (DetachedCotangent, Square, "the second derivative by the cotangent of output is missing"),
    (SavedIntermediate, Recomputed, "the second derivative by x is wrong: what forward saves besides"),
    (Attribute, SavedOutput, "the second derivative by x is missing"),
]


@pytest.mark.parametrize(("wrong", "right", "says"), SILENT, ids=[w.__name__ for w, _, _ in SILENT])
def test_a_silently_wrong_second_derivative_is_found_and_its_script_shows_it(wrong, right, says):
    result = looked(wrong, "double_backward")
    assert result.verdict is Verdict.FAIL
    (found,) = result.findings
    assert found.fault is Fault.SECOND_ORDER
    assert says in found.message
    assert statuses(found, wrong, right) == (1, 0)


def test_a_second_derivative_that_is_not_finite_is_told_of_the_primal_whose_it_is():
    result = looked(SmallRows, "double_backward", (5, 4))
    assert "the second derivative by x is wrong" in result.findings[0].message
    assert statuses(result.findings[0], SmallRows, Identity) == (1, 0)


def test_nothing_is_called_detached_that_is_zero_where_the_gradient_is():
    result = looked(lambda x: x.abs().square(), "double_backward")
    assert result.verdict is Verdict.FAIL
    assert "the second derivative by x is missing" in result.findings[0].message


def test_a_second_derivative_that_misses_one_primal_is_found():
    result = looked(HalfDetached, "double_backward", (3, 4), (4, 2))
    assert "the second derivative by w is missing" in result.findings[0].message
    assert statuses(result.findings[0], HalfDetached, WhollyAttached) == (1, 0)


@pytest.mark.parametrize("right", [Square, Recomputed, SavedOutput, Relu, Largest, Triple, Twice])
def test_a_right_second_derivative_passes(right):
    result = looked(right, "double_backward")
    assert result.verdict is Verdict.PASS
    assert result.resolution < 1e-3


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.softmax(-1),
        lambda x: x.abs(),
        lambda x: x.amax(-1),
        lambda x: x.norm(dim=-1),
        lambda x: torch.nn.functional.dropout(x**3),
        lambda x: torch.nn.functional.mse_loss(x, torch.ones_like(x)),
    ],
)
def test_what_torch_differentiates_twice_passes(function):
    assert looked(function, "double_backward").verdict is Verdict.PASS


def test_a_reference_gives_the_same_answers():
    assert looked(SavedIntermediate, "double_backward", reference=torch.nn.functional.silu).verdict is Verdict.FAIL
    assert looked(Recomputed, "double_backward", reference=torch.nn.functional.silu).verdict is Verdict.PASS


def test_complex_numbers_have_second_derivatives_too():
    x = torch.randn(3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)).requires_grad_()

    class Conjugate(Square):
        @staticmethod
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0].conj() * g

    class ConjugateDetached(Square):
        @staticmethod
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0].detach().conj() * g

    assert check(Conjugate, (x,), checks=("double_backward",), seed=0).verdict is Verdict.PASS
    assert check(ConjugateDetached, (x,), checks=("double_backward",), seed=0).verdict is Verdict.FAIL


def test_single_precision_is_examined_and_half_precision_needs_a_reference():
    assert looked(Detached, "double_backward", dtypes=("float32",)).verdict is Verdict.FAIL
    assert looked(Square, "double_backward", dtypes=("float32",)).verdict is Verdict.PASS
    assert "give reference=" in looked(Square, "double_backward", dtypes=("bfloat16",)).reason


REFUSED = [
    (Once, "the second derivative is refused: backward is marked @once_differentiable"),
    (torch.nn.functional.hardsigmoid, "the second derivative is refused: derivative for aten::hardsigmoid_backward"),
    (pair(lambda x: x**2, lambda x, g: 2 * x * g), "not behind autograd"),
    (torch.round, "there is no gradient to be differentiated"),
    (WrongAndDetached, "the gradient itself is wrong here"),
]


@pytest.mark.parametrize(("subject", "says"), REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_second_derivative_of_its_own_is_skipped_with_the_reason(subject, says):
    result = looked(subject, "double_backward")
    assert result.verdict is Verdict.SKIPPED
    assert says in result.reason


def test_a_manual_class_is_skipped():
    class Layer:
        def forward(self, x):
            self.x = x
            return x**2

        def backward(self, g):
            self.grad = 2 * self.x * g

    subject = manual(Layer, gradients=lambda obj: {0: obj.grad})
    assert looked(subject, "double_backward").verdict is Verdict.SKIPPED


def test_a_backward_that_raises_is_left_to_others():
    class Raises(Square):
        @staticmethod
        def backward(ctx, g):
            raise ValueError("no")

    result = looked(Raises, "double_backward")
    assert (result.verdict, "there is no first derivative" in result.reason) == (Verdict.SKIPPED, True)


def test_a_refusal_leaves_the_whole_report_a_pass():
    report = check(Once, randn((3, 4)), checks=("vjp", "double_backward"), seed=0)
    assert report.verdict is Verdict.PASS


def normal(x, w):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w


def normal_backward(dtype):
    """Adds up the weight's gradient row by row, in some dtype."""

    def backward(x, w, g):
        rstd = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        dw = torch.zeros_like(w, dtype=dtype)
        for number in range(len(x)):
            dw = dw + (g[number] * (x * rstd)[number]).to(dtype)
        h = g * w
        return rstd * (h - x * rstd * (h * x * rstd).mean(-1, keepdim=True)), dw.to(w.dtype)

    return backward


def test_a_gradient_that_is_rounded_within_backward_has_no_derivative_to_be_wrong():
    def seen(dtype):
        subject = function(normal, normal_backward(dtype))
        return look(looker(subject, "double_backward", examples=examples((6, 4), (4,))())).observation

    rounded = seen(torch.bfloat16)
    assert (rounded.verdict, rounded.reason) == (Verdict.SKIPPED, "the gradient itself is wrong here")
    assert seen(F64).verdict is Verdict.PASS


def test_a_wrong_gradient_that_is_differentiated_rightly_is_not_this_checks_finding():
    assert looked(WrongAndAttached, "double_backward").verdict is Verdict.PASS
    assert looked(WrongAndAttached, "double_backward", reference=torch.square).verdict is Verdict.SKIPPED


def test_the_second_derivative_of_a_surrogate_is_that_of_its_gradient():
    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, g):
            return g * 1

    class ThroughDetached(Through):
        @staticmethod
        def backward(ctx, g):
            return g.detach() * 1

    def identity(x):
        return x * 1

    assert looked(Through, "double_backward", reference=identity, surrogate=True).verdict is Verdict.PASS
    assert looked(ThroughDetached, "double_backward", reference=identity, surrogate=True).verdict is Verdict.FAIL


def test_the_weights_count_through_all_gradients():
    first, second = weights_like([torch.zeros(2, dtype=F64), torch.zeros((1, 2), dtype=torch.complex128)])
    assert torch.equal(first, torch.tensor([1.0, 2.0], dtype=F64).cos())
    assert torch.allclose(second.real, torch.tensor([[3.0, 4.0]], dtype=F64).cos())


def test_what_is_always_large_is_skipped_with_the_reason():
    (result,) = check(Detached, {"x": "400 400"}, checks=["double_backward"], seed=1).results
    assert result.verdict is Verdict.SKIPPED
    assert "more than 131072 elements" in result.reason


def test_a_fault_is_found_in_smaller_cases_than_a_large_example():
    report = check(Detached, (torch.randn(400, 400, dtype=torch.float64),), checks=["double_backward"], seed=1)
    assert report.verdict is Verdict.FAIL
