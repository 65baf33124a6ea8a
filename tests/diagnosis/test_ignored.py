"""Hypothesis ``ignored``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import ignored
from gradharness.model.verdict import Fault
from tests.diagnosis.making import ONE, exp, measured, setting


def test_an_ignored_cotangent_is_recognised():
    explanation = ignored.explain(measured(setting(exp, lambda x, g: x.exp()), *ONE))
    assert explanation.fault is Fault.COTANGENT_IGNORED


@pytest.mark.parametrize(
    "vjp",
    [
        lambda x, g: 2 * g * x.exp(),
        lambda x, g: 0 * g,
        lambda x, g: g / g.norm(),
        lambda x, g: x.exp() if g.norm() < 6 else torch.zeros(2)[3],
    ],
    ids=["used", "zero", "direction used", "raises"],
)
def test_a_cotangent_that_is_used_is_not_ignored(vjp):
    assert ignored.explain(measured(setting(exp, vjp), *ONE)) is None
