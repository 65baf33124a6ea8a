"""Hypothesis ``nonlinear``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import nonlinear
from gradharness.model.verdict import Fault
from tests.diagnosis.making import ONE, TRUTHS, evidence, exp, measured, sample, setting


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda x, g: g.abs() * x.exp(), "absolute value"),
        (lambda x, g: g.relu() * x.exp(), "for -1 times"),
        (lambda x, g: g * g.abs() * x.exp(), "grows with its square"),
        (lambda x, g: g.clamp(-20, 20) * x.exp(), "for 64 times"),
    ],
)
def test_a_gradient_that_is_not_linear_is_told_by_how(vjp, words):
    explanation = nonlinear.explain(measured(setting(exp, vjp), *ONE))
    assert explanation.fault is Fault.NOT_LINEAR
    assert words in explanation.message


def test_a_linear_gradient_is_not_accused():
    assert nonlinear.explain(measured(setting(exp, lambda x, g: 3 * g), *ONE)) is None
    misshapen = evidence(sample(TRUTHS[0], TRUTHS[1]))
    assert nonlinear.explain(misshapen) is None
