"""Hypothesis ``stale``: what it names, and what it must not."""

from gradharness.diagnosis.hypotheses import nonlinear, stale
from gradharness.model.verdict import Fault
from tests.diagnosis.making import ONE, measured, setting


def test_a_buffer_that_is_added_to_is_told():
    buffer = []

    def vjp(x, g):
        buffer.append(g * x.cos())
        return sum(buffer)

    found = measured(setting(lambda x: x.sin(), vjp), *ONE)
    explanation = stale.explain(found)
    assert explanation.fault is Fault.STALE_STATE
    assert "have added to it" in explanation.message
    assert nonlinear.explain(found) is None


def test_the_point_of_an_earlier_call_is_told():
    kept = {}

    def vjp(x, g):
        return g * kept.setdefault("x", x).cos()

    explanation = stale.explain(measured(setting(lambda x: x.sin(), vjp), *ONE))
    assert explanation.fault is Fault.STALE_STATE
    assert "at the point of an earlier call" in explanation.message


def test_a_wrong_formula_without_a_memory_is_not_stale():
    assert stale.explain(measured(setting(lambda x: x.sin(), lambda x, g: 2 * g * x), *ONE)) is None
    assert stale.explain(measured(setting(lambda x: x.sin(), lambda x, g: 2 * g * x.cos()), *ONE)) is None
