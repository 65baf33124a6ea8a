"""Hypothesis ``named``: what it names, and what it must not."""

from gradharness.diagnosis.hypotheses import named
from gradharness.model.verdict import Fault
from tests.diagnosis.making import TRUTHS, correct, evidence, sample, seen


def test_a_fault_that_the_check_names_keeps_its_name():
    one = sample(TRUTHS[0], TRUTHS[0], fault=Fault.WRONG_DTYPE, detail="in float32")
    explanation = named.explain(evidence(one))
    assert (explanation.fault, explanation.message) == (Fault.WRONG_DTYPE, "in float32")
    assert explanation.holds(one)
    assert not explanation.holds(correct(TRUTHS[0]))
    assert explanation.retold(one) == "in float32"
    assert named.explain(seen(lambda t: 2 * t)) is None
