"""Hypothesis ``shapes``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import shapes
from gradharness.model.verdict import Fault
from tests.diagnosis.making import case, evidence, randn, sample, setting


def of_shapes(failing, passing):
    where = setting()
    cases = [case(where, randn(*s)) for s in passing]
    return evidence(*(sample(randn(*s), randn(*s, seed=1)) for s in failing), passing=cases)


@pytest.mark.parametrize(
    ("failing", "passing", "words"),
    [
        ([(1, 3), (1, 4)], [(2, 3), (5, 4)], "x has size 1 in dimension 0"),
        ([(3, 5), (2, 9)], [(3, 3), (2, 4)], "x has size 5 or more in dimension 1"),
        ([(3, 5), (2, 9)], [(3, 16), (2, 4)], "dimension 1 is no multiple of 2"),
        ([(4, 8), (16, 2)], [(4, 2), (2, 8)], "x has 32 elements or more"),
    ],
)
def test_sizes_that_separate_failing_from_passing_cases_are_told(failing, passing, words):
    explanation = shapes.explain(of_shapes(failing, passing))
    assert explanation.fault is Fault.WRONG_FOR_SHAPE
    assert words in explanation.message


@pytest.mark.parametrize(
    ("failing", "passing"),
    [
        ([(1, 3)], [(2, 3), (5, 4)]),
        ([(1, 3), (1, 4)], [(2, 3)]),
        ([(3, 4), (2, 3)], [(3, 4), (2, 3)]),
        ([(2, 3), (2,)], [(3, 3), (3,)]),
    ],
    ids=["one failing", "one passing", "no property", "other dims"],
)
def test_too_few_cases_or_no_property_tell_no_shape(failing, passing):
    assert shapes.explain(of_shapes(failing, passing)) is None
