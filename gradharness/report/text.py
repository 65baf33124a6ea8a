"""A report as plain text: what ``GradientError`` carries, and what pytest and the terminal print.

test_linear: FAIL (the gradient is wrong beyond what all known errors can explain)
  drew: x: float[n, d]
  vjp-cpu-float64        FAIL · 1 finding
  linearity-cpu-float64  pass · would have seen a relative error above 3e-11

test_linear [vjp-cpu-float64]: error, constant factor
  at weight[0, 1]
  expected -0.25 ± 3e-06   got -0.5   off by 0.25, 8.3e+04 × the bound
  the gradient of `weight` is 2 times the right one
  witness:
    x = float64[1, 1] = [[1]]
  replay: gradharness check test_ops.py::test_linear --checks vjp --device cpu --dtype float64 --seed 17
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradharness.model.exhibit import OracleValue
from gradharness.model.verdict import CheckResult, Fault, Finding, Report, Severity, Verdict, Witness
from gradharness.report import show

WIDTH = 80
_ORACLE_DIGITS = 10


def render(report: Report, *, target: str = "", width: int = WIDTH, full: bool = False) -> str:
    """The whole report.

    Args:
        report: What to print.
        target: What ``gradharness check`` takes to run the subject again, such as ``test_ops.py::test_linear``.
        width: Prose is wrapped here; commands are not.
        full: As for ``finding_text``.
    """
    blocks = ["\n".join([headline(report), *_lines(about(report), width), *outcomes(report, width)])]
    blocks += [finding_text(report, seen, target=target, width=width, full=full) for seen in worst_last(report)]
    return "\n\n".join([*blocks, summary(report)])


def headline(report: Report) -> str:
    """Subject and verdict, with the verdict's sentence."""
    undecided = any(r.verdict is Verdict.UNDECIDED for r in report.results)
    if report.verdict is Verdict.UNDECIDED and not undecided:
        return f"{report.subject}: UNDECIDED (no check ran to a decision; this is not a pass)"
    return f"{report.subject}: {report.verdict.name} ({report.verdict.value})"


def about(report: Report) -> Iterator[str]:
    """What was drawn, and what a reader must know to trust the verdict."""
    yield from (f"drew: {line}" for line in report.domain)
    yield from (f"note: {line}" for line in report.notes)


def outcomes(report: Report, width: int = WIDTH) -> list[str]:
    """One line for each check."""
    column = max((len(identity(r)) for r in report.results), default=0) + 2
    lines: list[str] = []
    for result in report.results:
        first = "  " + identity(result).ljust(column)
        lines += wrap(outcome(result), width, first=first, rest=" " * len(first))
    return lines


def identity(result: CheckResult) -> str:
    """``vjp-cpu-float64``, as in pytest's ids."""
    return f"{result.check}-{result.device}-{result.dtype}"


def outcome(result: CheckResult) -> str:
    """Verdict of one check, with its resolution or its reason."""
    warnings = sum(f.severity is Severity.WARNING for f in result.findings)
    return " · ".join(
        [_word(result.verdict), *_claim(result)] + ([show.count(warnings, "warning")] if warnings else [])
    )


def levels(result: CheckResult) -> str:
    """What was measured beside the verdict; empty where nothing was."""
    parts = [] if result.error is None else [f"largest relative error {show.size(result.error)}"]
    parts += [] if result.saved_bytes is None else [show.count(result.saved_bytes, "byte") + " saved for backward"]
    parts += [] if result.cost_ratio is None else [f"{show.size(result.cost_ratio)} × the time of plain autograd"]
    return " · ".join(parts)


def resolution(result: CheckResult) -> str:
    """What a pass claims; empty where it claims nothing."""
    if result.verdict is not Verdict.PASS or result.resolution is None:
        return ""
    return f"would have seen a relative error above {show.size(result.resolution)}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One fault as several checks saw it.

    Attributes:
        finding: What the first of them found.
        by: All of them, the first one first.
    """

    finding: Finding
    by: tuple[CheckResult, ...]


def worst_last(report: Report) -> tuple[Seen, ...]:
    """Each fault once: warnings, then errors, of each kind the first one last."""
    seen: dict[tuple[Severity, Fault], Seen] = {}
    for result in report.results:
        for finding in result.findings:
            key = (finding.severity, finding.fault)
            known = seen.get(key, Seen(finding, ()))
            others = known.by if any(r is result for r in known.by) else (*known.by, result)
            seen[key] = Seen(known.finding, others)
    errors_first = sorted(seen.values(), key=lambda s: s.finding.severity is Severity.WARNING)
    return tuple(reversed(errors_first))


def counts(seen: Seen) -> bool:
    """Whether a finding has failed a check: an error does, a warning only where no error did, under ``--strict``."""
    if seen.finding.severity is Severity.ERROR:
        return True
    return any(r.verdict is Verdict.FAIL and all(f.severity is Severity.WARNING for f in r.findings) for r in seen.by)


def finding_text(report: Report, seen: Seen, *, target: str = "", width: int = WIDTH, full: bool = False) -> str:
    """One finding: subject and check, where, the numbers, the sentence, the witness, the command.

    Of a warning that fails nothing the sentence and the command are enough.

    Args:
        report: To which it belongs.
        seen: What to print.
        target: As for ``render``.
        width: As for ``render``.
        full: Print all of a warning too, and what every oracle says.
    """
    finding, first = seen.finding, seen.by[0]
    lines = [f"{report.subject} [{identity(first)}]: {finding.severity.value}, {finding.fault.value}"]
    if full or counts(seen):
        lines += _particulars(seen, width, full=full)
    else:
        lines += _lines([finding.message], width)
    lines.append(f"  replay: {command(report, seen, target)}")
    return "\n".join(lines)


def command(report: Report, seen: Seen, target: str = "") -> str:
    """What looks at a finding again: at its kept witness, or where none is kept at the same draws."""
    return seen.finding.replay or replay(report, seen.by[0], target)


def replay(report: Report, result: CheckResult, target: str = "") -> str:
    """The command, or without a target the seed, that gives the same finding again."""
    if not target:
        return f"call it again with seed={report.seed}"
    words = ["gradharness", "check", _quoted(target), "--checks", result.check, "--device", result.device]
    words += ["--dtype", result.dtype, "--seed", str(report.seed)]
    return " ".join(words if report.profile == "dev" else [*words, "--profile", report.profile])


def properties(report: Report, result: CheckResult) -> list[tuple[str, object]]:
    """What is said of one check beside its text, by name: for JUnit, where nobody parses a report."""
    told: list[tuple[str, object]] = [("verdict", result.verdict.name.lower())]
    told += [("resolution", result.resolution)] if result.resolution is not None else []
    names = {Severity.ERROR: "fault", Severity.WARNING: "warning"}
    told += [(names[finding.severity], finding.fault.value) for finding in result.findings]
    told += [("seed", report.seed), ("profile", report.profile), ("examples", result.examples)]
    return [(f"gradharness_{name}", value) for name, value in told]


def summary(report: Report) -> str:
    """One line of totals, with the seed."""
    examples = sum(r.examples for r in report.results)
    return ", ".join(
        [
            show.count(len(report.results), "check"),
            show.count(examples, "example"),
            show.seconds(report.seconds),
            f"seed {report.seed}",
            f"profile {report.profile}",
        ]
    )


def wrap(text: str, width: int, *, first: str = "  ", rest: str = "    ") -> list[str]:
    """Lines of at most ``width`` characters; a word is never broken."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def _particulars(seen: Seen, width: int, *, full: bool) -> list[str]:
    """Where, the numbers, the sentences, the witness; what every oracle says, if that is asked for."""
    finding = seen.finding
    also = [f"also found by {', '.join(identity(r) for r in seen.by[1:])}"] if len(seen.by) > 1 else []
    lines = [] if finding.witness is None else _lines(numbers(finding.witness), width)
    lines += _lines([finding.message, *finding.evidence, *also], width)
    if full:
        lines += _oracles(finding)
    return lines if finding.witness is None else lines + _witness(finding.witness, width)


def _oracles(finding: Finding) -> list[str]:
    """What every oracle says of the worst element, below what the subject says."""
    values = [exhibit for exhibit in finding.exhibits if isinstance(exhibit, OracleValue)]
    if not values:
        return []
    rows = [(v.oracle, f"{show.number(v.value, _ORACLE_DIGITS)} ± {show.size(v.bound)}") for v in values]
    if finding.witness is not None and finding.witness.got is not None:
        rows.insert(0, ("subject", show.number(finding.witness.got, _ORACLE_DIGITS)))
    column = max(len(name) for name, _ in rows) + 2
    return ["  oracles there, with their own bounds:", *(f"    {name.ljust(column)}{told}" for name, told in rows)]


def _lines(sentences: Iterable[str], width: int) -> list[str]:
    return [line for sentence in sentences for line in wrap(sentence, width)]


def _word(verdict: Verdict) -> str:
    """A failure is shouted, all else is said."""
    return verdict.name if verdict is Verdict.FAIL else verdict.name.lower()


def _claim(result: CheckResult) -> list[str]:
    if result.verdict is Verdict.PASS:
        return [resolution(result)] if resolution(result) else []
    if result.verdict is Verdict.FAIL:
        errors = sum(f.severity is Severity.ERROR for f in result.findings)
        return [show.count(errors, "finding")] if errors else [result.reason or "under --strict"]
    return [result.reason or result.verdict.value]


def numbers(witness: Witness) -> Iterator[str]:
    """Where the worst element is, and the two values there."""
    place = witness.label
    if witness.index:
        place += str(list(witness.index))
    if place:
        yield f"at {place}"
    if witness.expected is None:
        return
    if witness.got is None:
        yield f"expected {show.number(witness.expected)}   got nothing"
        return
    expected, got = show.apart(witness.expected, witness.got)
    bound = "" if witness.bound is None else f" ± {show.size(witness.bound)}"
    yield f"expected {expected}{bound}   got {got}{_excess(abs(witness.got - witness.expected), witness.bound)}"


def _excess(off: float, bound: float | None) -> str:
    """By how much two values differ, in units of what is allowed."""
    if not math.isfinite(off):
        return ""
    text = f"   off by {show.size(off)}"
    return f"{text}, {show.size(off / bound)} × the bound" if bound else text


def _witness(witness: Witness, width: int) -> list[str]:
    """The arguments and cotangents of the smallest failing case."""
    lines = [f"  witness ({show.count(witness.elements, 'element')}):"]
    shown = [(name, show.anything(value)) for name, value in witness.arguments]
    several = len(witness.cotangents) > 1
    shown += [
        (f"cotangent {n}" if several else "cotangent", show.anything(c)) for n, c in enumerate(witness.cotangents)
    ]
    for name, text in shown:
        lines += wrap(f"{name}: {text}", width, first="    ", rest="      ")
    return lines


def _quoted(target: str) -> str:
    """A target as one word of a shell's line."""
    return f'"{target}"' if any(c in target for c in " ()[]&;'") else target
