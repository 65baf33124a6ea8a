"""torch's signatures, return values and exceptions, with our checks behind them."""

import inspect
import warnings

import pytest
import torch
from torch.autograd.function import once_differentiable
from torch.autograd.gradcheck import GradcheckError
from torch.autograd.gradcheck import gradcheck as torch_gradcheck
from torch.autograd.gradcheck import gradgradcheck as torch_gradgradcheck

from gradharness import GradientError, UndecidedWarning, gradcheck, gradgradcheck
from tests.checks.repeating import Square, randn

F64 = torch.float64


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x > 0)


class Tripled(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * g


class Detached(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (2 * x * g).detach()


class Once(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Clamped(Square):
    """Right for the one-hot cotangents that torch's own gives it."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.clamp(-1, 1)


@pytest.mark.parametrize(("ours", "theirs"), [(gradcheck, torch_gradcheck), (gradgradcheck, torch_gradgradcheck)])
def test_every_argument_of_torchs_own_is_accepted_with_its_default(ours, theirs):
    mine = inspect.signature(ours).parameters
    for name, parameter in inspect.signature(theirs).parameters.items():
        assert name in mine
        assert mine[name].kind is parameter.kind
        assert mine[name].default == parameter.default


@pytest.mark.parametrize(("ours", "wrong"), [(gradcheck, Tripled), (gradgradcheck, Detached)])
def test_right_is_true_and_wrong_raises_or_is_false(ours, wrong):
    (x,) = randn((3, 4))
    assert ours(Square.apply, (x,)) is True
    assert ours(wrong.apply, x, raise_exception=False) is False
    with pytest.raises(GradcheckError, match="FAIL") as caught:
        ours(wrong.apply, (x,))
    assert isinstance(caught.value, GradientError)
    assert x.grad is None


def test_it_finds_what_torchs_own_passes():
    (x,) = randn((3, 4))
    assert torch_gradcheck(Clamped.apply, (x,))
    assert gradcheck(Clamped.apply, (x,), raise_exception=False) is False


def test_tolerances_do_not_hide_a_fault():
    (x,) = randn((3, 4))
    assert gradcheck(Tripled.apply, (x,), eps=1e-2, atol=10.0, rtol=10.0, raise_exception=False) is False


@pytest.mark.parametrize("ours", [gradcheck, gradgradcheck])
def test_a_kink_is_no_alarm(ours):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours(Relu.apply, torch.zeros(3, dtype=F64, requires_grad=True))


def test_plain_values_are_passed_on():
    (x,) = randn((3, 4))
    assert gradcheck(lambda x, k: x * k, (x, 2.0))


@pytest.mark.parametrize("ours", [gradcheck, gradgradcheck])
def test_inputs_without_gradient_are_refused_as_torch_does(ours):
    with pytest.raises(ValueError, match="requires_grad=True"):
        ours(Square.apply, torch.ones(3, dtype=F64))


def test_a_refused_second_derivative_is_none():
    (x,) = randn((3, 4))
    assert gradcheck(Once.apply, x)
    assert gradgradcheck(Once.apply, x, raise_exception=False) is False
    with pytest.raises(GradcheckError, match="once_differentiable"):
        gradgradcheck(Once.apply, x)


def test_undecided_is_true_with_a_warning_of_its_own():
    (x,) = randn((3, 4))
    with pytest.warns(UndecidedWarning, match="could not decide: .*zero") as caught:
        assert gradgradcheck(torch.round, x) is True
    assert caught[0].filename == __file__


def test_modes_that_are_switched_off_are_not_asked():
    (x,) = randn((3, 4))
    assert gradcheck(Tripled.apply, x, check_backward_ad=False, check_forward_ad=True) is True
    with pytest.raises(ValueError, match="both False"):
        gradcheck(Tripled.apply, x, check_backward_ad=False)


def test_declared_noise_and_unhandled_none_are_not_asked():
    (x,) = randn((3, 4))
    assert gradcheck(Square.apply, x, nondet_tol=1e-7, check_undefined_grad=False)
