"""Hypothesis ``derivative``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import derivative
from gradharness.model.verdict import Fault
from tests.diagnosis.making import measured, randn, setting

POINTS = [(randn(n, 3, seed=n), randn(3, 4, seed=n + 5)) for n in (2, 5)]


def seen(vjp):
    return measured(setting(lambda x, y: (x @ y).tanh(), vjp), *POINTS)


def slope(x, y):
    return 1 - (x @ y).tanh() ** 2


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda x, y, g: (g @ y.T, None), "lacks the derivative of `tanh`"),
        (
            lambda x, y, g: (g * slope(x, y) * (x @ y).tanh() @ y.T, None),
            "factor y too many (or lacks it as a divisor)",
        ),
    ],
)
def test_a_step_of_the_chain_rule_is_told_by_its_operation(vjp, words):
    found = seen(vjp)
    explanation = derivative.explain(found)
    assert explanation.fault is Fault.MISSING_FACTOR
    assert words in explanation.message
    assert all(explanation.holds(s) for s in found.samples)


@pytest.mark.parametrize(
    "vjp",
    [lambda x, y, g: (g * slope(x, y) @ y.T, None), lambda x, y, g: (g * slope(x, y) ** 0.5 @ y.T, None)],
    ids=["right", "another power"],
)
def test_another_derivative_is_not_named(vjp):
    assert derivative.explain(seen(vjp)) is None
