"""Which definitions the gradient tests have reached, and what that makes of them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

from gradharness.audit.definitions import Definition, Listing
from gradharness.model.reach import BackwardKind, Holder, Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A gradient test whose subject was called.

    Attributes:
        address: What ``gradharness check`` takes to run it.
        reached: What it reached, defined anywhere.
        failed: Why it reached nothing; empty if its subject and its backward ran.
    """

    address: str
    reached: tuple[Reached, ...] = ()
    failed: str = ""


class Standing(Enum):
    """What is known of a definition."""

    COVERED = "covered"
    UNCOVERED = "no test"
    EXEMPT = "exempt"
    LEFT_OUT = "not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A gradient test that reaches a definition.

    Attributes:
        test: Its address.
        direct: Whether the test is about this definition alone; else it reaches it inside of something larger.
    """

    test: str
    direct: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A definition and what reaches it.

    Attributes:
        definition: Which.
        covers: The gradient tests, direct ones first.
        note: What helps to understand why there are none.
    """

    definition: Definition
    covers: tuple[Cover, ...] = ()
    note: str = ""

    @property
    def standing(self) -> Standing:
        """What is known of it; what is covered needs no exemption."""
        if self.definition.left_out:
            return Standing.LEFT_OUT
        if self.covers:
            return Standing.COVERED
        return Standing.EXEMPT if self.definition.exemption is not None else Standing.UNCOVERED

    @property
    def unneeded(self) -> bool:
        """Whether there is an exemption of what needs none."""
        return self.definition.exemption is not None and self.standing in (Standing.COVERED, Standing.LEFT_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The whole answer.

    Attributes:
        listing: What the source says.
        entries: Its definitions, and those that were only seen while the tests ran.
        tests: The gradient tests that were tried.
    """

    listing: Listing
    entries: tuple[Entry, ...]
    tests: tuple[Tried, ...]

    def count(self, standing: Standing) -> int:
        """How many definitions stand so."""
        return sum(entry.standing is standing for entry in self.entries)

    @property
    def asked(self) -> int:
        """How many need a test: all but the exempt ones."""
        return self.count(Standing.COVERED) + self.count(Standing.UNCOVERED)

    @property
    def percentage(self) -> Fraction:
        """Covered definitions in a hundred of those that need a test; 100 where none does."""
        return Fraction(100 * self.count(Standing.COVERED), self.asked) if self.asked else Fraction(100)


def audited(listing: Listing, tests: Sequence[Tried], living: Iterable[Holder] = ()) -> Audit:
    """Matches what was reached with what there is.

    Args:
        listing: What the source says.
        tests: What the gradient tests have reached.
        living: Functions that exist now: those of the package that the source does not show are added.
    """
    matcher = _Matcher(listing.definitions)
    covers: dict[int, dict[str, Cover]] = {}
    for test in tests:
        for reached in test.reached:
            for number in matcher.numbers(reached.holder):
                covers.setdefault(number, {}).setdefault(test.address, Cover(test=test.address, direct=reached.direct))
    reached_holders = [r.holder for test in tests for r in test.reached]
    entries = [
        Entry(definition=d, covers=tuple(sorted(covers.get(i, {}).values(), key=lambda c: not c.direct)))
        for i, d in enumerate(listing.definitions)
    ]
    hidden = _hidden(listing, matcher, (*living, *reached_holders), tests)
    return Audit(listing=listing, entries=(*_explained(entries), *hidden), tests=tuple(tests))


def noted(audit: Audit, reasons: Mapping[Path, str]) -> Audit:
    """The audit with a reason for each uncovered definition whose file does not import."""
    entries = (
        replace(e, note=reasons[e.definition.path])
        if e.standing is Standing.UNCOVERED and e.definition.path in reasons
        else e
        for e in audit.entries
    )
    return replace(audit, entries=tuple(entries))


class _Matcher:
    """Finds the definition of a holder."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self._definitions = definitions
        self._places: dict[tuple[Path, str], list[int]] = {}
        for number, one in enumerate(definitions):
            self._places.setdefault((one.path, one.qualname), []).append(number)

    def numbers(self, holder: Holder) -> tuple[int, ...]:
        """Numbers of the definitions that it may be of: nearly always one, or none of them."""
        if holder.kind is BackwardKind.OP:
            ops = [i for i, d in enumerate(self._definitions) if d.kind is BackwardKind.OP]
            exact = tuple(i for i in ops if self._definitions[i].name == holder.name)
            return exact or tuple(i for i in ops if fnmatchcase(holder.name, self._definitions[i].name))
        if not holder.file:
            return ()
        found = self._places.get((Path(holder.file).resolve(), holder.name), [])
        # Of several definitions under one name, such as in if and else, it is that which holds its methods.
        inside = [i for i in found if any(self._holds(i, line) for line in holder.lines)]
        return tuple(inside if len(found) > 1 and inside else found)

    def _holds(self, number: int, line: int) -> bool:
        return self._definitions[number].line <= line <= self._definitions[number].last


def _explained(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Says of an uncovered base which of its subclasses is covered: that is a test of other code."""
    covered = [e.definition for e in entries if e.standing is Standing.COVERED]
    for entry in entries:
        below = [d for d in covered if entry.definition.name in d.bases]
        if entry.standing is Standing.UNCOVERED and below:
            entry = replace(entry, note=f"only its subclass {below[0].qualname} is tested")
        yield entry


def _hidden(listing: Listing, matcher: _Matcher, holders: Iterable[Holder], tests: Sequence[Tried]) -> Iterator[Entry]:
    """Functions in the package's files that no ``class`` statement shows, such as those of ``type(...)``."""
    modules = {file.path: file.module for file in listing.files}
    for holder in dict.fromkeys(h for h in holders if h.kind is not BackwardKind.OP and h.file):
        path = Path(holder.file).resolve()
        if path not in modules or matcher.numbers(holder):
            continue
        covers = {
            t.address: Cover(test=t.address, direct=r.direct) for t in tests for r in t.reached if r.holder == holder
        }
        line = holder.lines[0] if holder.lines else 1
        found = Definition(
            name=f"{modules[path]}.{holder.name}",
            qualname=holder.name,
            kind=holder.kind,
            path=path,
            line=line,
            last=line,
            module=modules[path],
            local="<locals>" in holder.name,
        )
        yield Entry(definition=found, covers=tuple(covers.values()), note="made while it runs")
