"""Hypothesis ``zero``: what it names, and what it must not."""

import torch

from gradharness.diagnosis import diagnose
from gradharness.diagnosis.hypotheses import zero
from gradharness.model.verdict import Fault
from tests.diagnosis.making import correct, randn, seen


def test_a_gradient_of_zeros_is_zero_unless_it_is_right_elsewhere():
    explanation = zero.explain(seen(torch.zeros_like))
    assert explanation.fault is Fault.ZERO_GRADIENT
    assert zero.explain(seen(lambda t: t * torch.tensor([0.0] + [1.0] * (t.shape[1] - 1)))) is None
    assert diagnose(seen(torch.zeros_like, right=[correct(randn(2, 2, seed=8))])).fault is not Fault.ZERO_GRADIENT
    assert diagnose(seen(torch.zeros_like, right=[correct(torch.zeros(2, 2))])).fault is Fault.ZERO_GRADIENT
