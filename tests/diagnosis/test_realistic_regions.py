"""Clips, tails of loops and diagonals that a backward treats otherwise than its forward: beside correct twins."""

import pytest
import torch

from gradharness.model.verdict import Fault
from tests.diagnosis.test_realistic import found
from tests.diagnosis.test_realistic_axes import is_right
from tests.faults.planting import randn


def clipped(x, a):
    return torch.minimum(x.clamp(min=0), a)


def clipped_backward(mask):
    return lambda x, a, g: (g * ((x > 0) & (x < a)), (g * mask(x, a)).sum())


def clipped_inputs():
    return (*randn((4, 5))(), torch.tensor(0.7, dtype=torch.float64, requires_grad=True))


def unrolled(end):
    def backward(x, g):
        flat = torch.zeros(x.numel(), dtype=x.dtype)
        n = end(x.numel())
        flat[:n] = (g * x.cos()).reshape(-1)[:n]
        return flat.reshape(x.shape)

    return backward


def triangular_backward(diagonal, other):
    return lambda x, v, g: ((g @ v.mT).tril(diagonal), x.tril(other).mT @ g)


CASES = {
    "all of a clip": (
        clipped,
        clipped_backward(lambda x, a: torch.ones_like(x)),
        clipped_backward(lambda x, a: x > a),
        clipped_inputs,
        Fault.MISSING_FACTOR,
        "comes from `minimum`",
    ),
    "the other side": (
        clipped,
        clipped_backward(lambda x, a: x < a),
        clipped_backward(lambda x, a: x > a),
        clipped_inputs,
        Fault.WRONG_REGION,
        "compares with < where > is due",
    ),
    "tail": (
        torch.sin,
        unrolled(lambda n: n // 4 * 4),
        unrolled(lambda n: n),
        randn((3, 5)),
        Fault.WRONG_REGION,
        "beyond the last whole block of 4",
    ),
    "diagonal": (
        lambda x, v: x.tril() @ v,
        triangular_backward(-1, 0),
        triangular_backward(0, 0),
        randn((4, 4), (4, 3)),
        Fault.WRONG_REGION,
        "dimension 0 equals that in dimension 1",
    ),
    "diagonal of an operand": (
        lambda x, v: x.tril() @ v,
        triangular_backward(0, -1),
        triangular_backward(0, 0),
        randn((4, 4), (4, 3)),
        Fault.WRONG_REGION,
        "starts its triangle at the wrong diagonal",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_belongs_to_a_region(name):
    forward, wrong, right, inputs, fault, words = CASES[name]
    forward = (lambda x: x.sin()) if forward is torch.sin else forward
    finding = found(forward, wrong, inputs)
    assert finding.fault is fault, finding.message
    assert words in finding.message
    assert is_right(forward, right, inputs)
