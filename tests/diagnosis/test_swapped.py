"""Hypothesis ``swapped``: what it names, and what it must not."""

from gradharness.diagnosis.hypotheses import swapped
from tests.diagnosis.making import measured, randn, setting


def test_another_arguments_gradient_is_recognised():
    right = setting(lambda x, y: x * y.sin(), lambda x, y, g: (g * y.sin(), g * x * y.cos()))
    where = setting(lambda x, y: x * y.sin(), lambda x, y, g: (g * x * y.cos(), g * y.sin()))
    points = [(randn(2, 3, seed=i), randn(2, 3, seed=i + 5)) for i in range(2)]
    explanation = swapped.explain(measured(where, *points))
    assert explanation.message == "gradient of x is the gradient of y"
    assert explanation.holds(measured(where, *points).first)
    assert swapped.explain(measured(right, *points)) is None
    assert swapped.explain(measured(where, (randn(1), randn(1, seed=3)))) is None
