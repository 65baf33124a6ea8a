"""What the page shows, as plain data: the template has no logic of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gradharness.model.exhibit import Drawing, HeatMap, LengthCurve, OracleValue, StepCurve
from gradharness.model.verdict import CheckResult, Finding, Report, Severity, Verdict, Witness
from gradharness.report import show, text
from gradharness.report.html.drawings import program_drawing
from gradharness.report.html.pictures import Picture, heat_maps, length_curve, oracle_values, step_curve

WORST_FIRST = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS, Verdict.SKIPPED)
_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One report, and how to get it again.

    Attributes:
        report: The report.
        target: What ``gradharness check`` takes to run the subject again; empty if that is not known.
    """

    report: Report
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of the run, beside its reports.

    Attributes:
        version: Of gradharness.
        when: Date and time, as they are to be read; empty to leave them out.
        errors: What could not run, in one line each.
        interrupted: Whether the run was stopped before its end.
    """

    version: str = ""
    when: str = ""
    errors: tuple[str, ...] = ()
    interrupted: bool = False


PLAIN = About()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Pictures that belong together, below one title.

    Attributes:
        title: What they show.
        pictures: One or several beside each other.
        note: What a reader must know to read them right.
        table: (oracle, value with bound) of each, where numbers say more than a picture.
    """

    title: str
    pictures: tuple[Picture, ...]
    note: str = ""
    table: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingView:
    """One finding, as the page words it."""

    anchor: str
    subject: str
    subject_anchor: str
    check: str
    severity: str
    fault: str
    message: str
    place: str
    numbers: tuple[tuple[str, str], ...]
    evidence: tuple[str, ...]
    panels: tuple[Panel, ...]
    witness: tuple[tuple[str, str], ...]
    elements: str
    reproducer: str
    replay: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One row of a subject's table."""

    check: str
    verdict: str
    remark: str
    examples: int
    seconds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectView:
    """One subject: its checks, and links to what was found."""

    anchor: str
    name: str
    target: str
    verdict: str
    sentence: str
    about: tuple[str, ...]
    column: str
    rows: tuple[CheckRow, ...]
    counts: tuple[tuple[str, int], ...]
    findings: tuple[FindingView, ...]
    summary: str
    seconds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """The whole page."""

    title: str
    verdict: str
    counts: tuple[tuple[str, int], ...]
    subjects: tuple[SubjectView, ...]
    findings: tuple[FindingView, ...]
    facts: tuple[tuple[str, str], ...]
    about: About


@dataclass(frozen=True, slots=True)
class _Group:
    """All reports of one subject: pytest makes one for each check."""

    whole: Report
    parts: tuple[Shown, ...]

    def origin(self, result: CheckResult) -> Shown:
        """The report that a result is of."""
        return next(s for s in self.parts if any(r is result for r in s.report.results))


def page_view(shown: Sequence[Shown], about: About) -> PageView:
    """The page of some reports, in the order in which they ran; those of one subject become one."""
    groups = sorted(_groups(shown), key=lambda g: WORST_FIRST.index(g.whole.verdict))
    subjects = tuple(_subject(group, f"subject-{n + 1}") for n, group in enumerate(groups))
    numbered = sorted((f for s in subjects for f in s.findings), key=lambda f: f.severity != Severity.ERROR)
    verdicts = [g.whole.verdict for g in groups]
    return PageView(
        title=_title(verdicts, about.errors),
        verdict=_word(next((v for v in WORST_FIRST if v in verdicts), Verdict.UNDECIDED)),
        counts=tuple((_word(v), verdicts.count(v)) for v in WORST_FIRST if v in verdicts),
        subjects=subjects,
        findings=tuple(numbered),
        facts=tuple(_facts(groups, about)),
        about=about,
    )


def _groups(shown: Sequence[Shown]) -> list[_Group]:
    together: dict[str, list[Shown]] = {}
    for one in shown:
        together.setdefault(one.target or one.report.subject, []).append(one)
    return [_Group(_whole([s.report for s in parts]), tuple(parts)) for parts in together.values()]


def _whole(reports: Sequence[Report]) -> Report:
    return replace(
        reports[0],
        results=tuple(result for report in reports for result in report.results),
        domain=tuple(dict.fromkeys(line for report in reports for line in report.domain)),
        notes=tuple(dict.fromkeys(line for report in reports for line in report.notes)),
        seconds=sum(report.seconds for report in reports),
    )


def _title(verdicts: Sequence[Verdict], errors: Sequence[str]) -> str:
    total = show.count(len(verdicts), "gradient test")
    wrong, open_ = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.UNDECIDED)
    if wrong:
        return f"{wrong} of {total} found a wrong gradient" if len(verdicts) > 1 else "The gradient is wrong"
    if open_:
        return f"{open_} of {total} {'is' if open_ == 1 else 'are'} undecided" if len(verdicts) > 1 else "Undecided"
    if not verdicts:
        return "Nothing could run" if errors else "Nothing ran"
    if errors:
        return "Not everything could run"
    return f"{total} passed"


def _facts(groups: Sequence[_Group], about: About) -> Iterator[tuple[str, str]]:
    reports = [s.report for g in groups for s in g.parts]
    results = [result for report in reports for result in report.results]
    yield from [("time", about.when)] if about.when else []
    yield "checks", str(len(results))
    yield "examples", str(sum(result.examples for result in results))
    yield "duration", show.seconds(sum(report.seconds for report in reports))
    yield "seed", _few(str(report.seed) for report in reports)
    yield "profile", _few(report.profile for report in reports)
    environment: dict[str, list[str]] = {}
    for name, value in (pair for report in reports for pair in report.environment):
        environment.setdefault(name, []).append(value)
    yield from ((name, _few(values)) for name, values in environment.items())
    yield from [("gradharness", about.version)] if about.version else []


def _few(values: Iterator[str] | Sequence[str]) -> str:
    """The values without repetitions; of many only their number, since each finding has its own command."""
    different = list(dict.fromkeys(values))
    return ", ".join(different) if len(different) <= 3 else f"{len(different)} different ones"


def _subject(group: _Group, anchor: str) -> SubjectView:
    report = group.whole
    target = group.parts[0].target
    seen = text.worst_last(report)[::-1]
    findings = tuple(_finding(group, one, anchor, f"{anchor}-finding-{n + 1}") for n, one in enumerate(seen))
    verdicts = [r.verdict for r in report.results]
    places = {f"{r.device}, {r.dtype}" for r in report.results}
    shared = places.pop() if len(places) == 1 else None
    return SubjectView(
        anchor=anchor,
        name=report.subject,
        target=target,
        verdict=_word(report.verdict),
        sentence=text.headline(report).partition("(")[2].rstrip(")"),
        about=tuple(text.about(report)),
        column="check" if shared is None else f"check ({shared})",
        rows=tuple(_row(result, short=shared is not None) for result in report.results),
        counts=tuple((_word(v), verdicts.count(v)) for v in WORST_FIRST),
        findings=findings,
        summary=text.summary(report),
        seconds=show.seconds(report.seconds),
    )


def _row(result: CheckResult, *, short: bool) -> CheckRow:
    said = (
        text.outcome(result).partition(" \N{MIDDLE DOT} ")[2]
        if result.verdict is not Verdict.SKIPPED
        else result.reason
    )
    return CheckRow(
        check=result.check if short else text.identity(result),
        verdict=_word(result.verdict),
        remark=said,
        examples=result.examples,
        seconds=show.seconds(result.seconds),
    )


def _word(verdict: Verdict) -> str:
    return verdict.name.lower()


# --------------------------------------------------------------------------------------------------------- one finding


def _finding(group: _Group, seen: text.Seen, subject_anchor: str, anchor: str) -> FindingView:
    finding, first = seen.finding, seen.by[0]
    origin = group.origin(first)
    witness = finding.witness
    also = (f"also found by {', '.join(text.identity(r) for r in seen.by[1:])}",) if len(seen.by) > 1 else ()
    return FindingView(
        anchor=anchor,
        subject=group.whole.subject,
        subject_anchor=subject_anchor,
        check=text.identity(first),
        severity=str(finding.severity),
        fault=finding.fault.value,
        message=finding.message,
        place=_place(witness) if witness else "",
        numbers=tuple(_numbers(witness)) if witness else (),
        evidence=(*finding.evidence, *also),
        panels=tuple(_panels(finding, anchor)),
        witness=tuple(_values(witness)) if witness else (),
        elements=show.count(witness.elements, "element") if witness else "",
        reproducer=finding.reproducer,
        replay=text.command(origin.report, seen, origin.target),
    )


def _place(witness: Witness) -> str:
    return witness.label + (str(list(witness.index)) if witness.index else "")


def _numbers(witness: Witness) -> Iterator[tuple[str, str]]:
    if witness.expected is None:
        return
    bound = "" if witness.bound is None else f" ± {show.size(witness.bound)}"
    if witness.got is None:
        yield "expected", show.number(witness.expected) + bound
        yield "got", "nothing"
        return
    expected, got = show.apart(witness.expected, witness.got)
    yield "expected", expected + bound
    yield "got", got
    off = abs(witness.got - witness.expected)
    if math.isfinite(off):
        times = f", {show.size(off / witness.bound)} × the bound" if witness.bound else ""
        yield "off by", show.size(off) + times


def _values(witness: Witness) -> Iterator[tuple[str, str]]:
    yield from ((name, show.anything(value)) for name, value in witness.arguments)
    several = len(witness.cotangents) > 1
    for number, cotangent in enumerate(witness.cotangents):
        yield f"cotangent {number}" if several else "cotangent", show.anything(cotangent)


def _panels(finding: Finding, anchor: str) -> Iterator[Panel]:
    """One for each kind of exhibit that there is."""
    for number, exhibit in enumerate(finding.exhibits):
        key = f"{anchor}-{number}"
        match exhibit:
            case HeatMap():
                active = () if finding.witness is None else finding.witness.active
                what = f"gradient of {exhibit.label}" if exhibit.label in active else exhibit.label
                yield Panel(
                    title=f"{what} in a failing case",
                    pictures=heat_maps(exhibit, key),
                    note=_caption(exhibit),
                )
            case StepCurve():
                yield Panel(title="finite differences", pictures=(step_curve(exhibit, key),), note=_STEPS)
            case LengthCurve():
                yield Panel(title="error against length", pictures=(length_curve(exhibit, key),))
            case Drawing():
                note = f"The gradient is wrong where {exhibit.why}." if exhibit.why else ""
                yield Panel(title="the program", pictures=(program_drawing(exhibit, key),), note=note)
            case OracleValue():
                pass
    yield from _oracles(finding, anchor)


_ORACLES = (
    "A bar reaches as far as an oracle may be off, and a dot stands where it is; at the left edge there is no distance."
)
_STEPS = (
    "From large steps to small ones the difference quotient comes nearer to the derivative, until round-off drives it "
    "away. The dashed line is the subject's error: where the quotient keeps that distance from the subject's gradient, "
    "it is the subject that is wrong."
)


def _oracles(finding: Finding, anchor: str) -> Iterator[Panel]:
    values = [e for e in finding.exhibits if isinstance(e, OracleValue)]
    witness = finding.witness
    if not values or witness is None or witness.expected is None:
        return
    got = 0.0 if witness.got is None else witness.got
    table = [(v.oracle, f"{show.number(v.value, _DIGITS)} ± {show.size(v.bound)}") for v in values]
    table.append(("the subject", "nothing" if witness.got is None else show.number(witness.got, _DIGITS)))
    yield Panel(
        title=f"what the oracles say of {_place(witness)}",
        pictures=(oracle_values(values, witness.expected, got, f"{anchor}-oracles"),),
        table=tuple(table),
        note=_ORACLES,
    )


def _caption(shown: HeatMap) -> str:
    rows, columns = shown.expected.shape
    whole = " × ".join(map(str, shown.shape))
    count = rows * columns - shown.padding
    parts = [f"Shape {whole}."]
    if shown.wrapped:
        first = shown.corner[0]
        parts.append(f"Elements {first} to {first + count - 1}, in rows of {columns}.")
    elif count < math.prod(shown.shape):
        parts.append(f"{rows} × {columns} elements from {list(shown.corner)} on are shown.")
    if shown.part:
        parts.append(f"The {shown.part} part, where they differ more.")
    parts.append(
        "Blue is negative, orange positive; red is out of bounds, the redder the farther. The outlined one is worst."
    )
    return " ".join(parts)
