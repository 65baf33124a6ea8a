"""jaxtyping annotations, read without importing jaxtyping."""

from __future__ import annotations

import re
import sys
from enum import Enum
from typing import Any

import torch

from gradharness.errors import SpecError


class Family(Enum):
    """What kind of numbers an annotation allows."""

    FLOAT = "float"
    COMPLEX = "complex"
    INT = "int"
    BOOL = "bool"


def is_annotation(value: object) -> bool:
    """True for ``Float[Tensor, "n d"]`` and its like."""
    return "jaxtyping" in sys.modules and isinstance(value, type) and hasattr(value, "dim_str")


def family(annotation: Any, where: str) -> tuple[Family, torch.dtype | None]:
    """Kind of numbers, and the dtype if only one is allowed.

    Raises:
        SpecError: If torch has none of the dtypes.
    """
    names = annotation.dtypes
    if not isinstance(names, (tuple, list)):
        return Family.FLOAT, None
    dtypes = [d for d in (getattr(torch, name, None) for name in names) if isinstance(d, torch.dtype)]
    only = dtypes[0] if len(names) == 1 and dtypes else None
    if torch.float64 in dtypes or (only is not None and only.is_floating_point):
        return Family.FLOAT, only
    if any(d.is_complex for d in dtypes):
        return Family.COMPLEX, None
    if torch.bool in dtypes:
        return Family.BOOL, None
    if any(not d.is_floating_point for d in dtypes):
        return Family.INT, only
    raise SpecError(f"{where}: annotation {annotation.__name__} has no dtype of torch; use tensor(...) instead")


def dims(annotation: Any) -> str:
    """The shape of an annotation without what only jaxtyping knows: ``n=4``, ``?n``, ``*#batch``."""
    return " ".join(_plain(token) for token in str(annotation.dim_str).split())


def _plain(token: str) -> str:
    token = re.sub(r"^\w+=", "", token.replace("?", ""))
    return token.replace("#", "") if "*" in token else token
