"""Hypothesis ``transposed``: what it names, and what it must not."""

import torch

from gradharness.diagnosis.hypotheses import transposed
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, evidence, measured, randn, sample, seen, setting

SQUARES = [randn(n, n, seed=n) for n in (2, 3, 4)]


def test_a_transposed_gradient_is_recognised_by_values_and_by_shape():
    explanation = transposed.explain(seen(lambda t: t.mT, truths=SQUARES))
    assert explanation.fault is Fault.TRANSPOSED
    flat = sample(randn(2, 3), randn(3, 2), leaf=randn(2, 3))
    assert explanation.holds(flat)
    assert not explanation.holds(sample(randn(2, 3), randn(3, 5), leaf=randn(2, 3)))
    assert not explanation.holds(sample(randn(2, 3), randn(2, 3, seed=1)))
    assert not explanation.holds(sample(randn(3), randn(3, seed=1)))
    assert transposed.explain(seen(lambda t: 2 * t, truths=SQUARES)) is None


def product(x, y):
    return x @ y


POINTS = [(randn(3, n, seed=n), randn(n, n, seed=n + 9)) for n in (2, 3, 4)]


def test_a_transpose_that_is_missing_inside_is_told_by_its_argument():
    where = setting(product, lambda x, y, g: (g @ y, x.T @ g))
    found = measured(where, *POINTS)
    explanation = transposed.explain(found)
    assert explanation.message == "gradient of x uses y where y transposed is due"
    assert all(explanation.holds(s) for s in found.samples)
    assert not explanation.holds(measured(where, (randn(3, 1), randn(1, 1))).first)


def test_another_fault_of_a_product_is_no_missing_transpose():
    where = setting(product, lambda x, y, g: (g @ y * 2, x.T @ g))
    assert transposed.explain(measured(where, *POINTS)) is None
    blind = setting(product, where.subject.vjp, oracle=False)
    assert transposed.explain(evidence(*measured(where, *POINTS).samples, where=blind)) is None


def test_an_oracle_that_rejects_the_transposed_argument_proves_nothing():
    def picky(x, y):
        if y[0, 0] != y.reshape(-1)[0] or y[0, 1] < y[1, 0]:
            raise ValueError("upper elements have to be larger")
        return x @ y

    ordered = torch.tensor([[1.0, 3.0], [2.0, 4.0]], dtype=F64)
    where = setting(picky, lambda x, y, g: (g @ y, x.T @ g))
    assert transposed.explain(measured(where, (randn(3, 2), ordered))) is None
