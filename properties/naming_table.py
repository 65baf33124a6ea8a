"""Prints the table of names: what a report says first of each planted fault, and whether that is the true cause.

python -m properties.naming_table --jobs 2
python -m properties.naming_table --only layer-norm --seed 3
python -m properties.naming_table --twins

"rightly" is true and leads to the line, "wrongly" states what is untrue or sends the author elsewhere, "unknown" tells
that elements are wrong and no more, "missed" says nothing that it does not say of the correct twin. With --twins the
twins are checked instead, of which no error should be told.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from multiprocessing import get_context

import torch

from gradharness import Fault, Finding, Severity, check
from gradharness.report.text import worst_last
from properties.naming import ENTRIES
from properties.naming.entry import CLASSES, Planted

_BY_ID = {entry.id: entry for entry in ENTRIES}
# Names that say that something is wrong, and not what.
_GENERIC = {Fault.UNKNOWN, Fault.WRONG_ELEMENTS}
_SHORTEST = 110
# The first in a report, which find most: where they do, the others have no say in what stands out.
_EARLY = ("value", "vjp")


class Grade(StrEnum):
    """Whether the name of a fault helps."""

    RIGHTLY = "rightly"
    WRONGLY = "wrongly"
    UNKNOWN = "unknown"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Named:
    """What is told of an entry first.

    Attributes:
        id: Of the entry.
        fault: The name; empty if nothing is told.
        message: The sentence with the particulars.
        grade: What it is worth.
    """

    id: str
    fault: str
    message: str
    grade: Grade


def first_told(
    entry: Planted, subject: object, *, seed: int, checks: Sequence[str] | None = None
) -> tuple[Finding, ...]:
    """The findings as a report shows them, the one that stands out (its last) first."""
    report = check(
        subject, entry.examples(), reference=entry.reference, surrogate=entry.surrogate, seed=seed, checks=checks
    )
    return tuple(seen.finding for seen in reversed(worst_last(report)))


def _error_told(entry: Planted, *, seed: int, checks: Sequence[str] | None) -> tuple[Finding, ...]:
    """As ``first_told`` of what is wrong. An error of the first checks stands out whatever the others say."""
    if checks is None:
        early = first_told(entry, entry.wrong, seed=seed, checks=_EARLY)
        if early and early[0].severity is Severity.ERROR:
            return early
    return first_told(entry, entry.wrong, seed=seed, checks=checks)


def named(entry: Planted, *, seed: int = 0, checks: Sequence[str] | None = None) -> Named:
    """How a fault is named. A warning counts if the correct twin does not get it."""
    told = _error_told(entry, seed=seed, checks=checks)
    if told and told[0].severity is Severity.WARNING:
        usual = {finding.fault for finding in first_told(entry, entry.twin, seed=seed, checks=checks)}
        told = tuple(finding for finding in told if finding.fault not in usual)
    if not told:
        return Named(entry.id, "", "", Grade.MISSED)
    return Named(entry.id, told[0].fault.value, told[0].message, graded(entry, told[0]))


def graded(entry: Planted, finding: Finding) -> Grade:
    """What a finding is worth to whoever has to find this fault."""
    if entry.named_by(finding):
        return Grade.RIGHTLY
    return Grade.UNKNOWN if finding.fault in _GENERIC else Grade.WRONGLY


def alarm(entry: Planted, *, seed: int = 0) -> Named | None:
    """The first error that is told of a correct twin; None if there is none."""
    errors = [f for f in first_told(entry, entry.twin, seed=seed) if f.severity is Severity.ERROR]
    return Named(entry.id, errors[0].fault.value, errors[0].message, Grade.WRONGLY) if errors else None


def line(*columns: str) -> str:
    """One line of the table."""
    widths = (34, 14, 80, 36, _SHORTEST, 8)
    return "| " + " | ".join(f"{text:{width}}" for text, width in zip(columns, widths, strict=True)) + " |"


def row(result: Named) -> str:
    """The table's line for an entry."""
    entry = _BY_ID[result.id]
    short = result.message if len(result.message) <= _SHORTEST else f"{result.message[: _SHORTEST - 1]}…"
    return line(entry.id, entry.kind, entry.cause, result.fault, short, result.grade)


def totals(results: Sequence[Named]) -> Iterator[str]:
    """Counts for each class, and shares of the whole."""
    kinds = [(kind, [r.grade for r in results if _BY_ID[r.id].kind == kind]) for kind in CLASSES]
    yield "| class          | " + " | ".join(f"{grade:8}" for grade in Grade) + " |"
    yield "|----------------|" + "----------|" * len(Grade)
    for kind, grades in kinds:
        if grades:
            counts = Counter(grades)
            yield f"| {kind:14} | " + " | ".join(f"{counts[grade]:8}" for grade in Grade) + " |"
    counts = Counter(r.grade for r in results)
    shares = (f"{grade} {counts[grade]} ({100 * counts[grade] / max(1, len(results)):.0f} %)" for grade in Grade)
    yield f"{len(results)} faults: " + ", ".join(shares)


def _by_id(action: Callable[..., Named | None], seed: int, id: str) -> Named | None:
    """In a process of its own, which looks the entry up: subjects do not travel."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return action(_BY_ID[id], seed=seed)


def _each(action: Callable[..., Named | None], ids: Sequence[str], seed: int, jobs: int) -> Iterable[Named | None]:
    one = partial(_by_id, action, seed)
    if jobs == 1:
        yield from map(one, ids)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, ids)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="entries whose id starts with this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--twins", action="store_true", help="check the correct twins instead")
    options = parser.parse_args()
    started = time.monotonic()
    ids = [id for id in _BY_ID if id.startswith(options.only)]
    if options.twins:
        ids = list({(e.twin, e.reference): e.id for e in map(_BY_ID.__getitem__, reversed(ids))}.values())[::-1]
        alarms = [a for a in _each(alarm, ids, options.seed, options.jobs) if a]
        print("\n".join(f"{a.id}: {a.fault}: {a.message}" for a in alarms))
        print(f"{len(ids)} twins, {len(alarms)} called wrong; {time.monotonic() - started:.0f} s")
        return 1 if alarms else 0
    print(line("fault", "class", "true cause", "named", "message", "grade"))
    print("|" + "|".join("-" * n for n in (36, 16, 82, 38, _SHORTEST + 2, 10)) + "|")
    results = []
    for result in _each(named, ids, options.seed, options.jobs):
        assert result is not None
        results.append(result)
        print(row(result), flush=True)
    print("\n" + "\n".join(totals(results)))
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if any(r.grade in (Grade.WRONGLY, Grade.MISSED) for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
