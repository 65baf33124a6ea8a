"""Hypothesis ``jacobian``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import jacobian
from gradharness.model.verdict import Fault
from tests.diagnosis.making import evidence, measured, randn, setting

POINTS = [(randn(n, n, seed=n), randn(n, seed=n + 7)) for n in (3, 4, 5)]


def forward(a, x):
    return a @ x.sin() + x


def seen(vjp):
    return measured(setting(forward, lambda a, x, g: (None, vjp(a, x, g))), *POINTS, label="y")


@pytest.mark.parametrize(
    ("vjp", "fault", "words"),
    [
        (lambda a, x, g: a @ (g * x.cos()) + g, Fault.TRANSPOSED, "is J·w where Jᵀ·w is due"),
        (lambda a, x, g: a.diagonal() * g * x.cos() + g, Fault.MISSING_TERM, "the Jacobian's diagonal alone"),
        (lambda a, x, g: (a.sum(0) * x.cos() + 1) * g, Fault.WRONG_FORMULA, "the gradient of the output's sum"),
    ],
)
def test_another_use_of_the_jacobian_is_told(vjp, fault, words):
    found = seen(vjp)
    explanation = jacobian.explain(found)
    assert explanation.fault is fault
    assert words in explanation.message
    assert explanation.holds(found.samples[1])


@pytest.mark.parametrize(
    "vjp",
    [
        lambda a, x, g: a.T @ g * x.cos() + g,
        lambda a, x, g: a @ g * x.cos() + g,
        lambda a, x, g: a.diagonal() * g * x.cos(),
    ],
    ids=["right", "transposed in part", "part of the diagonal"],
)
def test_what_is_no_such_use_is_not_named(vjp):
    assert jacobian.explain(seen(vjp)) is None


def test_without_an_oracle_or_for_complex_numbers_nothing_is_named():
    found = seen(lambda a, x, g: a @ (g * x.cos()) + g)
    assert jacobian.explain(evidence(*found.samples, where=setting(forward, oracle=False))) is None
    where = setting(lambda x: x.roll(1, 0), lambda x, g: g.roll(1, 0))
    assert jacobian.explain(measured(where, (randn(4, 3),), (randn(5, 2),))) is not None
    assert jacobian.explain(measured(where, (randn(4, 3, dtype=torch.complex128),))) is None
