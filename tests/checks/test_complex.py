"""A missing conjugate is found, of real inputs too where a product is complex as well as real."""

import pytest
import torch

from gradharness import Verdict, check
from gradharness.model.verdict import Fault, Severity
from tests.checks.scripts import status  # noqa: F401
from tests.faults.planting import function, layer, randn

X = randn((3, 4))
XY = randn((3, 4), (3, 4))
XW = randn((3, 4), (4, 5))


def complex_pair():
    return tuple(torch.complex(a.detach(), b.detach()).requires_grad_() for a, b in zip(XY(), XY()[::-1], strict=True))


def look(subject, inputs, **options):
    report = check(subject, inputs(), checks=("complex",), seed=0, **options)
    return report.results[0], report.findings[0] if report.findings else None


FAULTS = {
    "product": (lambda x, y: x * y, lambda x, y, g: (g * y, g * x), lambda x, y, g: (g * y.conj(), g * x.conj()), XY),
    "matmul": (lambda x, w: x @ w, lambda x, w, g: (g @ w.mT, x.mT @ g), lambda x, w, g: (g @ w.mH, x.mH @ g), XW),
    "one of two": (
        lambda x, y: x * y,
        lambda x, y, g: (g * y.conj(), g * x),
        lambda x, y, g: (g * y.conj(), g * x.conj()),
        XY,
    ),
    "complex inputs": (
        lambda x, y: x.sin() * y,
        lambda x, y, g: (g * x.cos() * y, g * x.sin().conj()),
        lambda x, y, g: (g * (x.cos() * y).conj(), g * x.sin().conj()),
        complex_pair,
    ),
}


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_a_missing_conjugate_is_found(name, with_reference):
    forward, wrong, right, inputs = FAULTS[name]
    reference = forward if with_reference else None
    result, finding = look(function(forward, wrong), inputs, reference=reference)
    # Nobody has claimed complex numbers where examples are real and nothing says what the function is.
    claimed = with_reference or inputs is complex_pair
    assert result.verdict is (Verdict.FAIL if claimed else Verdict.SKIPPED)
    assert finding.severity is (Severity.ERROR if claimed else Severity.WARNING)
    assert finding.fault is Fault.MISSING_CONJUGATE
    assert "lacks a conjugate" in finding.message
    assert finding.witness.arguments[0][1].is_complex()
    assert look(function(forward, right), inputs, reference=reference)[0].verdict is Verdict.PASS


def test_where_specs_declare_real_inputs_nothing_is_asked():
    wrong = function(lambda x, y: x * y, lambda x, y, g: (g * y, g * x))
    report = check(wrong, {"x": "n m", "y": "n m"}, reference=torch.mul, checks=("complex",), seed=0)
    assert report.results[0].verdict is Verdict.SKIPPED
    assert "declared to be real" in report.results[0].reason
    assert not report.findings


def test_another_error_for_complex_numbers_is_found():
    def wrong(x, y, g):
        return (g * y.conj() / (2 if x.is_complex() else 1), g * x.conj())

    assert look(function(lambda x, y: x * y, wrong), XY)[1].fault is Fault.WRONG_FOR_COMPLEX


def test_a_class_with_complex_inputs_is_held_to_the_convention():
    forward, wrong, right, inputs = FAULTS["complex inputs"]
    assert look(layer(forward, wrong), inputs)[0].verdict is Verdict.FAIL
    assert look(layer(forward, right), inputs)[0].verdict is Verdict.PASS


RIGHT = {
    "modulus": (lambda x: x.abs(), lambda x, g: g * x.sgn()),
    "real part": (lambda x: x.real * x.real, lambda x, g: 2 * g * x.real),
    "fft": (
        lambda x: torch.fft.fft(x, dim=-1),
        lambda x, g: torch.fft.ifft(g, norm="forward") if x.is_complex() else None,
    ),
    "square": (lambda x: x * x, lambda x, g: 2 * x.conj() * g),
    "squared modulus": (lambda x: (x * x.conj()).real, lambda x, g: 2 * g * x),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_convention_is_no_alarm(name):
    forward, backward = RIGHT[name]
    inputs = (lambda: complex_pair()[:1]) if name == "fft" else X
    assert look(function(forward, backward), inputs)[0].verdict is Verdict.PASS


REAL = {
    "relu": (lambda x: x.relu(), lambda x, g: g * (x > 0), "does not take complex numbers"),
    "comparison": (lambda x: x.sin(), lambda x, g: g * torch.where(x > 9, 0, x.cos()), "backward raises"),
    "sine": (lambda x: x.sin(), lambda x, g: g * x.cos(), "not claimed"),
    "polynomial": (lambda x: x**3, lambda x, g: g * 3 * x * x, "not claimed"),
    "imaginary part dropped": (lambda x: x.to(torch.float64).sin(), lambda x, g: g * x.cos(), "complex numbers"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_functions_are_skipped(name):
    forward, backward, reason = REAL[name]
    result, finding = look(function(forward, backward), X)
    assert result.verdict is Verdict.SKIPPED
    assert finding is None
    assert reason in result.reason


def test_a_quotient_that_turns_with_its_arguments_is_no_product():
    subject = function(
        lambda x, y: x * y / (x.norm() * y.norm()),
        lambda x, y, g: tuple(
            (g * b - a * (g * a * b).sum() / (a * a).sum()) / (x.norm() * y.norm()) for a, b in ((x, y), (y, x))
        ),
    )
    result, finding = look(subject, XY)
    assert result.verdict is Verdict.SKIPPED
    assert finding is None


def test_a_reference_that_is_another_function_of_complex_numbers_makes_no_claim():
    forward, wrong, _, inputs = FAULTS["product"]
    result, _ = look(function(forward, wrong), inputs, reference=lambda x, y: x * y.conj())
    assert result.verdict is Verdict.SKIPPED


SOURCE = """
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return {line}

subject = Product.apply
"""


def test_the_reproducer_tells_wrong_from_right(status):  # noqa: F811
    wrong, right = SOURCE.format(line="g * y, g * x"), SOURCE.format(line="g * y.conj(), g * x.conj()")
    assert status(wrong, right, XY, "complex") == (1, 0)
