"""Rows 02 to 04: layouts of cotangent and input, broadcasting, sizes."""

import torch

from gradharness import manual, pair
from tests.faults.planting import randn
from tests.faults.table.row import XY, Row, given, made, row, square, square_backward, squares


def raw(t: torch.Tensor) -> torch.Tensor:
    """What a kernel reads that takes the pointer and ignores the strides."""
    strides = torch.empty(t.shape, device="meta").stride()
    return t.as_strided(t.shape, strides, t.storage_offset())


def _read_as_contiguous(x, g):
    return 2 * raw(x) * g


def _flat(x, g):
    return (2 * x.reshape(-1) * g.view(-1)).view(x.shape)


def _transposed(g):
    return (torch.randn(4, 3, generator=g, dtype=torch.float64).T,)


SAVED = squares("03", "saved input read as if contiguous", _read_as_contiguous)


def _product(x, b):
    return x * b


def _product_backward(x, b, g):
    return (g * b.conj()).sum_to_size(x.shape), (g * x.conj()).sum_to_size(b.shape)


def _not_reduced(x, b, g):
    return g * b.conj(), g * x.conj()


def _mean_where_broadcast(x, b, g):
    gb = (g * x.conj()).sum_to_size(b.shape)
    return (g * b.conj()).sum_to_size(x.shape), gb * b.numel() / max(g.numel(), 1)


class _Product:
    def forward(self, x, b):
        self.saved = x, b
        return x * b


class NotReduced(_Product):
    def backward(self, g):
        self.gradients = _not_reduced(*self.saved, g)


class Reduced(_Product):
    def backward(self, g):
        self.gradients = _product_backward(*self.saved, g)


def _named(layer):
    return manual(layer, gradients=lambda one: dict(zip(("x", "b"), one.gradients, strict=True)))


def _pair(backward):
    return pair(_product, lambda primals, cotangents: backward(*primals, *cotangents))


def _rejects_empty(x, g):
    if x.numel() == 0:
        raise IndexError("block of no elements")
    return 2 * x * g


def _block(x, g):
    kept = torch.arange(x.numel()).reshape(x.shape) < 128
    return torch.where(kept, 2 * x * g, 0.0)


def _one_row(x, g):
    return (4 if len(x) == 1 else 2) * x * g


BROADCAST = row("04b", "mean for sum where broadcast", _product, _product_backward, _mean_where_broadcast, XY)
LEADING = squares("04c", "wrong for a leading size of one", _one_row)
EMPTY = squares("04d", "crash without elements", _rejects_empty)
TAIL = squares("04e", "elements beyond the first block of 128 lost", _block)
VECTOR = randn((3, 4), (4,))

ROWS = [
    squares("02a", "cotangent read as if contiguous", lambda x, g: 2 * x * raw(g)),
    row("02b", "view of the cotangent", square, square_backward, _flat),
    SAVED,
    given(SAVED, "transposed", made(_transposed)),
    Row("04a manual", "sum over broadcast rows missing, manual", _named(NotReduced), _named(Reduced), VECTOR),
    Row("04a pair", "sum over broadcast rows missing, pair", _pair(_not_reduced), _pair(_product_backward), VECTOR),
    BROADCAST,
    given(BROADCAST, "row", randn((3, 4), (1, 4))),
    LEADING,
    given(LEADING, "one row", randn((1, 4))),
    EMPTY,
    given(EMPTY, "nothing", randn((0, 4))),
    TAIL,
    given(TAIL, "200 elements", randn((50, 4))),
]
