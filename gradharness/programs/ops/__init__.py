"""The catalogue of ops. Each file is a family; each op is one record."""

from __future__ import annotations

from gradharness.errors import UnknownNameError
from gradharness.programs.op import Op
from gradharness.programs.ops import (
    activations,
    binary,
    convolution,
    cumulative,
    einsum,
    in_place,
    indexing,
    linalg,
    losses,
    masking,
    norms,
    parts,
    pooling,
    powers,
    products,
    reductions,
    several,
    softmax,
    sorting,
    trigonometric,
    views,
)

_ALL: tuple[Op, ...] = (
    *trigonometric.OPS,
    *powers.OPS,
    *activations.OPS,
    *binary.OPS,
    *reductions.OPS,
    *views.OPS,
    *parts.OPS,
    *in_place.OPS,
    *products.OPS,
    *einsum.OPS,
    *indexing.OPS,
    *masking.OPS,
    *convolution.OPS,
    *pooling.OPS,
    *norms.OPS,
    *softmax.OPS,
    *losses.OPS,
    *cumulative.OPS,
    *sorting.OPS,
    *linalg.OPS,
    *several.OPS,
)
_BY_NAME = {op.name: op for op in _ALL}


def all_ops() -> tuple[Op, ...]:
    """Every op, family by family."""
    return _ALL


def find_op(name: str) -> Op:
    """The op of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in _BY_NAME:
        raise UnknownNameError("op", name, list(_BY_NAME))
    return _BY_NAME[name]
