"""Hypothesis ``slices``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import slices
from gradharness.model.verdict import Fault
from tests.diagnosis.making import measured, randn, setting

POINTS = [(randn(n, 5, seed=n), randn(5, 3, seed=n + 5)) for n in (5, 6, 7)]


def seen(change):
    """Evidence of a product whose second gradient is that of a changed cotangent."""
    where = setting(lambda x, y: x @ y, lambda x, y, g: (g @ y.T, x.T @ change(g)))
    return measured(where, *POINTS, label="y")


def without_last(g):
    return torch.cat([g[:-1], 0 * g[-1:]])


@pytest.mark.parametrize(
    ("change", "fault", "words"),
    [
        (without_last, Fault.WRONG_REGION, "leaves out the last place of the cotangent along dimension 0"),
        (lambda g: g * (torch.arange(len(g)) == 0)[:, None], Fault.MISSING_REDUCTION, "uses the first place"),
        (lambda g: g * (torch.arange(len(g)) < len(g) // 4 * 4)[:, None], Fault.WRONG_REGION, "whole block of 4"),
        (lambda g: g.roll(1, 0), Fault.WRONG_ELEMENTS, "shifted by one place along dimension 0"),
        (lambda g: g.flip(1), Fault.WRONG_ELEMENTS, "reversed along dimension 1"),
        (lambda g: g.sum(0, keepdim=True).expand_as(g), Fault.EXTRA_REDUCTION, "summed along dimension 0"),
        (lambda g: g.mean().expand_as(g), Fault.EXTRA_REDUCTION, "uses the mean of the cotangent"),
    ],
)
def test_a_changed_cotangent_is_told(change, fault, words):
    found = seen(change)
    explanation = slices.explain(found)
    assert explanation.fault is fault
    assert words in explanation.message
    assert all(explanation.holds(s) for s in found.samples)


@pytest.mark.parametrize("change", [lambda g: 2 * g, lambda g: g, lambda g: g * g, lambda g: g + g.roll(1, 0)])
def test_another_fault_is_no_changed_cotangent(change):
    assert slices.explain(seen(change)) is None
