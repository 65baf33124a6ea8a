"""Hypothesis ``conjugate``: what it names, and what it must not."""

import torch

from gradharness.diagnosis.hypotheses import conjugate
from gradharness.model.verdict import Fault
from tests.diagnosis.making import measured, randn, setting


def test_a_missing_conjugate_is_recognised():
    points = [(randn(2, 3, seed=i, dtype=torch.complex128),) for i in range(2)]
    wrong = setting(lambda x: x * x, lambda x, g: 2 * x * g)
    found = measured(wrong, *points)
    explanation = conjugate.explain(found)
    assert explanation.fault is Fault.MISSING_CONJUGATE
    assert all(explanation.holds(s) for s in found.samples)
    assert conjugate.explain(measured(setting(lambda x: x * x, lambda x, g: 3 * x.conj() * g), *points)) is None
    assert conjugate.explain(measured(setting(), (randn(2),))) is None
