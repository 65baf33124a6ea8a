"""Which sizes the dimensions of a case take."""

from __future__ import annotations

from enum import Enum


class SizeRange(Enum):
    """From which sizes the dimensions of a case are drawn."""

    ORDINARY = "one to five, and the example's own"
    EDGE = "zero, one, odd, and one beyond a block, for one dimension at a time"
    LONG = "one long dimension at a time, so that sums over it are long, and all others small"


ORDINARY_SIZES = (1, 2, 3, 4, 5)
EDGE_SIZES = (0, 1, 2, 3, 5, 7, 8, 13, 16, 17, 33, 64, 65, 127, 128, 129, 255, 257, 513, 1025)
# The longest that a dimension allows is taken. Sums of 2048 terms show an accumulator in half precision ten times above
# the error of plain torch, and a matrix of pairs still fits in 32 MiB.
LONG_SIZES = (2048, 1024, 512, 256, 128, 64)

# The other dimensions stay small while one has an edge size, and all tensors together stay below this many elements.
EDGE_COMPANIONS = (1, 2, 3, 4)
LONG_COMPANIONS = (2, 3, 4)
MAX_ELEMENTS = 20_000
