"""Hypothesis ``unknown``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis import diagnose
from gradharness.diagnosis.hypotheses import unknown
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, SAME, TRUTHS, evidence, measured, sample, seen, setting


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (seen(lambda t: t * t), "in no pattern that was recognised; the closest multiple"),
        (seen(lambda t: t + 1, truths=[torch.tensor([2.0], dtype=F64)]), "in no pattern that was recognised"),
        (seen(torch.ones_like, truths=[torch.zeros(2, dtype=F64)]), "closest multiple of the right one is 0"),
        (evidence(sample(TRUTHS[0], TRUTHS[1], detail="G·v = 3")), "G·v = 3"),
        (evidence(sample(TRUTHS[0], TRUTHS[1], oracle="differences")), "x disagrees with differences"),
    ],
)
def test_what_nothing_explains_is_unknown(found, words):
    explanation = unknown.explain(found)
    assert explanation.fault is Fault.UNKNOWN
    assert words in explanation.message


def test_without_an_explanation_the_answer_is_unknown():
    where = setting(lambda x: x.sin(), lambda x, g: g * x)
    assert diagnose(measured(where, *((t,) for t in SAME))).fault is Fault.UNKNOWN
