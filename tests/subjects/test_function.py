"""Subjects that go through autograd: every way in which users hold on to their Function."""

import pytest
import torch
from torch.autograd.function import once_differentiable

from gradharness.errors import BackwardRaised, ForwardRaised, OutputError, UsageError
from gradharness.model.subject import Primals
from gradharness.subjects import as_subject
from gradharness.subjects.function import function_subject

F64 = torch.float64
X = torch.tensor([1.0, -2.0, 3.0], dtype=F64)
ONE = Primals(("x",), (X,), ((0,),))
ONES = torch.ones(3, dtype=F64)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0]  # wrong on purpose: own_forward is right


class Setup(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def vjp(ctx, g):
        return 3 * g * ctx.saved_tensors[0]


class Once(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0]


class Chain(torch.autograd.Function):
    """Its forward calls another Function."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return Square.apply(x) + x

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class Ranked(torch.autograd.Function):
    """Its second output takes no cotangent."""

    @staticmethod
    def forward(ctx, x):
        order = x.argsort()
        ctx.mark_non_differentiable(order)
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(True)
        ctx.save_for_forward(x)
        return x * x, order

    @staticmethod
    def backward(ctx, g, _order):
        return 3 * g * ctx.saved_tensors[0]


class RankedSetup(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * x, x.argsort()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g, _order):
        return 3 * g * ctx.saved_tensors[0]


class Dirty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Opaque(torch.autograd.Function):
    """Computed outside of torch."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx, g):
        return g


class Raising(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        raise ValueError("no gradient today")


class Module(torch.nn.Module):
    def forward(self, x):
        return Square.apply(x)


@torch.library.custom_op("gradharness_tests::cube", mutates_args=())
def cube(x: torch.Tensor) -> torch.Tensor:
    return x * x * x


cube.register_autograd(
    lambda ctx, g: 4 * g * ctx.saved_tensors[0] ** 2,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def wrapper(x):
    return Square.apply(x)


def gradient(subject, primals=ONE, cotangents=(ONES,)):
    return subject.linearize(primals).pullback(cotangents)[0]


def label(given):
    """A name without a memory address, so that every worker collects the same."""
    return getattr(given, "__qualname__", type(given).__name__)


@pytest.mark.parametrize("given", [Square, Square.apply, wrapper, Module(), Once, Setup, Setup.apply], ids=label)
def test_every_way_to_a_function_gives_its_hand_written_gradient(given):
    subject = as_subject(given)
    assert torch.equal(subject.outputs(ONE)[0], X * X)
    assert torch.equal(gradient(subject), 3 * X)


@pytest.mark.parametrize("given", [Square, wrapper, Module(), Once, Setup], ids=label)
def test_the_own_forward_gives_the_right_gradient_beside_a_wrong_backward(given):
    own = as_subject(given).own_forward()
    assert torch.equal(gradient(own), 2 * X)
    assert torch.equal(own.outputs(ONE)[0], X * X)
    assert own.own_forward() is own


def test_a_custom_op_is_a_subject_with_its_registered_gradient():
    assert torch.equal(gradient(as_subject(cube)), 4 * X**2)


def test_a_function_within_a_function_is_differentiated_too():
    assert torch.equal(gradient(as_subject(Chain).own_forward()), 2 * X + 1)


def test_two_functions_in_a_row_are_both_differentiated():
    own = as_subject(lambda x: Setup.apply(Square.apply(x))).own_forward()
    assert torch.allclose(gradient(own), 4 * X**3)


@pytest.mark.parametrize("given", [Ranked, RankedSetup])
def test_an_output_marked_non_differentiable_takes_no_cotangent(given):
    subject = as_subject(given)
    for one in (subject, subject.own_forward()):
        linearization = one.linearize(ONE)
        assert linearization.differentiable == (0,)
        assert linearization.labels == ("output[0]", "output[1]")
    assert torch.equal(gradient(subject.own_forward()), 2 * X)


@pytest.mark.parametrize("given", [Dirty, Opaque, lambda x: x * 2], ids=["in place", "numpy", "no Function"])
def test_a_forward_that_cannot_be_differentiated_is_no_oracle(given):
    from gradharness.errors import OracleUnavailable

    own = as_subject(given).own_forward()
    with pytest.raises((OracleUnavailable, ForwardRaised)) as caught:
        own.linearize(ONE)
    assert str(caught.value)
    with pytest.raises(OracleUnavailable):
        own.raw_returns(ONE, (ONES,))


def test_a_class_has_its_own_methods_again_after_a_call_and_after_an_exception():
    before = dict(Square.__dict__)
    as_subject(Square).own_forward().linearize(ONE)
    as_subject(Square).raw_returns(ONE, (ONES,))
    own = as_subject(Square).own_forward()
    own.linearize(ONE)
    with pytest.raises(ForwardRaised):
        own.linearize(Primals(("x",), ("text",), ()))
    assert dict(Square.__dict__) == before


def test_exceptions_say_in_which_phase_they_were_raised():
    with pytest.raises(ForwardRaised, match="forward raised TypeError"):
        as_subject(lambda x: x + None).outputs(ONE)
    with pytest.raises(BackwardRaised, match="no gradient today"):
        gradient(as_subject(Raising))


def test_what_a_function_returns_is_noted_even_where_autograd_refuses_it():
    (returned,) = as_subject(lambda x: Square.apply(x.exp())).raw_returns(ONE, (ONES,))
    assert returned.place == "Square.backward"
    assert returned.inputs[0].needed
    assert returned.inputs[0].label == "argument 0"
    assert returned.inputs[0].like.shape == (3,)
    (named,) = as_subject(Square).raw_returns(ONE, (ONES,))
    assert named.inputs[0].label == "x"
    (vjp,) = as_subject(Setup).raw_returns(ONE, (ONES,))
    assert vjp.place == "Setup.vjp"


def test_without_a_function_autograd_as_a_whole_is_noted():
    (returned,) = as_subject(wrapper_of_torch).raw_returns(ONE, (ONES,))
    assert returned.place == "wrapper_of_torch"
    assert torch.equal(returned.returned[0], X.cos())


def wrapper_of_torch(x):
    return x.sin()


def test_names_are_those_of_the_code():
    assert as_subject(Square).name == as_subject(Square.apply).name == "Square"
    assert as_subject(Module()).name == "Module"
    assert function_subject(wrapper, "mine").name == "mine"


def test_outputs_in_containers_are_named_by_their_place():
    linearization = as_subject(lambda x: {"a": x * 1, "b": [x * 2, 3]}).linearize(ONE)
    assert linearization.labels == ("output['a']", "output['b'][0]")


@pytest.mark.parametrize("value", [None, 1.5, "a" * 100], ids=["none", "float", "long"])
def test_a_forward_without_a_tensor_is_told(value):
    with pytest.raises(OutputError, match="holds no tensor"):
        as_subject(lambda x: value).outputs(ONE)


def test_what_is_no_subject_is_told():
    with pytest.raises(UsageError, match="give a callable"):
        as_subject(3)


def test_nothing_connected_gives_no_gradient():
    assert as_subject(lambda x: x.detach()).linearize(ONE).pullback(()) == (None,)


def test_errors_of_ours_pass_through_unchanged():
    def refuses(*_arguments):
        raise UsageError("ours")

    with pytest.raises(UsageError, match="ours"):
        as_subject(refuses).outputs(ONE)
    from gradharness.subjects.calls import call_backward

    with pytest.raises(UsageError, match="ours"):
        call_backward(refuses, ())
