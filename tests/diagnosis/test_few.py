"""Hypothesis ``few``: what it names, and what it must not."""

from gradharness.diagnosis.hypotheses import few
from tests.diagnosis.making import SAME, TRUTHS, correct, evidence, sample, seen


def test_a_few_wrong_elements_are_named():
    got = TRUTHS[0].clone()
    got[2, 1] += 1
    explanation = few.explain(evidence(sample(TRUTHS[0], got)))
    assert explanation.message == "gradient of x is wrong in 1 of 12 elements: [2, 1]"
    assert explanation.holds(sample(TRUTHS[0], got))
    assert not explanation.holds(correct(TRUTHS[0]))
    many = explanation.retold(sample(TRUTHS[0], TRUTHS[0] + 1))
    assert "12 of 12" in many
    assert many.endswith("…")


def test_elements_that_are_wrong_at_other_places_next_time_are_not_named():
    samples = []
    for number, t in enumerate(SAME[:2]):
        got = t.clone()
        got[number, 1] += 1
        samples.append(sample(t, got))
    assert few.explain(evidence(*samples)) is None
    assert few.explain(seen(lambda t: t + 1)) is None
    assert few.explain(seen(lambda t: t)) is None
    assert few.explain(evidence(sample(TRUTHS[0], TRUTHS[1]))) is None
