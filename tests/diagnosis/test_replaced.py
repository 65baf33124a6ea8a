"""Hypothesis ``replaced``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import replaced
from gradharness.model.verdict import Fault
from tests.diagnosis.making import evidence, measured, randn, setting

POINTS = [(randn(3, 4, seed=n), randn(3, 4, seed=n + 7)) for n in range(3)]


def forward(x, y):
    return x.sin() * y.exp() + y.roll(1, 1) * x


def seen(vjp):
    return measured(setting(forward, lambda x, y, g: (vjp(x, y, g), None)), *POINTS)


@pytest.mark.parametrize(
    ("vjp", "fault", "words"),
    [
        (lambda x, y, g: g * (x.cos() * x.exp() + x.roll(1, 1)), Fault.WRONG_OPERAND, "takes x where y is due"),
        (lambda x, y, g: g * (x.cos() * (-y).exp() - y.roll(1, 1)), Fault.SIGN, "minus y"),
        (lambda x, y, g: g * (x.cos() * torch.e + 1), Fault.MISSING_FACTOR, "a y that is 1 everywhere"),
        (lambda x, y, g: g * (x.cos() * y.roll(1, 1).exp() + y.roll(2, 1)), Fault.WRONG_ELEMENTS, "y shifted by one"),
        (lambda x, y, g: g * (x.cos() * y.flip(0).exp() + y.flip(0).roll(1, 1)), Fault.WRONG_ELEMENTS, "y reversed"),
    ],
)
def test_another_operand_is_told(vjp, fault, words):
    found = seen(vjp)
    explanation = replaced.explain_operands(found)
    assert explanation.fault is fault, explanation.message
    assert words in explanation.message
    assert explanation.holds(found.samples[1])


@pytest.mark.parametrize(
    "vjp",
    [
        lambda x, y, g: g * (x.cos() * y.exp() + y.roll(1, 1)),
        lambda x, y, g: g * (x.cos() * x.exp() + y.roll(1, 1)),
        lambda x, y, g: 1.01 * g * (x.cos() * x.exp() + x.roll(1, 1)),
    ],
    ids=["right", "in one place of two", "and a factor"],
)
def test_what_is_right_at_no_other_point_is_not_named(vjp):
    assert replaced.explain_operands(seen(vjp)) is None


def test_a_case_that_is_right_refutes_it():
    found = seen(lambda x, y, g: g * (x.cos() * x.exp() + x.roll(1, 1)))
    right = seen(lambda x, y, g: g * (x.cos() * y.exp() + y.roll(1, 1))).samples
    assert replaced.explain_operands(evidence(*found.samples, right=right, where=found.setting)) is None


def test_a_conjugate_that_one_operand_lacks_is_told():
    points = [tuple(randn(2, 3, seed=n + k, dtype=torch.complex128) for k in (0, 5)) for n in range(2)]

    def product(x, y):
        return x * y * y.conj() * y

    wrong = setting(product, lambda x, y, g: (g * (y * y.conj() * y), None))
    explanation = replaced.explain_conjugates(measured(wrong, *points))
    assert explanation.fault is Fault.MISSING_CONJUGATE
    assert "takes y where its conjugate is due" in explanation.message
    right = setting(product, lambda x, y, g: (g * (y * y.conj() * y).conj(), None))
    assert replaced.explain_conjugates(measured(right, *points)) is None
