"""Hypothesis ``not_finite``: what it names, and what it must not."""

import math

import torch

from gradharness.diagnosis.hypotheses import not_finite
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, TRUTHS, evidence, sample, seen


def test_a_gradient_that_is_not_finite_is_told_with_its_place():
    got = TRUTHS[0].clone()
    got[1, 2] = math.nan
    one = sample(TRUTHS[0], got, leaf=torch.full((3, 4), 30.0, dtype=F64))
    explanation = not_finite.explain(evidence(one))
    assert explanation.fault is Fault.NON_FINITE
    assert "nan in 1 of 12 elements, first at [1, 2], where x is 30" in explanation.message
    assert explanation.holds(one)
    assert not_finite.explain(seen(lambda t: 2 * t)) is None
    assert not_finite.explain(evidence(sample(got, got))) is None
