"""Hypothesis ``residual``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import residual
from gradharness.model.verdict import Fault
from tests.diagnosis.making import measured, randn, setting

POINTS = [(randn(4, n, seed=n),) for n in (5, 6, 7)]


def forward(x):
    return x.exp() / x.exp().sum(-1, keepdim=True)


def right(x, g):
    y = forward(x)
    return y * (g - (g * y).sum(-1, keepdim=True))


def seen(error, truth=forward, gradient=right):
    return measured(setting(truth, lambda x, g: gradient(x, g) + error(x, g)), *POINTS)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda x, g: 0.3 * g.sum(), "is a constant:"),
        (lambda x, g: g.sin().sum(-1, keepdim=True) + 0 * x, "a constant along dimension 1"),
        (lambda x, g: g.sum(-1, keepdim=True) * forward(x), "a multiple of the output along dimension 1"),
        (lambda x, g: g.sum(0, keepdim=True) * x, "a multiple of x along dimension 0"),
        (lambda x, g: g.sum(-1, keepdim=True) * x + g.amax(-1, keepdim=True), "a constant plus a multiple of x"),
    ],
)
def test_an_error_that_is_a_multiple_of_something_is_told(error, words):
    found = seen(error)
    explanation = residual.explain(found)
    assert explanation.fault is Fault.MISSING_TERM
    assert words in explanation.message
    assert explanation.holds(found.samples[1])


@pytest.mark.parametrize(
    "error",
    [lambda x, g: 0.1 * x * x * g, lambda x, g: x.abs().sqrt(), lambda x, g: g.roll(1, 1) * x],
)
def test_an_error_of_another_form_is_not_named(error):
    assert residual.explain(seen(error)) is None


def test_where_the_gradient_has_that_form_itself_it_says_nothing():
    def slope(x, g):
        return (2 * x.sum(-1) * g)[:, None] * torch.ones_like(x)

    found = seen(lambda x, g: (g * x.amax(-1))[:, None] + 0 * x, lambda x: x.sum(-1) ** 2, slope)
    assert residual.explain(found) is None


def test_few_elements_fit_anything():
    few = measured(setting(forward, lambda x, g: right(x, g) + x * g), (randn(2, 2),), (randn(1, 2, seed=3),))
    assert residual.explain(few) is None
