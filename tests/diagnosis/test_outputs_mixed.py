"""Hypothesis ``outputs_mixed``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import outputs_mixed
from gradharness.model.verdict import Fault
from tests.diagnosis.making import ONE, evidence, measured, setting


def two(x):
    return x.sin(), x.exp()


@pytest.mark.parametrize(
    ("vjp", "fault"),
    [
        (lambda x, g, h: g * x.cos(), Fault.OUTPUT_DROPPED),
        (lambda x, g, h: h * x.exp(), Fault.OUTPUT_DROPPED),
        (lambda x, g, h: h * x.cos() + g * x.exp(), Fault.OUTPUTS_CROSSED),
        (lambda x, g, h: 2 * g * x.cos() + h * x.exp(), None),
    ],
)
def test_cotangents_of_two_outputs_may_be_dropped_or_crossed(vjp, fault):
    explanation = outputs_mixed.explain(measured(setting(two, vjp), *ONE))
    assert (explanation and explanation.fault) is fault


def test_outputs_of_unlike_shapes_are_never_crossed_and_one_output_never_mixed():
    where = setting(lambda x: (x.sin(), x.exp().sum()), lambda x, g, h: 3 * g * x.cos() + h * x.exp())
    assert outputs_mixed.explain(measured(where, *ONE)) is None
    assert outputs_mixed.explain(measured(setting(), *ONE)) is None
    blind = setting(two, lambda x, g, h: g, oracle=False)
    samples = measured(setting(two, lambda x, g, h: g), *ONE).samples
    assert outputs_mixed.explain(evidence(*samples, where=blind)) is None
