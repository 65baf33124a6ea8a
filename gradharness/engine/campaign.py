"""A campaign: rounds without end over sources of cases, of which nothing that was found is lost.

What a round does is a pure function of the campaign's seed, the round's number, and what is known by then. No clock has
a say in it: time only decides how many rounds there are. So two campaigns with one seed find the same, and one that was
killed goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from gradharness.engine.campaign_events import (
    CampaignEmit,
    CampaignStarted,
    FindingSeen,
    Reexamined,
    RoundFinished,
    SourceFailed,
)
from gradharness.engine.campaign_store import CampaignStore
from gradharness.engine.findings import CampaignFinding, FindingStatus, Progress, Sighting
from gradharness.errors import GradharnessError, first_line

PROGRAMS_PER_TEST = 64  # about as long as one check of a cheap subject takes
PROCESS_ENDED = "PROCESS_ENDED"  # in place of a fault, in the key of a finding
_TRIES = 3  # of a test's round in which the process ended: one who kills a campaign may hit the same round once more
_SAVE_EVERY = 0.5  # seconds between two notes of the position; what is lost of it by a kill is only done again


class SourceKind(Enum):
    """What a source's rounds are. The value says it."""

    PROGRAMS = "one program"
    TEST = "one check of a gradient test"


@dataclass(frozen=True, slots=True)
class Explored:
    """What one round of a source did.

    Attributes:
        sightings: What was wrong, as far as it was not known.
        again: Keys of what was known and seen again.
        ops: The ops that were part of it.
        undecided: Why nothing could be told; empty where something could.
    """

    sightings: tuple[Sighting, ...] = ()
    again: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    undecided: str = ""


class Source(Protocol):
    """Where cases come from: the catalogue's programs, a rule's, a gradient test's examples."""

    @property
    def name(self) -> str:
        """How it is addressed; unique in a campaign."""

    @property
    def kind(self) -> SourceKind:
        """What one round of it is."""

    @property
    def fingerprint(self) -> str:
        """Another text where the same seed and number would mean another case."""

    def explore(self, seed: int, number: int, known: Collection[str]) -> Explored:
        """One round. Pure, but for what the user's code does.

        Args:
            seed: Of the campaign.
            number: Of this source's rounds, from 0 on.
            known: Keys of findings that stand: no effort is spent on them.

        Raises:
            GradharnessError: If the source cannot run.
        """

    def ended(self, seed: int, number: int, times: int) -> Sighting:
        """What to say of a round in which the process has ended every time.

        Args:
            seed: Of the campaign.
            number: Of this source's rounds.
            times: How often.
        """

    def reexamine(self, replay: str) -> tuple[Sighting, ...]:
        """What is wrong at a stored case.

        Args:
            replay: As a sighting of this source has it.

        Raises:
            GradharnessError: If it cannot be run any more.
        """


@dataclass(frozen=True, slots=True)
class Round:
    """One round before it runs: the ``number``-th of its source."""

    index: int
    source: Source
    number: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which round comes when.

    Attributes:
        seed: Of everything that is drawn.
        sources: All of them; names are unique.
        version: Of gradharness: another one may draw other cases.
    """

    seed: int
    sources: tuple[Source, ...]
    version: str = ""

    @property
    def identity(self) -> str:
        """The same for two schedules exactly if their rounds are the same."""
        parts = [self.seed, self.version, [(s.name, s.kind.name, s.fingerprint) for s in self.sources]]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def of(self, kind: SourceKind) -> tuple[Source, ...]:
        """The sources of one kind, in order."""
        return tuple(source for source in self.sources if source.kind is kind)

    def round(self, index: int) -> Round:
        """The round of this index: sources of programs take turns, and after so many of them a test has one."""
        programs, tests = self.of(SourceKind.PROGRAMS), self.of(SourceKind.TEST)
        if not (programs and tests):
            source = self.sources[index % len(self.sources)]
            return Round(index, source, index // len(self.sources))
        block, place = divmod(index, PROGRAMS_PER_TEST + 1)
        if place == PROGRAMS_PER_TEST:
            return Round(index, tests[block % len(tests)], block // len(tests))
        number = block * PROGRAMS_PER_TEST + place
        return Round(index, programs[number % len(programs)], number // len(programs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When a campaign stops, between two rounds.

    Attributes:
        seconds: Wall time; None for no limit.
        programs: Programs in this run of it; None for no limit.
        rounds: Rounds in this run of it; None for no limit.
    """

    seconds: float | None = None
    programs: int | None = None
    rounds: int | None = None


@dataclass(slots=True)
class Campaign:
    """Runs a schedule's rounds, from where the store says that it stopped.

    Attributes:
        schedule: Which rounds there are.
        store: Keeps position and findings; exclusively this campaign's.
        emit: Gets the events.
        progress: What has been done, earlier runs of the campaign included.
        failed: Names of the sources that cannot run; their rounds are left out from then on.
    """

    schedule: Schedule
    store: CampaignStore
    emit: CampaignEmit
    progress: Progress = field(default_factory=Progress)
    failed: set[str] = field(default_factory=set)
    _saved: float = 0.0

    def run(self, bounds: Bounds) -> None:
        """Re-examines what is known, then explores until a bound is reached. The store is up to date at any moment.

        Raises:
            KeyboardInterrupt: After the position has been saved.
            StoreError: If nothing can be stored any more.
        """
        deadline = time.monotonic() + bounds.seconds if bounds.seconds is not None else float("inf")
        saved = self.store.progress(self.schedule.identity)
        self.progress = saved or Progress()
        moved = saved is None and self.store.positions() > 0
        self.emit(CampaignStarted(self.schedule.seed, self.progress, len(self.store.findings()), moved=moved))
        try:
            self._reexamine()
            self._explore(bounds, deadline)
        finally:
            self._save()

    def _explore(self, bounds: Bounds, deadline: float) -> None:
        first = self.progress
        while time.monotonic() < deadline and len(self.failed) < len(self.schedule.sources):
            done = self.progress.rounds - first.rounds, self.progress.programs - first.programs
            if any(limit is not None and n >= limit for n, limit in zip(done, _limits(bounds), strict=True)):
                return
            self._round(self.schedule.round(self.progress.rounds))
            if time.monotonic() - self._saved > _SAVE_EVERY:
                self._save()

    def _round(self, one: Round) -> None:
        known = {f.key for f in self.store.findings() if f.status.stands}
        if one.source.name in self.failed:
            self.progress = replace(self.progress, rounds=one.index + 1)
            return
        explored = self._guarded(one.source, lambda: self._explored(one, known))
        for sighting in explored.sightings:
            self._keep(sighting, one.index)
        self.progress = self.progress.after(one.source.kind is SourceKind.PROGRAMS, explored.ops, explored.undecided)
        self.emit(RoundFinished(one.index, one.source.name, self.progress))

    def _explored(self, one: Round, known: Collection[str]) -> Explored:
        """What a round did; one of a test that takes the process with it each time is left out, and is a finding."""
        if one.source.kind is SourceKind.TEST:
            times = self.store.enter(self.schedule.identity, self.progress)
            if times > _TRIES:
                return Explored((one.source.ended(self.schedule.seed, one.number, _TRIES),))
        return one.source.explore(self.schedule.seed, one.number, known)

    def _keep(self, sighting: Sighting, index: int) -> None:
        kept, news = self.store.keep(sighting, index)
        if news:
            self._save()
            self.emit(FindingSeen(kept))

    def _guarded(self, source: Source, act: _Act) -> Explored:
        """One source's failure is told once, and does not stop the others."""
        try:
            return act()
        except GradharnessError as error:
            self._fail(source, first_line(error, 1000), error)
        except (Exception, SystemExit) as error:  # our own bug, or what only the user's code explains
            line = f"internal error of gradharness, please report it: {type(error).__name__}: {first_line(error)}"
            self._fail(source, line, error)
        return Explored()

    def _fail(self, source: Source, line: str, error: BaseException) -> None:
        self.failed.add(source.name)
        self.emit(SourceFailed(source.name, line, error))

    def _save(self) -> None:
        self.store.save(self.schedule.identity, self.progress)
        self._saved = time.monotonic()

    # --- what is known already ---------------------------------------------------------------------------------------

    def _reexamine(self) -> None:
        """Every stored finding of these sources, the oldest first: it recurs, or it is gone."""
        sources = {source.name: source for source in self.schedule.sources}
        for stored in self.store.findings():
            source = sources.get(stored.source)
            if source is None:
                self.emit(Reexamined(stored, reason="its source is not among what was asked for"))
            elif stored.key.endswith(PROCESS_ENDED):
                self.emit(Reexamined(stored, reason=f"the process may end again; --replay {stored.number} tries it"))
            else:
                self.reexamine(stored, source)

    def reexamine(self, stored: CampaignFinding, source: Source) -> None:
        """Looks at a stored finding again, and stores what became of it.

        Args:
            stored: The finding.
            source: Of the finding's name.
        """
        try:
            seen = source.reexamine(stored.replay)
        except Exception as error:  # it stays as it is: nothing shows that it is gone
            self.emit(Reexamined(stored, reason=f"{type(error).__name__}: {first_line(error)}"))
            return
        same = next((s for s in seen if s.key == stored.key), None)
        if same is None:
            gone = replace(stored, status=FindingStatus.GONE)
            self.store.mark(gone)
            self.emit(Reexamined(gone, before=stored.status))
        else:
            recurs = replace(stored, status=FindingStatus.RECURS, title=same.title, text=same.text)
            self.store.mark(recurs)
            self.emit(Reexamined(recurs, before=stored.status))
        for other in seen:
            if other.key != stored.key:
                self._keep(other, stored.round)


class _Act(Protocol):
    def __call__(self) -> Explored: ...


def _limits(bounds: Bounds) -> Iterator[int | None]:
    yield bounds.rounds
    yield bounds.programs


def standing(findings: Sequence[CampaignFinding], sources: Collection[str]) -> tuple[CampaignFinding, ...]:
    """The findings of these sources that are not gone."""
    return tuple(f for f in findings if f.status.stands and f.source in sources)
