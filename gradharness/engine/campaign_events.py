"""What a campaign tells while it runs. Reports are consumers of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gradharness.engine.findings import CampaignFinding, FindingStatus, Progress


@dataclass(frozen=True, slots=True)
class CampaignStarted:
    """The campaign begins, or goes on.

    Attributes:
        seed: Of the campaign.
        progress: What earlier runs of it have done.
        stored: Number of findings that are known.
        moved: Whether the store knows a campaign, but not this one: other targets, catalogue, version or seed.
    """

    seed: int
    progress: Progress
    stored: int
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Reexamined:
    """A stored finding was looked at again.

    Attributes:
        finding: With its status of now.
        before: Its status before.
        reason: Why it could not be looked at; empty if it was.
    """

    finding: CampaignFinding
    before: FindingStatus = FindingStatus.NEW
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """One round is done."""

    index: int
    source: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class FindingSeen:
    """Something wrong that was not known, or was gone. It is stored already."""

    finding: CampaignFinding


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """A source cannot run; the campaign goes on without it."""

    source: str
    line: str
    error: BaseException


CampaignEvent: TypeAlias = CampaignStarted | Reexamined | RoundFinished | FindingSeen | SourceFailed
CampaignEmit: TypeAlias = Callable[[CampaignEvent], None]
