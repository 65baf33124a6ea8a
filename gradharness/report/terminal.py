"""Reports on a terminal: progress while it runs, a table of checks, then the findings, the worst last."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import IO, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradharness.engine.events import Event
from gradharness.engine.plan import Item
from gradharness.model.verdict import CheckResult, Report, Severity, Verdict
from gradharness.report import show, text
from gradharness.report.progress import Forecast, ProgressLine, animated

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.UNDECIDED: "yellow", Verdict.SKIPPED: "dim"}
WIDEST = 100
_NARROW = 72


class _Console(Console):
    """A console that tells of a reader that is gone, in place of ending the process with the status 1."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled."""
        raise  # noqa: PLE0704


def console(*, color: bool | None = None, file: IO[str] | None = None) -> Console:
    """A console for ``file``: as wide as the terminal up to a readable limit, 80 where there is none.

    Args:
        color: False for plain text, as the environment's ``NO_COLOR`` asks for too: neither colour nor weight.
        file: Standard output, unless given.
    """
    stream = file or sys.stdout
    terminal = stream.isatty()
    width = min(shutil.get_terminal_size().columns, WIDEST) if terminal else text.WIDTH
    plain = color is False or bool(os.environ.get("NO_COLOR"))
    system: Literal["auto"] | None = None if plain else "auto"
    return _Console(
        file=stream, width=width, no_color=plain, color_system=system, highlight=False, soft_wrap=False, emoji=False
    )


class TerminalReporter:
    """Shows the events of one run after another. Give it as ``emit``; use it as a context manager.

    Args:
        out: Where to print.
        verbose: Print all that is known: of every finding what each oracle says and the reproducer, warnings in full,
            and the environment.

    Attributes:
        subject: Name of the test that runs.
    """

    def __init__(self, out: Console, *, verbose: bool = False) -> None:
        self._out = out
        self._verbose = verbose
        self.subject = ""
        self._forecast = Forecast()
        self._line: ProgressLine | None = None

    def expect(self, items: Iterable[Item], *, seconds: float | None = None) -> None:
        """Say what is going to run, over all targets of the command, and how long it may take.

        Args:
            items: The checks of one target.
            seconds: Time limit of the whole command; None for no limit.
        """
        self._forecast.expect(items)
        if seconds is not None:
            self._forecast.deadline = time.monotonic() + seconds

    def drop(self, items: Iterable[Item]) -> None:
        """Take back what could not run."""
        self._forecast.drop(items)

    def __enter__(self) -> TerminalReporter:
        if animated(self._out):
            self._line = ProgressLine(self._out, self._forecast)
            self._line.start(self.subject)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.stop()
            self._line = None

    def __call__(self, event: Event) -> None:
        """Show one event of the engine. Only a terminal sees progress; what is printed for good comes at the end."""
        now = time.monotonic()
        self._forecast.update(event, now)
        if self._line is not None:
            self._line.show(event, now)

    def report(self, report: Report, *, target: str = "") -> None:
        """Print one report: verdict, table, findings."""
        title = text.wrap(text.headline(report), self._out.width, first="")
        self._print("\n".join(title), STYLES[report.verdict])
        for line in (*text.about(report), *_shared(report), *(self._details(report) if self._verbose else ())):
            self._wrapped(line)
        self._out.print(checks_table(report, self._out.width))
        for seen in text.worst_last(report):
            finding = seen.finding
            block = text.finding_text(report, seen, target=target, width=self._out.width, full=self._verbose)
            first, _, rest = block.partition("\n")
            self._print("\n" + first, "bold red" if finding.severity is Severity.ERROR else "yellow")
            self._print(rest)
            if self._verbose and finding.reproducer:
                self._print("\nthe same as a script, to be saved and run:", "dim")
                self._print(f"\n{finding.reproducer.strip()}")
        self._print("\n" + text.summary(report) + "\n", "dim")

    def tell(self, lines: Iterable[str], *, end: str = "\n") -> None:
        """Print some lines beside a report, if there are any; an empty one follows."""
        told = "\n".join(lines)
        if told:
            self._print(told + end)

    def totals(self, reports: tuple[Report, ...]) -> None:
        """Print one line for each subject, if there are several; what is not right comes last."""
        if len(reports) < 2:
            return
        order = (Verdict.PASS, Verdict.SKIPPED, Verdict.UNDECIDED, Verdict.FAIL)
        for report in sorted(reports, key=lambda r: order.index(r.verdict)):
            word = report.verdict.name if report.verdict is Verdict.FAIL else report.verdict.name.lower()
            self._print(f"{word.ljust(10)} {report.subject}", STYLES[report.verdict])

    def _details(self, report: Report) -> tuple[str, ...]:
        environment = "environment: " + ", ".join(f"{name} {value}" for name, value in report.environment)
        told = ((text.identity(result), text.levels(result)) for result in report.results)
        return (environment, *(f"{name}: {levels}" for name, levels in told if levels))

    def _wrapped(self, line: str) -> None:
        self._print("\n".join(text.wrap(line, self._out.width)))

    def _print(self, content: str, style: str = "") -> None:
        # Commands are longer than a narrow terminal is wide: the terminal wraps them, so that they can be copied.
        self._out.print(Text(content, style=style), soft_wrap=True)


def checks_table(report: Report, width: int = text.WIDTH) -> Table:
    """One row for each check; where the terminal is narrow, without what it cost."""
    wide = width >= _NARROW
    shared = _shared(report)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("would have seen", overflow="fold", ratio=1)
    if wide:
        table.add_column("examples", justify="right")
        table.add_column("seconds", justify="right")
    for result in report.results:
        table.add_row(
            f"  {result.check if shared else text.identity(result)}",
            Text(_word(result), style=STYLES[result.verdict]),
            _remark(result),
            *((str(result.examples), f"{result.seconds:.1f}") if wide else ()),
        )
    return table


def _shared(report: Report) -> list[str]:
    """Device and dtype in one line, where all checks have the same: no row needs to repeat them then."""
    found = {f"on: {result.device}, {result.dtype}" for result in report.results}
    return list(found) if len(found) == 1 else []


def _word(result: CheckResult) -> str:
    return result.verdict.name if result.verdict is Verdict.FAIL else result.verdict.name.lower()


def _remark(result: CheckResult) -> str:
    """The resolution of a pass; of all else the reason or the first finding's fault."""
    warnings = sum(f.severity is Severity.WARNING for f in result.findings)
    parts = [f"errors above {show.size(result.resolution)}"] if text.resolution(result) and result.resolution else []
    if result.verdict in (Verdict.UNDECIDED, Verdict.SKIPPED):
        parts.append(result.reason)
    if result.verdict is Verdict.FAIL:
        parts += [f.fault.value for f in result.findings if f.severity is Severity.ERROR][:1]
    if warnings:
        parts.append(show.count(warnings, "warning"))
    return ", ".join(filter(None, parts))
