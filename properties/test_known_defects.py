"""Every defect of PyTorch that excuses a FAIL is shown here: when it is mended, its test fails and the entry goes."""

from __future__ import annotations

import pytest
import torch

from properties.false_alarms import ENTRIES
from properties.known_defects import DEFECTS, contradicted, gradients

pytestmark = pytest.mark.filterwarnings("ignore")
BY_NAME = {e.name: e for e in ENTRIES}
_STEP = 1e-4  # of an input's largest element
_SLACK = 1e-2


def cotangent_of(function, inputs):
    return torch.full_like(function(*inputs), 3.0)


def slopes(function, inputs, number, flat):
    """One-sided slopes of every output, by differences of the function's values alone."""
    step = _STEP * (float(inputs[number].abs().max()) or 1.0)

    def at(t):
        moved = inputs[number].clone(memory_format=torch.contiguous_format)
        moved.view(-1)[flat] += t
        return function(*inputs[:number], moved, *inputs[number + 1 :])

    here = at(0.0)
    return (here - at(-step)) / step, (at(step) - here) / step


def interval(function, inputs, number, flat, cotangent):
    """Between which values an element of a gradient may lie."""
    left, right = (cotangent * s for s in slopes(function, inputs, number, flat))
    lower, upper = float(torch.minimum(left, right).sum()), float(torch.maximum(left, right).sum())
    slack = _SLACK * max(abs(lower), abs(upper))
    return lower - slack, upper + slack


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_differences_of_its_values_refute_the_gradient_of_torch(defect):
    entry, inputs = BY_NAME[defect.name], defect.example
    cotangent = cotangent_of(entry.function, inputs)
    active = [arg.active for arg in entry.args]
    right = gradients(defect.right, inputs, active, cotangent)
    torchs = gradients(entry.function, inputs, active, cotangent)
    numbers = [i for i, flag in enumerate(active) if flag]
    refuted = 0
    for number, expected, got in zip(numbers, right, torchs, strict=True):
        unit = 1e-6 * max(1e-300, float(expected.abs().max()))
        for flat in range(expected.numel()):
            lower, upper = interval(entry.function, inputs, number, flat, cotangent)
            if not lower <= upper:
                continue  # the slope is infinite there
            assert lower - unit <= float(expected.reshape(-1)[flat]) <= upper + unit
            refuted += not lower - unit <= float(got.reshape(-1)[flat]) <= upper + unit
    assert refuted
    assert contradicted(defect, entry, inputs, cotangent)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_nothing_is_excused_at_an_ordinary_point(defect):
    entry = BY_NAME[defect.name]
    g = torch.Generator().manual_seed(5)
    ordinary = [
        0.2 + 0.6 * torch.rand(x.shape, generator=g, dtype=x.dtype)
        for x in defect.example[-2:]
        if x.dtype.is_floating_point
    ]
    inputs = tuple(ordinary.pop(0) if x.is_floating_point() else x for x in defect.example)
    assert not contradicted(defect, entry, inputs, cotangent_of(entry.function, inputs))
