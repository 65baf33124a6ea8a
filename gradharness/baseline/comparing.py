"""What has become of a baseline: pure functions from levels then and now to remarks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from gradharness.baseline.figures import FIGURES, Figure, Limits
from gradharness.baseline.model import (
    FAIL,
    PASS,
    SKIPPED,
    UNDECIDED,
    Baseline,
    Entry,
    Environment,
    Key,
    Known,
    Measured,
)

_SAYS = {PASS: "passes", FAIL: "fails", UNDECIDED: "is undecided", SKIPPED: "is skipped"}


class Kind(Enum):
    """What a remark means. The value is the word that heads it."""

    REGRESSION = "REGRESSION"
    VANISHED = "VANISHED"
    EXPECTED = "known failure"
    MENDED = "known failure passes now"
    IMPROVED = "improved"
    NEW = "new"
    ABSENT = "not compared"

    @property
    def fails(self) -> bool:
        """Whether it fails a comparison."""
        return self in (Kind.REGRESSION, Kind.VANISHED)

    @property
    def fails_strictly(self) -> bool:
        """Whether it fails a strict one, which wants the file to say just what is."""
        return self.fails or self in (Kind.MENDED, Kind.NEW, Kind.ABSENT)


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to be told.

    Attributes:
        kind: What it means.
        place: The check, as ``test_ops.py::test_linear[vjp-cpu-float64]``, or the test.
        says: What it was, what it is, and the limit.
        remedy: What to do.
    """

    kind: Kind
    place: str
    says: str
    remedy: str = ""

    def __str__(self) -> str:
        told = f"{self.kind.value}: {self.place}: {self.says}"
        return f"{told}; {self.remedy}" if self.remedy else told


@dataclass(frozen=True, slots=True)
class Uncompared:
    """A figure whose threshold does not carry over.

    Attributes:
        figure: Which, in words.
        name: Of the environment.
        was: Its value where the baseline was recorded.
        now: Its value here.
    """

    figure: str
    name: str
    was: str
    now: str


@dataclass(slots=True)
class Comparison:
    """Everything that a run has to say of a baseline.

    Attributes:
        remarks: In the order in which they came up.
        uncompared: Figures that were not compared, with the number of checks.
        differences: (name, then, now) of all environments.
        compared: Checks that were found in the baseline.
    """

    remarks: list[Remark] = field(default_factory=list)
    uncompared: dict[Uncompared, int] = field(default_factory=dict)
    differences: dict[tuple[str, str, str], None] = field(default_factory=dict)
    compared: int = 0

    def failed(self, *, strict: bool = False) -> bool:
        """Whether it is a regression."""
        told = any(r.kind.fails_strictly if strict else r.kind.fails for r in self.remarks)
        return told or (strict and bool(self.uncompared))

    def of(self, *kinds: Kind) -> tuple[Remark, ...]:
        """The remarks of some kinds."""
        return tuple(r for r in self.remarks if r.kind in kinds)

    def add(self, now: Measured, baseline: Baseline, limits: Limits) -> tuple[Remark, ...]:
        """Compares one check with its entry, and gives what is to be told of it."""
        was = baseline.entries.get(now.key)
        if was is not None:
            self.compared += 1
            pairs = differences(was.environment, now.entry.environment)
            self.differences.update(dict.fromkeys((name, *values) for name, values in pairs.items()))
        remarks = list(self._remarks(now, was, baseline.known.get(now.key), limits))
        self.remarks += remarks
        return tuple(remarks)

    def _remarks(self, now: Measured, was: Entry | None, known: Known | None, limits: Limits) -> Iterator[Remark]:
        if now.no_device:
            if was is not None and was.verdict != SKIPPED:
                yield Remark(Kind.ABSENT, str(now.key), now.message)
            return
        if known is not None and now.entry.verdict in (PASS, FAIL):
            yield _of_known(now, known)
            return
        verdict = _of_verdict(now, was)
        if verdict is not None:
            yield verdict
        elif was is not None and now.entry.verdict == PASS:
            yield from self._of_figures(now, was, limits)

    def _of_figures(self, now: Measured, was: Entry, limits: Limits) -> Iterator[Remark]:
        pairs = differences(was.environment, now.entry.environment)
        for figure in FIGURES:
            before, after = figure.of(was), figure.of(now.entry)
            if limits.factor(figure) is None or before is None:
                continue
            if after is None and figure.claims:
                says = f"{figure.words} was {figure.text(before)}, is lost: the check claims none"
                yield Remark(Kind.REGRESSION, str(now.key), says, _accept(now.key))
                continue
            other = next((name for name in figure.needs if name in pairs), None)
            if after is None:
                self._not_compared(Uncompared(figure.words, "measurement", figure.text(before), "none"))
            elif other is not None:
                self._not_compared(Uncompared(figure.words, other, *pairs[other]))
            else:
                yield from _of_figure(figure, now.key, (before, after), limits)

    def _not_compared(self, one: Uncompared) -> None:
        self.uncompared[one] = self.uncompared.get(one, 0) + 1


def differences(was: Environment, now: Environment) -> dict[str, tuple[str, str]]:
    """The names whose values differ, with both; ``none`` stands for one that there is not."""
    before, after = dict(was), dict(now)
    names = dict.fromkeys((*before, *after))
    return {n: (before.get(n, "none"), after.get(n, "none")) for n in names if before.get(n) != after.get(n)}


def vanished(baseline: Baseline, scope: Iterable[Key], seen: Mapping[str, set[str]]) -> Iterator[Remark]:
    """What the baseline has and the tests have no longer.

    Args:
        baseline: With the entries.
        scope: Keys of all entries that the run would have seen.
        seen: Ids of the checks of each test that there is.
    """
    gone: dict[str, int] = {}
    for key in sorted(scope):
        if key.subject not in seen:
            gone[key.subject] = gone.get(key.subject, 0) + 1
            continue
        verdict = baseline.entries[key].verdict if key in baseline.entries else FAIL
        if key.id not in seen[key.subject] and verdict != SKIPPED:
            says = f"the check is gone; its verdict was: {verdict}"
            yield Remark(Kind.VANISHED, str(key), says, _restore(key))
    for subject, count in gone.items():
        says = f"the test is gone, with {count} {'check' if count == 1 else 'checks'}"
        yield Remark(Kind.VANISHED, subject, says, _restore(Key(subject, "", "", "")))


# -------------------------------------------------------------------------------------------------------- one check


def _of_known(now: Measured, known: Known) -> Remark:
    if now.entry.verdict == PASS:
        remedy = "remove it: gradharness baseline record, or take its [[known]] out of the file"
        return Remark(Kind.MENDED, str(now.key), f"{known.fault_text}, known since: {known.reason}", remedy)
    if now.fault == known.fault and known.label in ("", now.label):
        link = f" ({known.link})" if known.link else ""
        return Remark(Kind.EXPECTED, str(now.key), f"{known.fault_text}: {known.reason}{link}")
    says = f"fails with {_fault(now)}; known is another fault: {known.fault_text} ({known.reason})"
    return Remark(
        Kind.REGRESSION, str(now.key), says, "mend it, or accept it with: gradharness baseline record --known"
    )


def _of_verdict(now: Measured, was: Entry | None) -> Remark | None:
    """What the verdict alone says; None where the figures are to be looked at."""
    verdict, before = now.entry.verdict, was.verdict if was is not None else None
    place = str(now.key)
    then = f"was {before}" if before else "is not in the baseline"
    if verdict == FAIL:
        remedy = "mend it, or accept it with a reason: gradharness baseline record --known REASON"
        return Remark(Kind.REGRESSION, place, f"{then}, fails: {_fault(now)}", remedy)
    if verdict == before:
        return None
    if before == FAIL or (before == UNDECIDED and verdict == PASS):
        return Remark(Kind.IMPROVED, place, f"was {before}, {_SAYS[verdict]}", _record(now.key))
    if verdict == UNDECIDED or before == PASS:
        return Remark(Kind.REGRESSION, place, f"{then}, {_SAYS[verdict]}: {now.message}", _accept(now.key))
    return Remark(Kind.NEW, place, f"{then}, {_SAYS[verdict]}", _record(now.key))


def _of_figure(figure: Figure, key: Key, values: tuple[float, float], limits: Limits) -> Iterator[Remark]:
    was, now = values
    told = f"{figure.words} was {figure.text(was)}, is {figure.text(now)}"
    factor = limits.factor(figure)
    if limits.exceeded(figure, key, was, now):
        least = figure.floor(key)
        base = f"{factor:g} × {figure.text(max(was, least))}"
        grown = f"{now / was:.2g} × as much, " if was > 0 else ""
        yield Remark(Kind.REGRESSION, str(key), f"{told}: {grown}the limit is {base}", _accept(key))
    elif limits.exceeded(figure, key, now, was):
        yield Remark(Kind.IMPROVED, str(key), told, _record(key))


def _fault(now: Measured) -> str:
    told = f"{now.fault} of {now.label}" if now.label and now.fault else now.fault
    return told or now.message or "no finding"


def _record(key: Key) -> str:
    return f"record it: gradharness baseline record {_shell(key.subject)}"


def _accept(key: Key) -> str:
    return f"mend it, or accept it: gradharness baseline record {_shell(key.subject)}"


def _restore(key: Key) -> str:
    return f"restore it, or accept it: gradharness baseline record {_shell(key.path or '')}".rstrip()


def _shell(text: str) -> str:
    return f'"{text}"' if any(c in text for c in " ()[]&;'") else text
