"""Where a function has features finer than the steps of a difference, a right gradient is not called wrong."""

import pytest
import torch

from gradharness import Verdict, check
from gradharness.numerics.tolerance import tolerance_for
from tests.faults.planting import function


def at(*values):
    return lambda: (torch.tensor([values], dtype=torch.float64, requires_grad=True),)


STAIRS = {
    "floor": torch.floor,
    "round": torch.round,
    "trunc": torch.trunc,
    "frac": torch.frac,
    "fmod": lambda x: torch.fmod(x, 1.3),
    "remainder": lambda x: torch.remainder(x, 1.3),
}
LARGE = [2.0**20, 2.0**32, 2.0**44, 2.0**66]


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("name", STAIRS)
def test_stairs_and_saws_far_from_zero_are_no_alarm(name, size):
    report = check(STAIRS[name], at(1.37 * size, -0.71 * size, 0.5 * size)(), checks=("vjp",), seed=0)
    assert report.verdict is not Verdict.FAIL, report


@pytest.mark.parametrize("size", [1.0, 1e6, 1e9])
def test_a_wrong_factor_far_from_zero_is_not_excused(size):
    assert tolerance_for(torch.float64).rtol < 1e-3
    wrong = function(lambda x: x * x, lambda x, g: 2.001 * g * x)
    report = check(wrong, at(1.37 * size, -0.71 * size)(), checks=("vjp",), seed=0)
    assert report.verdict is Verdict.FAIL, report


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_a_zero_gradient_beside_a_large_offset_is_not_excused(offset):
    """A few ulps of x do not move x² + 1e8: as flat as a tread, and no reason to believe a gradient of zero."""
    wrong = function(lambda x: x * x + offset, lambda x, g: 0 * g)
    report = check(wrong, at(1.37, -0.71, 3.0)(), checks=("vjp",), seed=0)
    assert report.verdict is Verdict.FAIL, report


def test_a_zero_gradient_behind_cancellation_is_not_excused():
    wrong = function(lambda x: (x * x + 1e6) - 1e6, lambda x, g: 0 * g)
    report = check(wrong, at(1.37, -0.71, 3.0)(), checks=("vjp",), seed=0)
    assert report.verdict is Verdict.FAIL, report


@pytest.mark.parametrize("name", ["gelu", "ndtr"])
def test_a_slope_below_the_rounding_of_a_unit_is_no_alarm(name):
    """1 + erf(x) rounds to zero at x = -17, where its slope is 1e-65."""
    subject = {"gelu": torch.nn.functional.gelu, "ndtr": torch.special.ndtr}[name]
    report = check(subject, at(-17.27)(), checks=("vjp",), seed=0)
    assert report.verdict is not Verdict.FAIL, report
