"""Hypothesis ``precision``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import precision
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, ONE, measured, setting


def seen(vjp):
    return measured(setting(lambda x: x.sin(), vjp), *ONE)


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda x, g: (g * x.cos()).half().to(F64), "float16, by `(g * x.cos()).half()`"),
        (lambda x, g: g * x.bfloat16().to(F64).cos(), "bfloat16, by `x.bfloat16()`"),
        (lambda x, g: g.float().to(F64) * x.cos(), "float32"),
        (lambda x, g: (g.bfloat16() * x.cos().bfloat16()).to(F64), "bfloat16"),
    ],
)
def test_fewer_bits_are_told_with_the_conversion(vjp, words):
    explanation = precision.explain(seen(vjp))
    assert explanation.fault is Fault.LOW_INTERNALS
    assert words in explanation.message


@pytest.mark.parametrize(
    "vjp",
    [lambda x, g: 1.0005 * g * x.cos(), lambda x, g: g * x.cos() + 1e-4 * g, lambda x, g: g * torch.ones_like(x)],
)
def test_a_small_error_is_not_yet_rounding(vjp):
    assert precision.explain(seen(vjp)) is None
