"""Hypothesis ``argument``: what it names, and what it must not."""

from dataclasses import replace

import pytest

from gradharness.diagnosis.hypotheses import argument
from gradharness.model.subject import Primals
from gradharness.model.verdict import Fault
from tests.diagnosis.making import evidence, randn, sample


def with_value(value):
    one = sample(randn(2, 3), randn(2, 3, seed=1))
    primals = Primals(("x", "mode"), (*one.case.primals.values, value), one.case.primals.active)
    return replace(one, case=replace(one.case, primals=primals))


def seen(failing, passing):
    return evidence(*map(with_value, failing), passing=[with_value(v).case for v in passing])


@pytest.mark.parametrize(
    ("failing", "passing", "words"),
    [
        ((True, True), (False,), "mode is True, and right where it is False"),
        (("a", "b"), ("c",), "mode is 'a' or 'b', and right where it is 'c'"),
        ((2,), (None, 1), "mode is 2, and right where it is 1 or None"),
    ],
)
def test_a_value_that_separates_failing_from_passing_cases_is_told(failing, passing, words):
    explanation = argument.explain(seen(failing, passing))
    assert explanation.fault is Fault.WRONG_FOR_ARGUMENT
    assert words in explanation.message


def test_a_value_that_both_have_or_that_is_no_plain_one_tells_nothing():
    assert argument.explain(seen((True, False), (False,))) is None
    assert argument.explain(seen((True,), ())) is None
    assert argument.explain(seen(((1, 2),), ((3, 4),))) is None
