"""Which sizes the dimensions of a case take."""

from __future__ import annotations

from enum import Enum


class SizeRange(Enum):
    """From which sizes the dimensions of a case are drawn."""

    ORDINARY = "one to five, and the example's own"
    EDGE = "zero, one, odd, and one beyond a block, for one dimension at a time"


ORDINARY_SIZES = (1, 2, 3, 4, 5)
EDGE_SIZES = (0, 1, 2, 3, 5, 7, 8, 13, 16, 17, 33, 64, 65, 127, 128, 129, 255, 257, 513, 1025)

# The other dimensions stay small while one has an edge size, and all tensors together stay below this many elements.
EDGE_COMPANIONS = (1, 2, 3, 4)
MAX_ELEMENTS = 20_000
