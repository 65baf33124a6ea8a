"""Hypothesis ``part``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import part
from gradharness.model.verdict import Fault
from tests.diagnosis.making import evidence, measured, randn, setting


def forward(x):
    return x - x.mean(-1, keepdim=True) * x.exp()


POINTS = [(randn(4, n, seed=n),) for n in (3, 5, 6)]


def right(x, g, c=1.0):
    e = x.exp()
    return g - c * (g * e).sum(-1, keepdim=True) / x.shape[-1] - g * e * x.mean(-1, keepdim=True)


def seen(vjp):
    return measured(setting(forward, vjp), *POINTS)


@pytest.mark.parametrize(
    ("c", "fault", "words"),
    [
        (0.0, Fault.MISSING_TERM, "lacks the part through `mean`"),
        (-1.0, Fault.SIGN, "has the wrong sign"),
        (2.5, Fault.CONSTANT_FACTOR, "5/2 times"),
    ],
)
def test_a_part_is_told_by_the_operation_that_it_flows_through(c, fault, words):
    found = seen(lambda x, g: right(x, g, c))
    explanation = part.explain(found)
    assert explanation.fault is fault
    assert words in explanation.message
    assert explanation.holds(found.samples[1])
    assert not explanation.holds(seen(right).first)


def test_a_part_whose_share_follows_a_size_is_told_by_the_size():
    explanation = part.explain(seen(lambda x, g: right(x, g, x.shape[-1])))
    assert explanation.fault is Fault.CONSTANT_FACTOR
    assert "the size of x in dimension 1" in explanation.message


@pytest.mark.parametrize(
    "vjp",
    [
        lambda x, g: right(x, g, x.abs().mean()),
        lambda x, g: right(x, g) + 0.1 * x * g,
        right,
    ],
    ids=["a share of its own in every case", "another term", "right"],
)
def test_what_is_no_part_is_not_named(vjp):
    assert part.explain(seen(vjp)) is None


def test_without_an_oracle_or_with_few_elements_nothing_is_named():
    blind = setting(forward, lambda x, g: right(x, g, 0.0), oracle=False)
    samples = seen(lambda x, g: right(x, g, 0.0)).samples
    assert part.explain(evidence(*samples, where=blind)) is None
    few = measured(setting(forward, lambda x, g: right(x, g, 0.0)), (randn(1, 2),))
    assert part.explain(few) is None
