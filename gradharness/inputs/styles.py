"""The kinds of values that tensors and cotangents are filled with, the simplest first: shrinking leads there."""

from __future__ import annotations

from enum import StrEnum


class Style(StrEnum):
    """What the elements of the primals look like."""

    SIMPLE = "simple"
    NORMAL = "normal"
    INTEGERS = "integers"
    ZEROS = "zeros"
    TIES = "ties"
    OFFSET = "offset"
    LARGE = "large"
    TINY = "tiny"
    MIXED = "mixed"


class CotangentStyle(StrEnum):
    """What the elements of the cotangents look like."""

    NORMAL = "normal"
    ONES = "ones"
    ONE_HOT = "one_hot"
    SPARSE = "sparse"
    LARGE = "large"
    SMALL = "small"


class Kind(StrEnum):
    """Structure that a tensor's values have as a whole, and that every drawn value keeps."""

    PLAIN = "plain"
    SPD = "spd"
    SYMMETRIC = "symmetric"
    LOWER = "lower"
    UNIT_SUM = "unit_sum"
    SORTED = "sorted"
    BINARY = "binary"
    NEAR = "near"


SQUARE_KINDS = frozenset({Kind.SPD, Kind.SYMMETRIC, Kind.LOWER})
