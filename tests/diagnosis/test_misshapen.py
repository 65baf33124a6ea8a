"""Hypothesis ``misshapen``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import misshapen
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, TRUTHS, correct, evidence, sample, seen


@pytest.mark.parametrize(
    ("primal", "gradient", "fault"),
    [
        ((2, 3), (3, 2), Fault.TRANSPOSED),
        ((3,), (4, 3), Fault.MISSING_REDUCTION),
        ((1, 3), (4, 3), Fault.MISSING_REDUCTION),
        ((2, 3), (5,), Fault.WRONG_SHAPE),
        ((3,), (4, 2), Fault.WRONG_SHAPE),
    ],
)
def test_a_gradient_of_another_shape_is_told_from_its_shape(primal, gradient, fault):
    one = sample(torch.zeros(primal, dtype=F64), torch.ones(gradient, dtype=F64))
    explanation = misshapen.explain(evidence(one))
    assert explanation.fault is fault
    assert str(gradient) in explanation.message
    assert explanation.holds(one)
    assert explanation.retold(one) == explanation.message
    assert not explanation.holds(correct(TRUTHS[0]))


def test_a_gradient_of_the_right_shape_has_no_shape_fault():
    assert misshapen.explain(seen(lambda t: 2 * t)) is None
    assert misshapen.explain(evidence(sample(TRUTHS[0], None))) is None
    assert misshapen.explain(evidence(sample(TRUTHS[0], TRUTHS[1], label="output"))) is None
