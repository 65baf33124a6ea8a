"""The catalogue of checks. Each is a pure function of a setting and a case, so that a witness replays."""

from gradharness.checks import (
    accumulation,
    complex_numbers,
    contract,
    determinism,
    double_backward,
    extremes,
    layout,
    leak,
    linearity,
    mask,
    module,
    precision,
    program,
    purity,
    state,
    training,
    transforms,
    value,
    vjp,
)
from gradharness.checks.base import Check, Setting
from gradharness.errors import UnknownNameError

__all__ = ["Check", "Setting", "all_checks", "find_check"]

_ALL = (
    value.CHECK,
    vjp.CHECK,
    linearity.CHECK,
    contract.CHECK,
    purity.CHECK,
    layout.CHECK,
    mask.CHECK,
    state.CHECK,
    accumulation.CHECK,
    determinism.CHECK,
    leak.CHECK,
    double_backward.CHECK,
    transforms.CHECK,
    complex_numbers.CHECK,
    extremes.CHECK,
    precision.CHECK,
    vjp.SHAPE,
    program.CHECK,
    training.CHECK,
    module.CHECK,
)


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order in which reports show them."""
    return _ALL


def find_check(name: str) -> Check:
    """The check of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    for check in _ALL:
        if check.name == name:
            return check
    raise UnknownNameError("check", name, [c.name for c in _ALL])
