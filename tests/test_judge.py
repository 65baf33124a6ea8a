"""Error budgets: what is within, what is beyond, and what a pass would have seen."""

from __future__ import annotations

import math

import pytest
import torch

from gradharness.comparison import compare
from gradharness.judge import discrepancy, out_of_budget, rule, rule_slope
from gradharness.model.estimate import SlopeEstimate
from gradharness.numerics.tolerance import Tolerance

T = torch.tensor
TOLERANCE = Tolerance(rtol=1e-3, floor=0.1)


def ruled(got, expected, bound=0.0):
    return rule(compare("x", got, expected), bound, TOLERANCE)


def test_excess_is_the_largest_difference_in_units_of_its_tolerance():
    ruling = ruled(T([1.001, 2.004]), T([1.0, 2.0]))
    assert ruling.excess == pytest.approx(2.0, rel=1e-3)
    assert ruling.tolerance.tolist() == pytest.approx([1e-3, 2e-3])


def test_small_elements_have_the_floor():
    assert ruled(T([1.0, 0.0]), T([1.0, 1e-9])).tolerance[1] == pytest.approx(1e-3 * 0.1 / math.sqrt(2))


def test_the_oracles_bound_is_part_of_the_budget():
    assert ruled(T([1.5]), T([1.0])).excess > 1
    assert ruled(T([1.5]), T([1.0]), 0.6).excess < 1
    assert ruled(T([1.5, 1.0]), T([1.0, 1.0]), T([0.6, 0.0])).excess < 1


def test_resolution_is_the_worst_elements_budget_beside_the_rms():
    assert ruled(T([3.0, 4.0]), T([3.0, 4.0])).resolution == pytest.approx(4e-3 / math.sqrt(12.5))


def test_zeros_agree_with_zeros_and_claim_nothing():
    ruling = ruled(T([0.0, 0.0]), T([0.0, 0.0]))
    assert (ruling.excess, ruling.resolution) == (0.0, 0.0)


def test_anything_beside_zeros_is_out_of_budget():
    assert ruled(T([1e-30, 0.0]), T([0.0, 0.0])).excess == math.inf


def test_other_shapes_are_out_of_every_budget():
    assert ruled(T([1.0]), T([1.0, 2.0])).excess == math.inf


def test_nothing_is_wrong_with_no_element():
    ruling = ruled(torch.zeros(0), torch.zeros(0))
    assert (ruling.excess, ruling.resolution) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_out_of_budget(bad):
    assert ruled(T([bad, 1.0]), T([1.0, 1.0])).excess == math.inf


def test_nothing_is_said_where_the_oracle_is_not_finite():
    assert ruled(T([5.0, 1.0]), T([math.nan, 1.0])).excess == 0.0


def test_the_worst_discrepancy_comes_first():
    compared = [compare(n, T([g]), T([1.0])) for n, g in (("a", 1.1), ("b", 1.0), ("c", 2.0))]
    rulings = [rule(c, 0.0, TOLERANCE) for c in compared]
    found = out_of_budget(compared, rulings, "oracle")
    assert [d.label for d in found] == ["c", "a"]
    assert found[0].oracle == "oracle"
    assert discrepancy(compared[2], rulings[2], "oracle").excess == found[0].excess


def slope(value=1.0, bound=0.0):
    return SlopeEstimate(oracle="o", value=value, bound=bound)


def test_a_slope_is_held_to_bound_plus_relative_tolerance():
    assert rule_slope(1.0009, 1.0, slope(), TOLERANCE).agrees
    assert not rule_slope(1.0021, 1.0, slope(), TOLERANCE).agrees
    assert rule_slope(1.0021, 1.0, slope(bound=0.002), TOLERANCE).agrees


def test_the_scale_is_never_less_than_the_slope():
    assert rule_slope(0.0, 0.0, slope(value=-2.0), TOLERANCE).scale == 2.0


def test_a_nan_product_does_not_agree():
    assert not rule_slope(math.nan, math.nan, slope(), TOLERANCE).agrees


def test_a_slope_resolves_a_few_tolerances_and_nothing_without_a_scale():
    assert rule_slope(1.0, 1.0, slope(), TOLERANCE).resolution == pytest.approx(3.5e-3)
    assert rule_slope(0.0, 0.0, slope(value=0.0), TOLERANCE).resolution == math.inf
