"""Source that makes the same values again."""

import math
from math import inf, nan

import pytest
import torch

from gradharness.scripting.literal import FILL_IN, literal

VALUES = [
    None,
    True,
    3,
    1e-300,
    "it's",
    1 - 2j,
    torch.float32,
    torch.device("cpu"),
    (1,),
    (1, [2.5, {"a": "b"}]),
]


def back(value):
    return eval(literal(value), {"torch": torch, "inf": inf, "nan": nan})


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values(value):
    assert back(value) == value


def test_infinity_and_nan():
    assert back([inf, -inf]) == [inf, -inf]
    assert math.isnan(back(nan))


TENSORS = {
    "scalar": torch.tensor(0.1, dtype=torch.float64),
    "float32": torch.tensor([[0.1, 1 / 3], [nan, -inf]]),
    "bfloat16": torch.tensor([0.1, 3.14159], dtype=torch.bfloat16),
    "complex": torch.tensor([1 + 2j, complex(nan, inf)]),
    "int": torch.tensor([2**60, -1]),
    "bool": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3, dtype=torch.float64),
    "full": torch.full((3, 5), 0.25),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "sliced": torch.arange(10.0)[1::3],
    "offset": torch.arange(10.0)[4:],
    "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
    "stride 0": torch.tensor(1.5).expand(2, 2),
    "conjugate": torch.tensor([1 + 2j, 3j]).conj(),
    "leaf": torch.ones(2, requires_grad=True),
    "large": torch.linspace(0, 1, 99, dtype=torch.float64).reshape(3, 33),
    "large complex": torch.linspace(0, 1, 99).to(torch.complex64) * (1 + 2j),
    "large bfloat16": torch.linspace(-1, 1, 99).to(torch.bfloat16),
    "large and transposed": torch.linspace(0, 1, 99).reshape(3, 33).T,
    "large mask": torch.arange(99) % 3 == 0,
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_keep_dtype_values_and_layout(name):
    value, made = TENSORS[name], back(TENSORS[name])
    torch.testing.assert_close(made, value.detach().resolve_conj(), rtol=0, atol=0, equal_nan=True)
    assert (made.stride(), made.storage_offset()) == (value.stride(), value.storage_offset())
    assert made.is_leaf
    assert not made.requires_grad


def test_short_decimals_for_short_dtypes():
    assert literal(torch.tensor([0.1])) == "torch.tensor([0.1], dtype=torch.float32)"


def test_many_numbers_are_written_as_the_digits_of_their_memory():
    many = torch.linspace(0, 1, 99, dtype=torch.float64)
    assert literal(many).startswith("torch.frombuffer(bytearray.fromhex('0000")
    assert len(literal(many)) < 16 * 99 + 80


def test_a_view_of_a_huge_storage_is_written_without_it():
    assert literal(torch.zeros(100, 100).T[:1, 99:]) == "torch.tensor([[0.0]], dtype=torch.float32)"


def test_an_object_without_source_is_to_be_filled_in():
    text = literal([object()])
    assert f"{FILL_IN}: object" in text
    assert back([object()]) == [None]
