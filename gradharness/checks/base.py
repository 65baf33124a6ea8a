"""The form of a check, and the setting in which it looks at a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from gradharness.model.case import Case
from gradharness.model.subject import Subject
from gradharness.model.verdict import Observation
from gradharness.numerics.tolerance import Tolerance
from gradharness.oracles.base import GradientOracle, SlopeOracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that stays the same from case to case.

    Attributes:
        subject: The code under test.
        reference: An independent implementation; None if there is none.
        surrogate: True if the gradient is meant to differ from the derivative.
        tolerance: Allowed relative error on top of the oracles' bounds.
        gradient_oracles: Elementwise oracles, strongest first.
        slope_oracles: Directional oracles, cheapest first; empty for a surrogate.
        dtype: Real floating dtype of the primals.
        device: Where all tensors live.
    """

    subject: Subject
    reference: Subject | None
    surrogate: bool
    tolerance: Tolerance
    gradient_oracles: tuple[GradientOracle, ...]
    slope_oracles: tuple[SlopeOracle, ...]
    dtype: torch.dtype
    device: str


class Sizes(Enum):
    """From which sizes the dimensions of a case are drawn."""

    ORDINARY = "one to five, and the example's own"
    EDGE = "zero, one, odd, and one beyond a block, for one dimension at a time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One property of a backward.

    Attributes:
        name: As in ``--checks`` and in reports.
        proves: One sentence.
        cannot: What a pass does not mean.
        examine: Pure function of setting and case; the same case gives the same observation.
        applies: The reason why the check is skipped for a setting, or None.
        sizes: From which sizes its cases are drawn.
        weight: Share of the example budget relative to the other checks.
    """

    name: str
    proves: str
    cannot: str
    examine: Callable[[Setting, Case], Observation]
    applies: Callable[[Setting], str | None] = lambda _setting: None
    sizes: Sizes = Sizes.ORDINARY
    weight: float = 1.0
