"""Hypothesis ``repair``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import repair
from gradharness.model.verdict import Fault
from tests.diagnosis.making import evidence, measured, randn, setting


def forward(x, y):
    return (x.exp() * y).sum(0) @ y.mT


POINTS = [(randn(n, n, seed=n), randn(n, n, seed=n + 7)) for n in (3, 4, 5)]


def seen(vjp, **rest):
    return measured(setting(forward, lambda x, y, g: (vjp(x, y, g), None), **rest), *POINTS)


@pytest.mark.parametrize(
    ("vjp", "fault", "words"),
    [
        (lambda x, y, g: (g @ y.mT) * x.exp() * y, Fault.TRANSPOSED, "`y.mT` in line"),
        (lambda x, y, g: (g @ y) * x.exp() * y * y, Fault.EXTRA_FACTOR, "too many"),
        (lambda x, y, g: (g @ y) * x.exp(), Fault.MISSING_FACTOR, "lacks the factor y"),
        (lambda x, y, g: (g @ y) * (x.exp() * y - 0.5 * y), Fault.EXTRA_TERM, "`0.5 * y`"),
        (lambda x, y, g: (g @ y) * (3 * x.exp() - x.exp()) * y, None, ""),
    ],
    ids=["transposed", "too many", "missing", "extra term", "constant"],
)
def test_an_operation_is_told_by_its_line(vjp, fault, words):
    found = seen(vjp)
    explanation = repair.explain(found)
    assert explanation.fault is (fault or Fault.CONSTANT_FACTOR)
    assert words in explanation.message
    assert "test_repair.py" in explanation.message
    assert all(explanation.holds(s) for s in found.samples)


def right(x, y, g):
    return (g @ y) * x.exp() * y


@pytest.mark.parametrize(
    "vjp",
    [
        right,
        lambda x, y, g: (g @ y.mT) * x * y,
        lambda x, y, g: (g @ y) * (x.exp() + 0.1 * x.abs().sqrt() * g) * y * x.norm(),
    ],
    ids=["right", "two faults", "several"],
)
def test_what_no_single_change_mends_is_not_named(vjp):
    assert repair.explain(seen(vjp)) is None


def test_a_change_that_spoils_what_is_right_is_no_explanation():
    def vjp(x, y, g):
        return (g @ (y.mT if len(x) > 3 else y)) * x.exp() * y

    found = seen(vjp)
    wrong = [s for s in found.samples if s.wrong.any()]
    right_ones = [s for s in found.samples if not s.wrong.any()]
    assert wrong
    assert right_ones
    assert repair.explain(evidence(*wrong, where=found.setting)).fault is Fault.TRANSPOSED
    whole = evidence(*wrong, where=found.setting, right=right_ones)
    explanation = repair.explain(whole)
    assert explanation is None or all(not explanation.holds(s) for s in right_ones)
