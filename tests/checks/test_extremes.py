"""A gradient that breaks down at a special value is found; one that is infinite because the slope is, is not."""

import pytest
import torch
import torch.nn.functional as F

from gradharness import Verdict, check, index, mask, tensor
from gradharness.model.verdict import Fault
from tests.checks.scripts import status  # noqa: F401
from tests.faults.planting import function, layer, randn, two_functions

X = randn((3, 4))
MAKERS = pytest.mark.parametrize("make", [function, layer, two_functions])


def look(subject, inputs, **options):
    report = check(subject, inputs() if callable(inputs) else inputs, checks=("extremes",), seed=0, **options)
    return report.results[0], report.findings[0] if report.findings else None


def norm(x):
    return x.square().sum(-1).sqrt()


def norm_naive(x, g):
    return (g / norm(x))[..., None] * x


def norm_safe(x, g):
    size = norm(x)[..., None]
    return torch.where(size == 0, 0.0, g[..., None] * x / torch.where(size == 0, 1.0, size))


def sigmoid_naive(x, g):
    e = (-x).exp()
    return g * e / (1 + e) ** 2


def sigmoid_safe(x, g):
    y = x.sigmoid()
    return g * y * (1 - y)


def lse_naive(x, g):
    e = x.exp()
    return g[..., None] * e / e.sum(-1, keepdim=True)


def lse(x):
    return x.logsumexp(-1)


FAULTS = {
    "norm at zero": (norm, norm_naive, norm_safe),
    "sigmoid at 800": (torch.Tensor.sigmoid, sigmoid_naive, sigmoid_safe),
    "logsumexp at 800": (lse, lse_naive, lambda x, g: g[..., None] * x.softmax(-1)),
    "softplus at 800": (
        lambda x: F.softplus(x, 1.0),
        lambda x, g: g * x.exp() / (1 + x.exp()),
        lambda x, g: g * torch.where(x > 20, 1.0, x.sigmoid()),
    ),
}


def named(forward):
    return lambda x: forward(1.0 * x)


@MAKERS
@pytest.mark.parametrize("name", FAULTS)
def test_a_gradient_that_is_not_finite_is_found(make, name):
    forward, wrong, right = FAULTS[name]
    result, finding = look(make(named(forward), wrong), X)
    assert result.verdict is Verdict.FAIL
    assert finding.fault is Fault.NON_FINITE
    assert "gradient of x is nan" in finding.message
    assert look(make(named(forward), right), X)[0].verdict is Verdict.PASS


@pytest.mark.parametrize("name", FAULTS)
def test_a_gradient_that_is_not_finite_is_found_beside_a_reference(name):
    forward, wrong, right = FAULTS[name]
    reference = (lambda x: x.norm(dim=-1)) if forward is norm else named(forward)
    assert look(function(named(forward), wrong), X, reference=reference)[1].fault is Fault.NON_FINITE
    assert look(function(named(forward), right), X, reference=reference)[0].verdict is Verdict.PASS


def test_a_finite_gradient_that_is_wrong_at_a_saturated_value_is_found():
    def wrong(x, g):
        return g * torch.where(x > 500, 0.0, x.sigmoid())

    result, finding = look(function(lambda x: F.softplus(x, 1.0), wrong), X)
    assert result.verdict is Verdict.FAIL
    assert finding.fault is Fault.WRONG_AT_EXTREME
    assert look(function(lambda x: F.softplus(x, 1.0), lambda x, g: g * x.sigmoid()), X)[0].verdict is Verdict.PASS


def test_a_fully_masked_row_is_found():
    def forward(x, m):
        size = m.sum(-1).clamp(min=1)
        return (x * m).sum(-1) / size

    def wrong(x, m, g):
        return (g / m.sum(-1))[..., None] * m, None

    def right(x, m, g):
        return (g / m.sum(-1).clamp(min=1))[..., None] * m, None

    inputs = {"x": tensor("n d"), "m": mask("n d")}
    assert look(function(forward, wrong), inputs)[1].fault is Fault.NON_FINITE
    assert look(function(forward, right), inputs)[0].verdict is Verdict.PASS


def test_equal_indices_and_outermost_ones_are_no_alarm():
    def backward(x, i, g):
        return torch.zeros_like(x).index_add(0, i, g), None

    inputs = {"x": tensor("n d"), "i": index("k", below="n")}
    assert look(function(lambda x, i: x[i], backward), inputs)[0].verdict is Verdict.PASS


RIGHT = {
    "slope infinite at zero": (lambda x: x.abs().sqrt(), lambda x, g: g * x.sign() / (2 * x.abs().sqrt())),
    "pole at zero": (lambda x: 1 / x, lambda x, g: -g / (x * x)),
    "logarithm": (lambda x: x.abs().log(), lambda x, g: g / x),
    "overflow of the forward": (lambda x: x.exp(), lambda x, g: g * x.exp()),
    "softmax": (
        lambda x: x.softmax(-1),
        lambda x, g: x.softmax(-1) * (g - (g * x.softmax(-1)).sum(-1, keepdim=True)),
    ),
    "norm": (lambda x: x.norm(dim=-1), norm_safe),
    "kink": (lambda x: x.relu(), lambda x, g: g * (x > 0)),
    "ties": (lambda x: x.amax(-1), lambda x, g: (g / (e := x == x.amax(-1, keepdim=True)).sum(-1))[..., None] * e),
    "square of 1e30": (lambda x: x * x, lambda x, g: 2 * x * g),
}


@MAKERS
@pytest.mark.parametrize("name", RIGHT)
def test_where_no_finite_slope_exists_there_is_no_alarm(make, name):
    forward, backward = RIGHT[name]
    result, finding = look(make(forward, backward), X)
    assert result.verdict is Verdict.PASS, finding


@pytest.mark.parametrize("name", ["atan2", "acos", "pow", "where"])
def test_plain_torch_is_no_alarm(name):
    plain = {
        "atan2": lambda x: torch.atan2(x, x.flip(0)),
        "acos": lambda x: x.tanh().acos(),
        "pow": lambda x: x.abs() ** 0.5,
        "where": lambda x: torch.where(x > 0, x.sqrt(), x),
    }
    assert look(plain[name], X)[0].verdict is not Verdict.FAIL


def test_values_stay_in_the_domain():
    seen = []

    def forward(x):
        seen.append(x.detach())
        return x.log()

    inputs = {"x": tensor("n", low=0, high=1)}
    assert look(function(forward, lambda x, g: g / x), inputs)[0].verdict is Verdict.PASS
    assert all(bool(((x > 0) & (x < 1)).all()) for x in seen)


SOURCE = """
class Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        {line}

subject = Sigmoid.apply
"""


def test_the_reproducer_tells_wrong_from_right(status):  # noqa: F811
    wrong = SOURCE.format(line="return g * (-x).exp() / (1 + (-x).exp()) ** 2")
    right = SOURCE.format(line="return g * x.sigmoid() * (1 - x.sigmoid())")
    assert status(wrong, right, X, "extremes") == (1, 0)
