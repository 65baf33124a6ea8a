"""Runs checks on functions whose gradients are right, most of them where a gradient check goes wrong most easily.

python -m properties.false_alarms --count 50000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import torch

from gradharness.checks import find_check
from gradharness.checks.base import Setting
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.inputs.values import generator
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.subjects import FunctionSubject
from properties import catalogue_elementwise, catalogue_handwritten, catalogue_tensor
from properties.drawing import Entry, Where, case, primals
from properties.known_defects import known

ENTRIES: tuple[Entry, ...] = (
    *catalogue_elementwise.ENTRIES,
    *catalogue_tensor.ENTRIES,
    *catalogue_handwritten.ENTRIES,
)
# One ordinary point in three; the others are special in one way or another.
_POINTS = [Where.ORDINARY] * 6 + [Where.SPECIAL] * 5 + [Where.TIES] * 3
_POINTS += [Where.OFFSET, Where.HUGE, Where.TINY, Where.SATURATED]


@dataclass(frozen=True)
class Way:
    """How an entry is checked: which check, beside which oracles, in which dtype."""

    check: str
    referenced: bool = False
    dtype: torch.dtype = torch.float64

    def __str__(self) -> str:
        beside = "beside a reference" if self.referenced else "alone"
        return f"{self.check} {beside}, {str(self.dtype).removeprefix('torch.')}"


_ALONE = [Way("vjp")] * 4 + [Way("linearity"), Way("value"), Way("vjp", dtype=torch.float32)]
_BESIDE = [Way("vjp", referenced=True)] * 4 + [Way("value", referenced=True)] * 2
_BESIDE += [Way("vjp", referenced=True, dtype=torch.float32)]


@cache
def setting(entry: Entry, way: Way) -> Setting:
    """The setting that the engine would make."""
    subject = FunctionSubject(entry.name, entry.function)
    reference = FunctionSubject("reference", entry.reference) if entry.reference and way.referenced else None
    # A plain torch function's own forward is differentiated by its own backward: no independent oracle.
    own = subject.own_forward() if entry.handwritten else None
    return Setting.of(subject, reference, own=own, dtype=way.dtype)


@dataclass(frozen=True)
class Alarm:
    """A FAIL on a correct function."""

    entry: str
    way: Way
    where: Where
    seed: int
    observation: Observation
    known: str

    def __str__(self) -> str:
        found = self.observation.discrepancies[0]
        at = f"{self.entry}: {self.way}, {self.where}, seed {self.seed}"
        return f"{at}: {found.oracle} {found.excess:.3g} {found.detail}"


@dataclass
class Tally:
    """What came out."""

    verdicts: Counter[tuple[str, str, Verdict]] = field(default_factory=Counter)
    by_family: Counter[tuple[str, Where, Verdict]] = field(default_factory=Counter)
    by_entry: Counter[tuple[str, Where, Verdict]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    alarms: list[Alarm] = field(default_factory=list)

    @property
    def checks(self) -> int:
        return sum(self.verdicts.values())

    @property
    def false_alarms(self) -> list[Alarm]:
        return [a for a in self.alarms if not a.known]

    def share(self, verdict: Verdict, where: Where) -> float:
        rows = [(v, n) for (_, at, v), n in self.by_family.items() if at is where]
        return sum(n for v, n in rows if v is verdict) / max(1, sum(n for _, n in rows))


def point_of(entry: Entry, way: Way, where: Where, seed: int) -> Case | None:
    """The case; None where the function or its reference is not defined."""
    point = primals(entry, seed, where, way.dtype)
    try:
        made = case(setting(entry, way).subject, point, seed)
        reference = setting(entry, way).reference
        if made is None or reference is None:
            return made
        expected = reference.outputs(point.to(dtype=torch.float64))
    except SubjectError:
        return None
    return made if all(bool(y.isfinite().all()) for y in expected) else None


def examine(entry: Entry, way: Way, made: Case) -> Observation:
    """What the check says."""
    try:
        return find_check(way.check).examine(setting(entry, way), made)
    except OracleUnavailable as error:
        return Observation(verdict=Verdict.UNDECIDED, reason=str(error))
    except SubjectError as error:
        found = Discrepancy(label="", fault=Fault.BACKWARD_RAISES, detail=str(error))
        return Observation(verdict=Verdict.FAIL, discrepancies=(found,))


def run(count: int, seed: int, *, entries: tuple[Entry, ...] = ENTRIES, verbose: bool = False) -> Tally:
    """So many checks, evenly over the entries."""
    tally = Tally()
    number = 0
    g = generator(seed, "false alarms")
    while tally.checks < count:
        entry = entries[number % len(entries)]
        number += 1
        ways = _BESIDE if entry.reference and number // len(entries) % 2 else _ALONE
        way = ways[int(torch.randint(0, len(ways), (), generator=g))]
        where = _POINTS[int(torch.randint(0, len(_POINTS), (), generator=g))]
        drawn = int(torch.randint(0, 2**31, (), generator=g))
        made = point_of(entry, way, where, drawn)
        if made is None:
            tally.outside += 1
            continue
        _count(tally, entry, way, where, drawn, made, verbose)
    return tally


def _count(tally: Tally, entry: Entry, way: Way, where: Where, seed: int, made: Case, verbose: bool) -> None:  # noqa: FBT001
    observation = examine(entry, way, made)
    verdict = observation.verdict
    tally.verdicts[str(way), str(where), verdict] += 1
    tally.by_family[entry.family, where, verdict] += 1
    tally.by_entry[entry.name, where, verdict] += 1
    if verdict is Verdict.UNDECIDED:
        tally.reasons[observation.reason] += 1
    if verdict is Verdict.FAIL:
        alarm = Alarm(entry.name, way, where, seed, observation, known(entry, made))
        tally.alarms.append(alarm)
        if verbose and not alarm.known:
            print(alarm, flush=True)


def table(tally: Tally) -> str:
    """Counts by check and by family, and the share undecided."""
    lines = []
    for title, counts in (
        ("check", _sums(tally.verdicts, 0)),
        ("point", _sums(tally.verdicts, 1)),
        ("family", _sums(tally.by_family, 0)),
    ):
        lines.append(f"{title:45} {'checks':>7} {'pass':>7} {'undec.':>7} {'skip':>6} {'FAIL':>5}  undecided")
        for name, row in counts.items():
            total = sum(row.values())
            share = row[Verdict.UNDECIDED] / total
            lines.append(
                f"{name:45} {total:7} {row[Verdict.PASS]:7} {row[Verdict.UNDECIDED]:7} {row[Verdict.SKIPPED]:6}"
                f" {row[Verdict.FAIL]:5}  {share:8.1%}"
            )
        lines.append("")
    return "\n".join(lines)


def _sums(counts: Counter, place: int) -> dict[str, Counter[Verdict]]:
    rows: dict[str, Counter[Verdict]] = {}
    for key, n in sorted(counts.items(), key=str):
        rows.setdefault(str(key[place]), Counter())[key[-1]] += n
    total: Counter[Verdict] = Counter()
    for row in rows.values():
        total += row
    return {**rows, "all": total}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="entries whose name contains this")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = tuple(e for e in ENTRIES if options.only in e.name)
    started = time.monotonic()
    tally = run(options.count, options.seed, entries=chosen, verbose=options.verbose)
    print(table(tally))
    if options.verbose:
        for reason, n in tally.reasons.most_common(12):
            print(f"{n:6}  {reason}")
        ordinary = {e.name: tally.by_entry[e.name, Where.ORDINARY, Verdict.UNDECIDED] for e in chosen}
        print("undecided at ordinary points:", {k: n for k, n in sorted(ordinary.items(), key=lambda p: -p[1]) if n})
    seconds = time.monotonic() - started
    print(f"{len(chosen)} functions, {tally.checks} checks in {seconds:.0f} s; {tally.outside} points outside a domain")
    for reason, n in Counter(a.known for a in tally.alarms if a.known).items():
        print(f"{n} times: {reason}")
    for alarm in tally.false_alarms:
        print("FALSE ALARM", alarm)
    return 1 if tally.false_alarms else 0


if __name__ == "__main__":
    sys.exit(main())
