"""How much a run may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gradharness.errors import UnknownNameError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A budget.

    Attributes:
        examples: Cases per check of weight one.
        shrinks: Calls of the check that may be spent on a smaller witness.
        shrink_seconds: Wall time that may be spent on it; meant for slow subjects alone, since it makes the witness
            depend on the machine.
    """

    examples: int
    shrinks: int
    shrink_seconds: float


BUILT_IN: Mapping[str, Profile] = MappingProxyType(
    {
        "dev": Profile(examples=25, shrinks=150, shrink_seconds=20.0),
        "ci": Profile(examples=60, shrinks=300, shrink_seconds=60.0),
        "deep": Profile(examples=1000, shrinks=1000, shrink_seconds=300.0),
    }
)
PROFILES: dict[str, Profile] = dict(BUILT_IN)


def use_profiles(own: Mapping[str, Profile]) -> None:
    """Makes a project's own and changed profiles known in this process, beside the built-in ones and no others."""
    PROFILES.clear()
    PROFILES.update(BUILT_IN, **own)


def insist_on_profile(name: str | None) -> None:
    """Raises ``UnknownNameError`` for a name that no profile has. None is fine."""
    if name is not None and name not in PROFILES:
        raise UnknownNameError("profile", name, PROFILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of one run.

    Attributes:
        profile: Name of the budget.
        seed: From which everything is drawn.
        strict: Whether the tolerance is 1e-9 in float64, and warnings fail.
        time_limit: Seconds for the whole run; None for no limit. Checks that it leaves no time for are undecided.
    """

    profile: str = "dev"
    seed: int = 0
    strict: bool = False
    time_limit: float | None = None

    def __post_init__(self) -> None:
        insist_on_profile(self.profile)
        limit = self.time_limit
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise UsageError(f"time_limit={limit!r}: give a positive number of seconds, or None for no limit")
        seed: Any = self.seed  # callers need not be typed
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise UsageError(f"seed={seed!r}: give a whole number from 0 on")

    @property
    def budget(self) -> Profile:
        """The profile's budget."""
        return PROFILES[self.profile]
