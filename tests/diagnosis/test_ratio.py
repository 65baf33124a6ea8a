"""Hypothesis ``ratio``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import ratio
from gradharness.model.verdict import Fault
from tests.diagnosis.making import measured, randn, setting

POINTS = [(randn(3, n, seed=n),) for n in (3, 4)]


def seen(vjp):
    return measured(setting(lambda x: x.tanh() * 2, vjp), *POINTS)


def slope(x):
    return 2 * (1 - x.tanh() ** 2)


@pytest.mark.parametrize(
    ("vjp", "fault", "words"),
    [
        (lambda x, g: g * slope(x) * x, Fault.EXTRA_FACTOR, "has the factor x too many"),
        (lambda x, g: g * slope(x) / (3 * x), Fault.MISSING_FACTOR, "lacks the factor 3·x"),
        (lambda x, g: g * slope(x) * x.tanh(), Fault.MISSING_FACTOR, "lacks it as a divisor"),
    ],
)
def test_a_factor_that_is_an_argument_or_an_output_is_told(vjp, fault, words):
    found = seen(vjp)
    explanation = ratio.explain(found)
    assert explanation.fault is fault
    assert words in explanation.message
    assert explanation.holds(found.samples[1])


@pytest.mark.parametrize(
    "vjp",
    [lambda x, g: g * slope(x) * 2, lambda x, g: g * slope(x) * x.abs().sqrt(), lambda x, g: g * (slope(x) + x)],
    ids=["constant", "another function", "a sum"],
)
def test_another_factor_is_not_named(vjp):
    assert ratio.explain(seen(vjp)) is None


def test_a_few_elements_tell_no_factor():
    one = measured(setting(lambda x: x.sin(), lambda x, g: g * x.cos() * x), (randn(3),))
    assert ratio.explain(one) is None
