"""A gradient that is wrong for the sign that no example shows is worth a warning, and no failure."""

import pytest
import torch

from gradharness import Severity, Verdict, check
from gradharness.model.verdict import Fault
from tests.faults.planting import function


def uniform():
    g = torch.Generator().manual_seed(1)
    return (torch.rand(3, 4, generator=g, dtype=torch.float64, requires_grad=True),)


WRONG = function(lambda x: x**3, lambda x, g: 3 * g * x * x.abs())
RIGHT = function(lambda x: x**3, lambda x, g: 3 * g * x * x)


def findings(subject, inputs=None):
    report = check(subject, inputs or uniform(), checks=("extremes",), seed=0)
    assert report.verdict is not Verdict.FAIL, report
    return report.findings


def test_a_gradient_that_is_wrong_for_negative_numbers_is_a_warning():
    (finding,) = findings(WRONG)
    assert finding.severity is Severity.WARNING
    assert finding.fault is Fault.WRONG_REGION
    assert "negative x" in finding.message
    assert bool((finding.witness.arguments[0][1] < 0).all())


@pytest.mark.parametrize("subject", [RIGHT, function(lambda x: x.sqrt(), lambda x, g: g / (2 * x.sqrt()))])
def test_a_right_gradient_and_a_forward_that_refuses_are_silent(subject):
    assert not findings(subject)


def test_a_declared_region_is_not_left():
    assert not check(WRONG, {"x": torch_spec()}, checks=("extremes",), seed=0).findings


def torch_spec():
    from gradharness import tensor

    return tensor("n d", low=0.1, high=1.0)
