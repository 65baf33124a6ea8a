"""Where a campaign's cases come from: programs of a catalogue, and gradient tests."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gradharness.engine.campaign import PROCESS_ENDED, Explored, SourceKind
from gradharness.engine.findings import Sighting
from gradharness.engine.plan import Item
from gradharness.engine.program_search import ProgramFinding, Seen, blamed, drawn, finding, never_used, see, shrunk
from gradharness.errors import GradharnessError, UsageError
from gradharness.inputs.programs import DEFAULT, Knobs
from gradharness.inputs.seeds import derived_seed
from gradharness.model.verdict import Finding, Report, Severity, Verdict
from gradharness.programs.agreement import Guilty
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.program import Program

CATALOGUE = "catalogue"  # name of the source of trusted programs
_VACUOUS = 200  # programs, after which an op under test has to have been part of one
_RESTED = 4  # a check that is known to fail runs in one generation of so many: each time it would shrink the same again


@dataclass(slots=True)
class ProgramSource:
    """Random programs of a catalogue; one round is one program.

    Attributes:
        name: As in an address.
        ops: The catalogue; with ops under test it is a rule's.
        knobs: How large the programs are.
    """

    name: str
    ops: Catalogue
    knobs: Knobs = DEFAULT
    kind: SourceKind = SourceKind.PROGRAMS
    _looked: int = 0
    _tried: bool = False

    @property
    def fingerprint(self) -> str:
        """The ring of ops, and the sizes."""
        text = repr(([op.name for op in self.ops.ops], self.ops.suspects, self.knobs))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def explore(self, seed: int, number: int, known: Collection[str]) -> Explored:
        """One program; it is shrunk if it shows what is not known.

        Raises:
            UsageError: If no program could use the ops under test until now.
        """
        seen = see(drawn(self.ops, number, seed=seed, knobs=self.knobs), self.ops)
        self._insist(seen)
        if seen.guilty is None:
            return Explored(ops=seen.trace.ops, undecided=seen.reason)
        keys = [_key(owner, seen.guilty) for owner in dict.fromkeys((self.name, CATALOGUE))]
        if seen.guilty.op in self.ops.suspects:
            del keys[1:]  # the trusted VJP of an op is not the one under test
        if again := tuple(key for key in keys if key in known):
            return Explored(again=again, ops=seen.trace.ops)
        return Explored((self._sighting(shrunk(seen, self.ops)),), ops=seen.trace.ops)

    def reexamine(self, replay: str) -> tuple[Sighting, ...]:
        """What is wrong in one program, given as a literal.

        Raises:
            UsageError: If it is no program, or names an op that there is not.
        """
        seen = see(program_of(replay), self.ops)
        return () if seen.guilty is None else (self._sighting(finding(seen, self.ops)),)

    def ended(self, seed: int, number: int, times: int) -> Sighting:
        """What to say of a program in which the process has ended every time."""
        program = drawn(self.ops, number, seed=seed, knobs=self.knobs)
        title = f"the process ended {times} times in a program of {self.name}"
        key = f"{self.name}|{PROCESS_ENDED}"
        return Sighting(key=key, source=self.name, title=title, text=title, replay=repr(program.literal()))

    def _insist(self, seen: Seen) -> None:
        self._looked += 1
        self._tried = self._tried or not self.ops.suspects or seen.tried(self.ops.suspects)
        if not self._tried and self._looked >= _VACUOUS:
            raise UsageError(never_used(self.ops, self._looked))

    def _owner(self, guilty: Guilty, program: Program) -> str:
        """The source that a finding belongs to: a trusted op's own, which other sources find as well."""
        own = guilty.op in self.ops.suspects or any(n.op in self.ops.suspects for n in program.nodes)
        return self.name if own else CATALOGUE

    def _sighting(self, found: ProgramFinding) -> Sighting:
        owner = self._owner(found.guilty, found.program)
        return Sighting(
            key=_key(owner, found.guilty),
            source=owner,
            title=found.title,
            text=str(found).rstrip(),
            replay=repr(found.program.literal()),
        )


def _key(owner: str, guilty: Guilty) -> str:
    op, wrong = blamed(guilty)
    return f"{owner}|{op}|{wrong.name}"


def program_of(text: str) -> Program:
    """The program that a report has printed as a literal.

    Raises:
        UsageError: If it is none.
    """
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UsageError(f"{text!r:.80} is no program: give the whole literal after 'replay:', in quotes") from error
    return Program.from_literal(literal)


class Runnable(Protocol):
    """What a campaign needs of a gradient test."""

    name: str

    def items(self) -> tuple[Item, ...]:
        """One per check, device and dtype."""

    def run(
        self, items: Sequence[Item] | None = None, *, seed: int | None = None, profile: str | None = None
    ) -> Report:
        """Runs some items."""


@dataclass(slots=True)
class CheckSource:
    """A gradient test; one round is one of its checks, with a seed of its own.

    Attributes:
        name: What ``gradharness check`` takes to run it.
        test: The test.
        tell: Makes a report's text of a report and an address.
        profile: Budget of a round; None for the test's own. Never time, which differs from run to run.
    """

    name: str
    test: Runnable
    tell: Callable[[Report, str], str]
    profile: str | None = None
    kind: SourceKind = SourceKind.TEST
    _items: tuple[Item, ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        """The profile: another budget draws other examples."""
        return self.profile or ""

    def explore(self, seed: int, number: int, known: Collection[str]) -> Explored:
        """One check; a generation of rounds has all of them once, with one seed.

        Raises:
            GradharnessError: If the test cannot run.
        """
        item, generation = self._place(number)
        rests = generation % _RESTED and any(key.startswith(self._prefix(item)) for key in known)
        if rests:
            return Explored()
        return self._run(item, self._seed(seed, generation), known)

    def ended(self, seed: int, number: int, times: int) -> Sighting:
        """What to say of a check in which the process has ended every time.

        Raises:
            GradharnessError: If the test cannot run.
        """
        item, generation = self._place(number)
        own = self._seed(seed, generation)
        title = f"the process ended {times} times in [{item.id}]: it crashed, or never came to an end"
        words = ["gradharness", "check", self.name, "--checks", item.check, "--device", item.device]
        words += ["--dtype", item.dtype, "--seed", str(own), *(["--profile", self.profile] if self.profile else [])]
        text = f"{title}\nreplay: {' '.join(words)}"
        key = self._prefix(item) + PROCESS_ENDED
        replay = self._replay(item, own, self.profile or "")
        return Sighting(key=key, source=self.name, title=title, text=text, replay=replay)

    def reexamine(self, replay: str) -> tuple[Sighting, ...]:
        """What is wrong with the item and the seed of a finding.

        Raises:
            GradharnessError: If the test cannot run, or has no such item.
        """
        try:
            data: dict[str, Any] = json.loads(replay)
            item, seed = Item(data["check"], data["device"], data["dtype"]), int(data["seed"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{replay!r:.80} is no replay of a gradient test") from error
        source = replace(self, profile=data.get("profile") or self.profile)
        return source._run(item, seed, ()).sightings

    def _run(self, item: Item, seed: int, known: Collection[str]) -> Explored:
        report = self.test.run((item,), seed=seed, profile=self.profile)
        result = report.results[0]
        wrong = [f for f in report.findings if f.severity is Severity.ERROR] or list(report.findings)
        if result.verdict is not Verdict.FAIL:
            return Explored(undecided=result.reason if result.verdict is Verdict.UNDECIDED else "")
        keys = {self._key(item, one): one for one in wrong}
        fresh = tuple(self._sighting(k, one, item, report) for k, one in keys.items() if k not in known)
        return Explored(fresh, again=tuple(k for k in keys if k in known))

    def _place(self, number: int) -> tuple[Item, int]:
        self._items = self._items or self.test.items()
        generation, place = divmod(number, len(self._items))
        return self._items[place], generation

    def _seed(self, seed: int, generation: int) -> int:
        return derived_seed(seed, self.name, generation)

    def _replay(self, item: Item, seed: int, profile: str) -> str:
        data = {"check": item.check, "device": item.device, "dtype": item.dtype, "seed": seed, "profile": profile}
        return json.dumps(data)

    def _prefix(self, item: Item) -> str:
        return f"{self.name}|{item.check}|"

    def _key(self, item: Item, found: Finding) -> str:
        return self._prefix(item) + found.fault.name

    def _sighting(self, key: str, found: Finding, item: Item, report: Report) -> Sighting:
        replay = self._replay(item, report.seed, report.profile)
        title = f"{report.subject} [{item.id}]: {found.fault.value}"
        return Sighting(key=key, source=self.name, title=title, text=self.tell(report, self.name), replay=replay)


def replayed(sources: Sequence[ProgramSource], text: str) -> tuple[tuple[Sighting, ...], tuple[str, ...]]:
    """One program with each source's rules.

    Args:
        sources: With whose ops.
        text: The program, as a literal.

    Returns:
        What is wrong, and the names of the sources that have all of the program's ops.

    Raises:
        UsageError: If it is no program, or no source has all of its ops.
    """
    program_of(text)
    seen: list[Sighting] = []
    able: list[str] = []
    missing: GradharnessError | None = None
    for source in sources:
        try:
            seen += source.reexamine(text)
            able.append(source.name)
        except UsageError as error:
            missing = error
    if not able and missing is not None:
        raise missing
    return tuple(seen), tuple(able)
