"""Hypothesis ``place``: what it names, and what it must not."""

import math

import pytest
import torch

from gradharness.diagnosis.hypotheses import place
from gradharness.model.verdict import Fault
from tests.diagnosis.making import SAME, evidence, randn, sample, seen


def turns(t):
    return t * (1 + 0.05 * (-1.0) ** torch.arange(t.numel()).reshape(t.shape))


def test_factors_that_belong_to_places_are_told_with_them():
    explanation = place.explain(seen(turns, truths=SAME))
    assert explanation.fault is Fault.WRONG_ELEMENTS
    assert "1.05 at [0, 0], 0.95 at [0, 1]" in explanation.message
    many = place.explain(seen(lambda t: t * torch.arange(12.0).reshape(3, 4), truths=SAME))
    assert many.message.endswith("…")


@pytest.mark.parametrize(
    ("change", "truths"),
    [
        (turns, SAME[:2]),
        (lambda t: 2 * t, SAME),
        (lambda t: t * t, SAME),
        (lambda t: t * math.nan, SAME),
        (turns, [randn(3, 4, seed=i, dtype=torch.complex128) for i in range(3)]),
    ],
    ids=["too few", "constant", "values", "nan", "complex"],
)
def test_other_factors_belong_to_no_place(change, truths):
    assert place.explain(seen(change, truths=truths)) is None


def test_a_sample_that_tells_nothing_refutes_a_factor_of_a_place():
    samples = [sample(t, turns(t)) for t in SAME] + [sample(SAME[0], SAME[0] * math.inf)]
    assert place.explain(evidence(*samples)) is None
