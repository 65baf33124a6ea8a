"""Values in one line."""

import pytest
import torch

from gradharness.report import show

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (torch.tensor(1.5, dtype=torch.float64), "float64[] = 1.5"),
        (torch.tensor([[1.0, -2.0], [NAN, INF]]), "float32[2, 2] = [[1, -2], [nan, inf]]"),
        (torch.tensor([1, 2]), "int64[2] = [1, 2]"),
        (torch.tensor([True, False]), "bool[2] = [True, False]"),
        (torch.tensor([1 + 2j]), "complex64[1] = [1+2j]"),
        (torch.zeros(0, 3), "float32[0, 3]"),
        (torch.arange(13.0), "float32[13], values from 0 to 12"),
        (torch.arange(13), "int64[13], values from 0 to 12"),
        (torch.ones(13, dtype=torch.bool), "bool[13], 13 of 13 true"),
        (torch.full((13,), 3 + 4j), "complex64[13], magnitudes from 5 to 5"),
        (torch.tensor([NAN, INF] + [1.0] * 11), "float32[13], values from 1 to 1, 2 not finite"),
        (torch.full((13,), NAN), "float32[13], 13 not finite"),
        (torch.tensor(2.0).expand(2, 2), "float32[2, 2] strides (0, 0) = [[2, 2], [2, 2]]"),
        (torch.empty(2, device="meta"), "float32[2], values not recorded"),
        (torch.eye(2).to_sparse(), "float32[2, 2] torch.sparse_coo"),
        (torch.ones(2, requires_grad=True), "float32[2] = [1, 1]"),
    ],
)
def test_tensors(value, shown):
    assert show.tensor(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (True, "True"),
        (0.1, "0.1"),
        (1 - 2j, "1-2j"),
        ("sum", "'sum'"),
        ([torch.ones(1), 2], "[0]: float32[1] = [1], [1]: 2"),
        ({"w": torch.ones(1)}, "['w']: float32[1] = [1]"),
        ("x" * 200, "'" + "x" * 96 + "..."),
    ],
)
def test_anything(value, shown):
    assert show.anything(value) == shown


def test_numbers_that_are_equal_look_equal():
    assert show.apart(0.5, 0.5) == ("0.5", "0.5")


@pytest.mark.parametrize(("value", "shown"), [(0.04, "0.0 s"), (12.34, "12.3 s"), (123.4, "123 s")])
def test_seconds(value, shown):
    assert show.seconds(value) == shown
