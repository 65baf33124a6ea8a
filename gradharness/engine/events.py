"""What a run tells while it runs. Reports are consumers of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gradharness.engine.known import Replayed
from gradharness.engine.plan import Item
from gradharness.model.verdict import CheckResult, Report


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The plan stands, and the domain of the inputs."""

    subject: str
    items: tuple[Item, ...]
    domain: tuple[str, ...]
    seed: int
    profile: str = "dev"
    strict: bool = False


@dataclass(frozen=True, slots=True)
class CheckStarted:
    """One item begins."""

    item: Item


@dataclass(frozen=True, slots=True)
class ExampleExamined:
    """One more case was examined, of so many at most."""

    item: Item
    examples: int
    budget: int


@dataclass(frozen=True, slots=True)
class WitnessReplayed:
    """A kept witness of an item was looked at again, or could not be."""

    item: Item
    replayed: Replayed


@dataclass(frozen=True, slots=True)
class CheckFinished:
    """One item is done."""

    item: Item
    result: CheckResult


@dataclass(frozen=True, slots=True)
class RunFinished:
    """All is done."""

    report: Report


Event: TypeAlias = RunStarted | CheckStarted | ExampleExamined | WitnessReplayed | CheckFinished | RunFinished
Emit: TypeAlias = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Nobody listens."""
