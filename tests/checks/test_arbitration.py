"""Who is wrong when a gradient and an oracle disagree: every answer that there is."""

from __future__ import annotations

import pytest
import torch

from gradharness.checks import find_check
from gradharness.checks.base import Setting
from gradharness.inputs.recipe import Directions, Recipe, cotangents
from gradharness.model.case import Case
from gradharness.model.subject import Primals
from gradharness.model.verdict import Fault, Verdict
from gradharness.subjects import FunctionSubject, pair

F64 = torch.float64


def judged(forward, vjp, *values, reference=None, dtype=F64, surrogate=False):
    """The vjp check on one pair at one point."""
    subject = pair(forward, vjp)
    leaves = tuple(torch.as_tensor(v, dtype=dtype) for v in values)
    primals = Primals(tuple("xyz"[: len(leaves)]), leaves, tuple((i,) for i in range(len(leaves))))
    linearization = subject.linearize(primals)
    recipe = Recipe(seed=3)
    like = linearization.cotangent_like
    case = Case(
        primals=primals,
        outputs=linearization.outputs,
        output_labels=linearization.labels,
        differentiable=linearization.differentiable,
        cotangents=cotangents(recipe, like),
        other_cotangents=cotangents(recipe, like, stream=1),
        directions=Directions(recipe, leaves),
        recipe={},
    )
    source = None if reference is None else FunctionSubject("reference", reference)
    setting = Setting.of(subject, source, surrogate=surrogate, dtype=dtype)
    return find_check("vjp").examine(setting, case)


POINT = [0.5, -1.25, 2.0]


def test_a_wrong_gradient_beside_a_reference_fails():
    found = judged(torch.sin, lambda x, w: w * x.cos() * 2, POINT, reference=torch.sin)
    assert found.verdict is Verdict.FAIL
    assert found.discrepancies[0].label == "x"


def test_a_wrong_gradient_fails_by_differences_alone_and_is_explained_element_by_element():
    found = judged(torch.sin, lambda x, w: w * x.cos() * torch.tensor([1.0, 1.0, 1.1]), POINT)
    assert found.verdict is Verdict.FAIL
    wrong = (found.discrepancies[0].got - found.discrepancies[0].expected).abs() > found.discrepancies[0].bound
    assert wrong.tolist() == [False, False, True]


def test_a_surrogate_fails_beside_its_reference_without_differences():
    found = judged(torch.sin, lambda x, w: w * 2, POINT, reference=lambda x: x * 1, surrogate=True)
    assert found.verdict is Verdict.FAIL


def test_a_wrong_reference_is_the_suspect():
    found = judged(torch.sin, lambda x, w: w * x.cos(), POINT, reference=lambda x: x.sin() + 0.1 * x)
    assert found.verdict is Verdict.UNDECIDED
    assert found.warnings[0].fault is Fault.REFERENCE_SUSPECT


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_any_value_between_the_slopes_at_a_kink_is_right(slope):
    def vjp(x, w):
        return w * torch.where(x == 0, slope, (x > 0).to(F64))

    found = judged(torch.relu, vjp, [0.0, 1.0, -1.0], reference=torch.relu)
    assert found.verdict in (Verdict.PASS, Verdict.UNDECIDED)


@pytest.mark.parametrize("slope", [-1.0, 2.0])
def test_a_value_beyond_the_slopes_at_a_kink_is_refused(slope):
    def vjp(x, w):
        return w * torch.where(x == 0, slope, (x > 0).to(F64))

    assert judged(torch.relu, vjp, [0.0, 1.0, -1.0], reference=torch.relu).verdict is Verdict.FAIL


def test_a_share_of_a_tie_is_right_and_full_credit_for_all_is_refused():
    def even(x, w):
        tied = (x == x.amax()).to(F64)
        return w * tied / tied.sum()

    def full(x, w):
        return w * (x == x.amax()).to(F64)

    tie = [1.0, 1.0, 1.0, 0.0]
    assert judged(torch.amax, even, tie, reference=lambda x: x.max(0).values).verdict is not Verdict.FAIL
    assert judged(torch.amax, full, tie, reference=lambda x: x.max(0).values).verdict is Verdict.FAIL


def test_full_credit_for_both_of_two_equals_shows_where_they_move_together():
    def first(x, w):
        return torch.zeros_like(x).scatter(0, x.argmax(0, keepdim=True), w.reshape(1))

    def even(x, w):
        return both(x, w) / (x == x.amax()).sum()

    def both(x, w):
        return w * (x == x.amax()).to(F64)

    def reference(x):
        return x.max(0).values

    tie = [1.0, 0.5, 1.0, 0.0]
    assert judged(torch.amax, both, tie, reference=reference).verdict is Verdict.FAIL
    assert judged(torch.amax, even, tie, reference=reference).verdict is not Verdict.FAIL
    assert judged(torch.amax, first, tie, reference=torch.amax).verdict is not Verdict.FAIL


def _sorted_backward(x, w, factor=1.0):
    """Hands each weight to the element that a stable sort put there; torch's own order of equals is another."""
    return torch.zeros_like(x).scatter_add(0, x.argsort(stable=True), factor * w)


MANY_EQUAL = [1.0, 0.5, 1.0, 1.0, 0.5] * 8


def test_many_equals_have_more_orders_than_can_be_seen_beside_them():
    found = judged(
        lambda x: torch.sort(x).values,
        _sorted_backward,
        MANY_EQUAL,
        reference=lambda x: x.sort(descending=True).values.flip(0),
    )
    assert found.verdict is not Verdict.FAIL


def test_a_factor_is_no_matter_of_order():
    found = judged(
        lambda x: torch.sort(x).values,
        lambda x, w: _sorted_backward(x, w, 1.5),
        MANY_EQUAL,
        reference=lambda x: x.sort(descending=True).values.flip(0),
    )
    assert found.verdict is Verdict.FAIL


def test_equals_may_be_dealt_out_in_any_order():
    def vjp(x, w):
        return torch.zeros_like(x).scatter(0, x.flip(0).argsort(stable=True).neg() + 3, w)

    found = judged(lambda x: x.sort().values, vjp, [0.0, 0.0, 0.0, 0.0], reference=lambda x: x.sort().values)
    assert found.verdict is Verdict.UNDECIDED


def test_round_off_of_the_subject_is_no_fault():
    saturated = [22.0, 24.0]
    found = judged(
        torch.tanh,
        lambda x, w: w * (1 - torch.tanh(x) ** 2),
        saturated,
        reference=lambda x: 1 - 2 / ((2 * x).exp() + 1),
    )
    assert found.verdict is not Verdict.FAIL


def test_what_is_not_finite_is_refused_where_a_slope_exists():
    def vjp(x, w):
        return w * torch.where(x == 0.5, torch.nan, x.cos())

    assert judged(torch.sin, vjp, POINT, reference=torch.sin).verdict is Verdict.FAIL
    assert judged(torch.sin, vjp, POINT).verdict is Verdict.FAIL


def test_what_is_not_finite_is_no_fault_where_the_slope_is_not_either():
    def vjp(x, w):
        return w / (2 * x.sqrt())

    assert judged(torch.sqrt, vjp, [0.0, 1.0]).verdict is Verdict.UNDECIDED
    assert judged(torch.sqrt, vjp, [0.0, 1.0], reference=lambda x: x**0.5).verdict is not Verdict.FAIL


def test_a_special_point_without_a_derivative_decides_nothing():
    # Along every line the median of three equals is as steep to the left as to the right, and no gradient is right.
    def vjp(x, w):
        return torch.zeros_like(x).scatter(0, x.median(0).indices.reshape(1), w.reshape(1))

    found = judged(lambda x: x.median(0).values, vjp, [1.0, 1.0, 1.0])
    assert found.verdict is not Verdict.FAIL


def test_a_special_point_with_a_derivative_decides():
    # x·y at the origin, wrong there alone: the differences are additive over the elements, so that they are right.
    def vjp(x, w):
        return torch.where(x == 0.25, 0.0, 2 * x * w)

    assert judged(torch.square, vjp, [0.25, 0.5, -1.0]).verdict is Verdict.FAIL


def test_one_element_in_each_of_two_leaves_is_two_blocks():
    def vjp(x, y, w):
        return w * torch.sign(y) * torch.sign(x), torch.zeros_like(y)

    assert judged(torch.copysign, vjp, [0.0], [0.0]).verdict is not Verdict.FAIL
