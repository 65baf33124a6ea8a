"""What a run consists of, before any of it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradharness.checks import all_checks, find_check
from gradharness.errors import UnknownNameError, UsageError

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Item:
    """One check on one device in one dtype."""

    check: str
    device: str
    dtype: str

    @property
    def id(self) -> str:
        """As in ``test_linear[vjp-cpu-float64]``."""
        return f"{self.check}-{self.device}-{self.dtype}"


def plan(
    checks: Sequence[str] | None, devices: Sequence[str], dtypes: Sequence[str | torch.dtype] | None
) -> tuple[Item, ...]:
    """All items of a run. Does not touch the subject.

    Args:
        checks: Names of checks; all of them if None.
        devices: Such as ("cpu", "cuda").
        dtypes: Names or torch dtypes; float64 if None.

    Raises:
        UnknownNameError: For a check, device or dtype that does not exist.
    """
    names = (
        [c.name for c in all_checks()] if checks is None else [find_check(c).name for c in _listed("checks", checks)]
    )
    kinds = [_device(d) for d in _listed("devices", devices)]
    types = [_dtype(d) for d in _listed("dtypes", dtypes)] if dtypes is not None else ["float64"]
    return tuple(Item(check, device, dtype) for device in kinds for dtype in types for check in names)


def _listed(what: str, values: object) -> Sequence[str]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UsageError(f"{what}={values!r}: give a tuple of names, such as ({values!r},)")
    if not values:
        raise UsageError(f"{what} is empty: name at least one")
    return values


def _device(name: str) -> str:
    kind = str(name).partition(":")[0]
    if kind not in DEVICES:
        raise UnknownNameError("device", str(name), DEVICES)
    return str(name)


def _dtype(value: str | torch.dtype) -> str:
    name = str(value).removeprefix("torch.")
    if name not in DTYPES:
        raise UnknownNameError("dtype", name, DTYPES)
    return name
