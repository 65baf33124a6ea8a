"""A campaign on a terminal: one living line while it runs, what is found at once, every finding in full at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import Progress as Live
from rich.progress import SpinnerColumn, TextColumn
from rich.text import Text

from gradharness.engine.campaign_events import (
    CampaignEvent,
    CampaignStarted,
    FindingSeen,
    Reexamined,
    RoundFinished,
    SourceFailed,
)
from gradharness.engine.findings import CampaignFinding, FindingStatus, Progress
from gradharness.model.verdict import Report
from gradharness.report import show, text

_PLAIN_EVERY = 10.0  # seconds between two lines where there is no terminal
_LIVE_EVERY = 0.1
_WRONG, _GONE, _QUIET = "bold red", "green", "dim"


def test_text(report: Report, target: str) -> str:
    """The report of one check of a gradient test, without what differs from run to run.

    Args:
        report: With one result.
        target: What ``gradharness check`` takes to run it again.
    """
    head = [text.headline(report), *(line for about in text.about(report) for line in text.wrap(about, text.WIDTH))]
    blocks = [text.finding_text(report, seen, target=target) for seen in text.worst_last(report)]
    return "\n\n".join(["\n".join([*head, *text.outcomes(report)]), *blocks])


def line_of(progress: Progress, findings: int, *, ops: int, speed: float | None = None) -> str:
    """``3,280 programs (328/s), 241 of 241 ops, 12 checks of tests, 0 findings``.

    Args:
        progress: What has been done.
        findings: How many stand.
        ops: How many ops there are.
        speed: Programs a second; None where nothing was measured.
    """
    programs = _programs(progress.programs)
    parts = [programs + ("" if speed is None else f" ({speed:.0f}/s)"), f"{len(progress.ops)} of {ops} ops"]
    if progress.tests:
        parts.append(f"{show.count(progress.tests, 'check')} of tests")
    if progress.undecided:
        parts.append(f"{progress.undecided:,} undecided")
    return ", ".join([*parts, show.count(findings, "finding")])


class CampaignReporter:
    """Shows the events of a campaign. Give it as ``emit``; use it as a context manager.

    Args:
        out: Where to print.
        ops: How many ops there are.
    """

    def __init__(self, out: Console, *, ops: int) -> None:
        self._out = out
        self._ops = ops
        self._began = self._told = time.monotonic()
        self._first = Progress()
        self._last = Progress()
        self._standing: set[str] = set()
        self.failed: list[tuple[str, BaseException]] = []
        columns = SpinnerColumn(), TextColumn("{task.description}")
        self._live = Live(*columns, console=out, transient=True, disable=not out.is_terminal)
        self._task = self._live.add_task("")

    def __enter__(self) -> CampaignReporter:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: CampaignEvent) -> None:
        """Show one event."""
        match event:
            case CampaignStarted():
                self._started(event)
            case Reexamined():
                self._reexamined(event)
            case FindingSeen(finding=finding):
                self._standing.add(finding.key)
                word = "found" if finding.status is FindingStatus.NEW else "is back"
                self._print(f"#{finding.number} {word}: {finding.source}: {finding.title}", _WRONG)
            case RoundFinished(progress=progress):
                self._round(progress)
            case SourceFailed(source=source, line=line, error=error):
                self.failed.append((f"{source}: {line}", error))

    def finding(self, finding: CampaignFinding, *, options: str = "") -> None:
        """Print a finding in full.

        Args:
            finding: Which.
            options: What the command that looks at it again needs beside its number.
        """
        self._print(f"\n#{finding.number} {finding.status.value}: {finding.source}", _WRONG)
        self._print(finding.text)
        self._print(f"again: gradharness fuzz{options} --replay {finding.number}")

    def told(self, title: str, content: str) -> None:
        """Print something under a title; empty content for the title alone."""
        self._print(title, _WRONG if content else "")
        if content:
            self._print(content)

    def summary(self, findings: Sequence[CampaignFinding], seed: int, *, options: str = "", gone: int = 0) -> None:
        """Print all findings that stand, then one line of totals.

        Args:
            findings: Those of this campaign's sources.
            seed: Of the campaign.
            options: As for ``finding``.
            gone: How many stored findings are gone.
        """
        for finding in findings:
            self.finding(finding, options=options)
        programs, took = self._last.programs - self._first.programs, show.seconds(time.monotonic() - self._began)
        in_all = [line_of(self._last, len(findings), ops=self._ops), *([f"{gone} gone"] if gone else [])]
        parts = [f"in {took}: {_programs(programs)} ({self._speed():.0f}/s)", f"in all: {', '.join(in_all)}"]
        self._print("\n" + "; ".join([*parts, f"seed {seed}, next round {self._last.rounds}"]), _QUIET)

    def _started(self, event: CampaignStarted) -> None:
        self._began = self._told = time.monotonic()
        self._first = self._last = event.progress
        words = [f"seed {event.seed}"]
        if event.progress.rounds:
            words.append(f"goes on at round {event.progress.rounds:,}")
        if event.moved:
            words.append("the store knows other targets, ops, a version or a seed only: begins at round 0")
        if event.stored:
            words.append(f"looks at {show.count(event.stored, 'stored finding')} first")
        self._print("; ".join(words), _QUIET)

    def _reexamined(self, event: Reexamined) -> None:
        finding = event.finding
        if event.reason:
            self._print(f"#{finding.number} not looked at: {event.reason}: {finding.title}", "yellow")
        elif finding.status.stands:
            self._standing.add(finding.key)
            word = "recurs" if event.before.stands else "is back"
            self._print(f"#{finding.number} {word}: {finding.source}: {finding.title}", _WRONG)
        elif event.before.stands:
            self._print(f"#{finding.number} is gone: {finding.source}: {finding.title}", _GONE)

    def _round(self, progress: Progress) -> None:
        self._last = progress
        now = time.monotonic()
        if now - self._told < (_LIVE_EVERY if self._out.is_terminal else _PLAIN_EVERY):
            return
        self._told = now
        line = f"{now - self._began:.0f} s: " + line_of(
            progress, len(self._standing), ops=self._ops, speed=self._speed()
        )
        if self._out.is_terminal:
            self._live.update(self._task, description=line)
        else:
            self._print(line, _QUIET)

    def _speed(self) -> float:
        seconds = max(time.monotonic() - self._began, 1e-9)
        return (self._last.programs - self._first.programs) / seconds

    def _print(self, content: str, style: str = "") -> None:
        # Literals and commands are longer than a terminal is wide: it wraps them, so that they can be copied.
        self._out.print(Text(content, style=style), soft_wrap=True)


def _programs(count: int) -> str:
    return f"{count:,} program{'' if count == 1 else 's'}"
