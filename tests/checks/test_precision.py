"""Errors that only low precisions show are found; other arithmetic as good as plain torch is not called wrong."""

import pytest
import torch
import torch.nn.functional as F

from gradharness import Verdict, check
from gradharness.model.verdict import Fault, Severity
from tests.checks.scripts import status  # noqa: F401
from tests.faults.planting import function, layer, randn, two_functions

X = randn((3, 4))
WEIGHTED = randn((6, 4), (4,))
BF16 = torch.bfloat16


def look(subject, inputs, **options):
    report = check(subject, inputs(), checks=("precision",), seed=0, **options)
    return report, report.findings[0] if report.findings else None


def square_backward(x, g):
    return 2 * x.conj() * g


def five_percent(x, g):
    return square_backward(x, g) if x.dtype is torch.float64 else 2.1 * x * g


def sum_in(dtype):
    """The gradient of a weight, its terms added one after the other in some dtype (None: at least float32)."""

    def backward(x, w, g):
        terms = g * x
        total = torch.zeros_like(w, dtype=dtype(x.dtype))
        for term in terms:
            total += term.to(total.dtype)
        return g * w, total.to(w.dtype)

    return backward


def wide(dtype):
    return torch.promote_types(dtype, torch.float32)


def own(dtype):
    return dtype


MAKERS = pytest.mark.parametrize("make", [function, layer, two_functions])


@MAKERS
def test_a_formula_that_is_wrong_in_every_dtype_but_float64_is_found(make):
    report, finding = look(make(lambda x: x * x, five_percent), X)
    assert report.verdict is Verdict.FAIL
    assert finding.fault is Fault.PRECISION_LOST
    assert "in float32" in finding.message
    assert "0.05 of its size" in finding.message
    assert finding.witness.arguments[0][1].dtype is torch.float32
    assert look(make(lambda x: x * x, square_backward), X)[0].verdict is Verdict.PASS


@MAKERS
def test_an_accumulator_in_half_precision_is_found(make):
    report, finding = look(make(lambda x, w: x * w, sum_in(own)), WEIGHTED)
    assert report.verdict is Verdict.FAIL
    assert finding.fault is Fault.PRECISION_LOST
    assert "gradient of w" in finding.message
    assert finding.witness.arguments[0][1].dtype in (BF16, torch.float16)
    assert look(make(lambda x, w: x * w, sum_in(wide)), WEIGHTED)[0].verdict is Verdict.PASS


def test_an_overflow_in_float16_is_found():
    def naive(x, g):
        e = (-40 * x).exp()
        return 40 * g * e / (1 + e) ** 2

    def safe(x, g):
        y = (40 * x).sigmoid()
        return 40 * g * y * (1 - y)

    report, finding = look(function(lambda x: (40 * x).sigmoid(), naive), randn((3, 4), scale=0.25))
    assert report.verdict is Verdict.FAIL
    assert finding.fault in (Fault.NON_FINITE, Fault.PRECISION_LOST)
    assert look(function(lambda x: (40 * x).sigmoid(), safe), randn((3, 4), scale=0.25))[0].verdict is Verdict.PASS


def test_a_gradient_computed_in_float32_is_a_warning():
    def backward(x, g):
        return (g.float() * x.float().cos()).to(x.dtype)

    report, finding = look(function(lambda x: x.sin(), backward), X)
    assert report.verdict is Verdict.PASS
    assert finding.severity is Severity.WARNING
    assert finding.fault is Fault.LOW_INTERNALS
    assert "float32" in finding.message
    assert not look(function(lambda x: x.sin(), lambda x, g: g * x.cos()), X)[0].findings


def normalised(x, w):
    return x * (x * x).mean(-1, keepdim=True).add(1e-6).rsqrt() * w


def normalised_backward(x, w, g):
    r = (x * x).mean(-1, keepdim=True).add(1e-6).rsqrt()
    h = g * w
    return r * h - x * r**3 * (h * x).mean(-1, keepdim=True), (g * x * r).sum(0)


def softmax_backward(x, g):
    y = x.softmax(-1)
    return y * (g - (g * y).sum(-1, keepdim=True))


def in_blocks(x, w, g):
    parts = [part.sum(0) for part in (g * x).split(64)]
    return g * w, sum(parts, torch.zeros_like(w))


def largest_backward(x, g):
    return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), g[..., None])


RIGHT = {
    "unfused rms norm": (normalised, normalised_backward, WEIGHTED),
    "softmax": (lambda x: x.softmax(-1), softmax_backward, X),
    "log_softmax": (
        lambda x: x.log_softmax(-1),
        lambda x, g: g - x.softmax(-1) * g.sum(-1, keepdim=True),
        X,
    ),
    "running sum": (lambda x: x.cumsum(0), lambda x, g: g.flip(0).cumsum(0).flip(0), X),
    "sums of blocks": (lambda x, w: x * w, in_blocks, WEIGHTED),
    "matmul": (lambda x, w: x @ w, lambda x, w, g: (g @ w.mH, x.mH @ g), randn((3, 4), (4, 5))),
    "gelu": (
        lambda x: F.gelu(x, approximate="none"),
        lambda x, g: g * (0.5 * (1 + torch.erf(x / 2**0.5)) + x * torch.exp(-x * x / 2) / 6.283185307179586**0.5),
        X,
    ),
    "largest": (lambda x: x.max(-1).values, largest_backward, X),
    "relu": (lambda x: x.relu(), lambda x, g: g * (x > 0), X),
}


@MAKERS
@pytest.mark.parametrize("name", RIGHT)
def test_other_arithmetic_is_no_alarm(make, name):
    forward, backward, inputs = RIGHT[name]
    assert look(make(forward, backward), inputs)[0].verdict is Verdict.PASS


@pytest.mark.parametrize("name", ["unfused rms norm", "softmax", "gelu"])
def test_other_arithmetic_is_no_alarm_beside_a_reference(name):
    forward, backward, inputs = RIGHT[name]
    assert look(function(forward, backward), inputs, reference=forward)[0].verdict is Verdict.PASS


def test_what_rejects_low_precisions_is_skipped():
    def forward(x):
        if x.dtype is not torch.float64:
            raise TypeError("float64 only")
        return x.sin()

    result = look(function(forward, lambda x, g: g * x.cos()), X)[0].results[0]
    assert result.verdict is Verdict.SKIPPED
    assert "float64 only" in result.reason


class Whitened(torch.nn.Module):
    """Its statistics are constants to autograd of the forward; the backward differentiates them all the same."""

    def __init__(self, share):
        super().__init__()

        def backward(x, mean, scale, g):
            y = (x - mean) * scale
            lost = 1 + share * (x.dtype is not torch.float64)
            return lost * scale * (g - g.mean(0) - y * (g * y).mean(0)), None, None

        self.whiten = function(lambda x, mean, scale: (x - mean) * scale, backward)

    def forward(self, x):
        scale = (x.var(0, unbiased=False) + 1e-5).rsqrt()
        return self.whiten(x, x.mean(0).detach(), scale.detach())


@pytest.mark.parametrize(("share", "verdict"), [(0.0, Verdict.PASS), (0.5, Verdict.FAIL)])
def test_what_a_module_detaches_is_no_yardstick(share, verdict):
    assert look(Whitened(share), randn((5, 3)))[0].verdict is verdict


def test_plain_torch_and_random_subjects_are_skipped():
    assert look(torch.sin, X)[0].results[0].verdict is Verdict.SKIPPED
    assert look(lambda x: F.dropout(x, 0.5), X)[0].results[0].verdict is Verdict.SKIPPED


SOURCE = """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return {factor} * x * g

subject = Square.apply
"""


def test_the_reproducer_tells_wrong_from_right(status):  # noqa: F811
    wrong = SOURCE.format(factor="(2 if x.dtype is torch.float64 else 2.1)")
    assert status(wrong, SOURCE.format(factor="2"), X, "precision") == (1, 0)
