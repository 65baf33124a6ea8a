"""Hypothesis ``factor``: what it names, and what it must not."""

import math

import pytest
import torch

from gradharness.diagnosis import diagnose
from gradharness.diagnosis.hypotheses import factor
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, TRUTHS, correct, evidence, randn, sample, seen


@pytest.mark.parametrize(
    ("c", "words"),
    [(1.5, "3/2"), (2.0, "is 2 times"), (1.0005, "1.0005"), (math.pi, "π"), (-math.pi, "-π"), (-0.5, "-1/2")],
)
def test_a_constant_factor_is_told_by_its_value(c, words):
    explanation = factor.explain(seen(lambda t: c * t))
    assert explanation.fault is Fault.CONSTANT_FACTOR
    assert words in explanation.message
    assert explanation.holds(sample(TRUTHS[2], c * TRUTHS[2]))
    assert not explanation.holds(sample(TRUTHS[2], 1.01 * c * TRUTHS[2]))


def test_minus_one_is_a_sign():
    explanation = factor.explain(seen(lambda t: -t))
    assert explanation.fault is Fault.SIGN
    assert explanation.holds(sample(TRUTHS[0], -TRUTHS[0]))


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (lambda n, d: 1 / n, "1/the batch size"),
        (lambda n, d: n, "the batch size"),
        (lambda n, d: 1 / math.sqrt(d), "1/sqrt of the size of x in dimension 1"),
        (lambda n, d: math.sqrt(d), "sqrt of the size of x in dimension 1"),
        (lambda n, d: n / (n - 1), "n/(n-1), n being the batch size"),
        (lambda n, d: (n - 1) / n, "(n-1)/n, n being the batch size"),
        (lambda n, d: n * d, "the number of elements of x"),
    ],
)
def test_a_factor_that_is_a_size_is_told_by_the_size(law, words):
    explanation = factor.explain(seen(lambda t: law(*t.shape) * t))
    assert explanation.fault is Fault.CONSTANT_FACTOR
    assert words in explanation.message
    other = randn(7, 3)
    assert explanation.holds(sample(other, law(7, 3) * other))
    assert "here" in explanation.retold(sample(other, law(7, 3) * other))


def test_a_formula_of_a_size_holds_nowhere_where_the_size_is_too_small_for_it():
    explanation = factor.explain(seen(lambda t: len(t) / (len(t) - 1) * t))
    one = randn(1, 3)
    assert not explanation.holds(sample(one, one))


@pytest.mark.parametrize(
    "change",
    [lambda t: t + 1, lambda t: t * t, lambda t: 0 * t, lambda t: t * math.nan, lambda t: t * (1 + t.numel() ** 0.3)],
    ids=["offset", "square", "zero", "nan", "another law of the size"],
)
def test_what_is_no_multiple_is_no_factor(change):
    assert factor.explain(seen(change)) is None


def test_one_element_tells_no_factor_and_neither_does_a_zero():
    one = torch.tensor([3.0], dtype=F64)
    assert factor.explain(evidence(sample(one, 2 * one))) is None
    assert factor.explain(seen(torch.ones_like, truths=[torch.zeros(2, 2, dtype=F64)])) is None


def test_a_factor_that_does_not_hold_everywhere_is_no_constant():
    right = [correct(randn(3, 4, seed=5))]
    assert diagnose(seen(lambda t: 2 * t, right=right)).fault is not Fault.CONSTANT_FACTOR


def test_a_complex_gradient_may_be_a_multiple_too():
    truth = randn(3, 4, dtype=torch.complex128)
    assert "is 2 times" in factor.explain(evidence(sample(truth, 2 * truth))).message
    assert factor.explain(evidence(sample(truth, 2j * truth))) is None
