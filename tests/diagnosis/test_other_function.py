"""Hypothesis ``other_function``: what it names, and what it must not."""

import torch
import torch.nn.functional as F

from gradharness.diagnosis.hypotheses import other_function
from gradharness.model.verdict import Fault
from tests.diagnosis.making import ONE, measured, setting


def test_the_derivative_of_another_function_is_told_by_its_name():
    wrong = setting(F.gelu, lambda x, g: torch.ops.aten.gelu_backward(g, x, approximate="tanh"))
    found = measured(wrong, *ONE)
    explanation = other_function.explain(found)
    assert explanation.fault is Fault.WRONG_FORMULA
    assert "the tanh approximation of GELU" in explanation.message
    assert explanation.holds(found.samples[1])


def test_an_unknown_function_and_the_right_one_are_not_named():
    assert other_function.explain(measured(setting(F.gelu, lambda x, g: g * x.abs().sqrt()), *ONE)) is None
    right = setting(F.gelu, lambda x, g: torch.ops.aten.gelu_backward(g, x))
    assert other_function.explain(measured(right, *ONE)) is None
