"""Hypothesis ``missing``: what it names, and what it must not."""

import torch

from gradharness.diagnosis.hypotheses import missing
from gradharness.model.verdict import Fault
from tests.diagnosis.making import TRUTHS, evidence, sample, seen


def test_no_gradient_at_all_is_missing():
    explanation = missing.explain(evidence(sample(TRUTHS[0], None)))
    assert explanation.fault is Fault.MISSING_GRADIENT
    assert explanation.holds(sample(TRUTHS[1], None))
    assert missing.explain(seen(torch.zeros_like)) is None
