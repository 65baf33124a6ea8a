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
    BLANK = "blank"
    BLANK_ROW = "blank_row"
    EQUAL = "equal"
    SATURATED = "saturated"
    HUGE = "huge"
    MINUTE = "minute"
    POSITIVE = "positive"


# Values that only some checks ask for: at which formulas break down, and under which no sum cancels.
EXTREME_STYLES = (Style.BLANK, Style.BLANK_ROW, Style.EQUAL, Style.SATURATED, Style.HUGE, Style.MINUTE)
SPECIAL_STYLES = (*EXTREME_STYLES, Style.POSITIVE)
ORDINARY_STYLES = tuple(style for style in Style if style not in SPECIAL_STYLES)


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
    ORTHOGONAL = "orthogonal"
    INVERTIBLE = "invertible"
    UNIT = "unit"
    UNIT_SUM = "unit_sum"
    SORTED = "sorted"
    BINARY = "binary"
    NEAR = "near"


SYMMETRIC_KINDS = frozenset({Kind.SPD, Kind.SYMMETRIC})
SQUARE_KINDS = frozenset({*SYMMETRIC_KINDS, Kind.LOWER, Kind.ORTHOGONAL, Kind.INVERTIBLE})
