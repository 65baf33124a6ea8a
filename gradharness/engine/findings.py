"""What a campaign finds and how far it is: plain data that a store keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class FindingStatus(Enum):
    """What became of a finding when it was last looked at. The value says it."""

    NEW = "found"
    RECURS = "recurs"
    GONE = "gone"

    @property
    def stands(self) -> bool:
        """Whether something is still wrong."""
        return self is not FindingStatus.GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Something wrong, as a source sees it.

    Attributes:
        key: The same for the same fault of the same node: two sightings of one key are one finding.
        source: Name of the source.
        title: One line.
        text: The report.
        replay: What the source takes to look at this case again.
    """

    key: str
    source: str
    title: str
    text: str
    replay: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignFinding(Sighting):
    """A stored sighting.

    Attributes:
        number: By which the user names it, from 1 on.
        round: In which it was first seen.
        status: What became of it.
    """

    number: int
    round: int
    status: FindingStatus = FindingStatus.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a campaign is.

    Attributes:
        rounds: Rounds that are done; the next one has this index.
        programs: Those of them that were programs.
        tests: Those of them that were a check of a test.
        undecided: Those of them of which nothing could be told.
        ops: Ops that were part of a program, in order of their names.
    """

    rounds: int = 0
    programs: int = 0
    tests: int = 0
    undecided: int = 0
    ops: frozenset[str] = frozenset()

    def after(self, program: bool, ops: Iterable[str], undecided: str) -> Progress:  # noqa: FBT001
        """The progress after one round more."""
        return replace(
            self,
            rounds=self.rounds + 1,
            programs=self.programs + program,
            tests=self.tests + (not program),
            undecided=self.undecided + bool(undecided),
            ops=self.ops if self.ops.issuperset(ops) else self.ops.union(ops),
        )
