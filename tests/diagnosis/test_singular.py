"""Hypothesis ``singular``: what it names, and what it must not."""

from gradharness.diagnosis.hypotheses import singular
from gradharness.model.verdict import Fault
from tests.diagnosis.test_shapes import of_shapes


def test_a_size_of_one_that_separates_the_cases_is_told():
    explanation = singular.explain(of_shapes([(1, 3), (1, 4)], [(2, 3), (5, 4)]))
    assert explanation.fault is Fault.WRONG_FOR_SHAPE
    assert explanation.message == "gradient of x is wrong only where x has size 1 in dimension 0"


def test_other_sizes_and_sizes_that_pass_as_well_are_left_to_others():
    assert singular.explain(of_shapes([(3, 5), (2, 9)], [(3, 3), (2, 4)])) is None
    assert singular.explain(of_shapes([(1, 3), (1, 4)], [(1, 5), (5, 4)])) is None
    assert singular.explain(of_shapes([(1, 3), (2, 4)], [(2, 3), (5, 4)])) is None
