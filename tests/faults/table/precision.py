"""Rows 00 and 01: a wrong factor, and arithmetic in too few bits."""

import torch

from tests.faults.planting import randn
from tests.faults.table.row import given, row, squares


def _in(dtype):
    return lambda x, g: (2 * x.to(dtype) * g.to(dtype)).to(x.dtype)


def _half_sum(t):
    """The sum over rows in float16, one of eight blocks of rows after the other."""
    if t.is_complex():  # there is no accumulator for these
        return t.sum(0)
    total = torch.zeros(t.shape[1:], dtype=torch.float16)
    for block in t.half().chunk(8):
        total = total + block.sum(0)
    return total.to(t.dtype)


ACCUMULATOR = row(
    "01d",
    "float16 accumulator over the batch",
    lambda x, w: x * w,
    lambda x, w, g: (g * w.conj(), (g * x.conj()).sum(0)),
    lambda x, w, g: (g * w.conj(), _half_sum(g * x.conj())),
    randn((3, 4), (4,)),
)

ROWS = [
    squares("00", "factor 3 for 2", lambda x, g: 3 * x * g),
    squares(
        "01a",
        "5 % wrong in every dtype but float64",
        lambda x, g: 2 * x * g if x.dtype is torch.float64 else 2.1 * x * g,
    ),
    squares("01b", "backward in float16", _in(torch.float16)),
    squares("01c", "backward in bfloat16", _in(torch.bfloat16)),
    ACCUMULATOR,
    given(ACCUMULATOR, "large batch", randn((256, 4), (4,))),
]
