"""Reports on a terminal: progress while it runs, a table of checks, then the findings, the worst last."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from gradharness.engine.events import CheckFinished, CheckStarted, Event, ExampleExamined, RunFinished, RunStarted
from gradharness.engine.plan import Item
from gradharness.model.verdict import CheckResult, Report, Severity, Verdict
from gradharness.report import show, text

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.UNDECIDED: "yellow", Verdict.SKIPPED: "dim"}
WIDEST = 100


def console(*, color: bool | None = None, file: IO[str] | None = None) -> Console:
    """A console for ``file``: as wide as the terminal up to a readable limit, 80 where there is none."""
    stream = file or sys.stdout
    terminal = stream.isatty()
    width = min(shutil.get_terminal_size().columns, WIDEST) if terminal else text.WIDTH
    return Console(file=stream, width=width, no_color=color is False, highlight=False, soft_wrap=False, emoji=False)


class TerminalReporter:
    """Shows the events of one run after another. Give it as ``emit``; use it as a context manager.

    Args:
        out: Where to print.
        verbose: Print the environment as well, and the reproducers.
    """

    def __init__(self, out: Console, *, verbose: bool = False) -> None:
        self._out = out
        self._verbose = verbose
        self._tasks: dict[Item, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event of the engine. Only a terminal sees progress; what is printed for good comes at the end."""
        match event:
            case CheckStarted(item=item):
                self._tasks[item] = self._progress.add_task(item.id, total=None)
            case ExampleExamined(item=item, examples=examples, budget=budget) if item in self._tasks:
                self._progress.update(self._tasks[item], completed=examples, total=max(examples, budget))
            case CheckFinished(item=item):
                self._forget(item)
            case RunStarted() | RunFinished():
                for item in list(self._tasks):
                    self._forget(item)
            case _:
                pass

    def report(self, report: Report, *, target: str = "") -> None:
        """Print one report: verdict, table, findings."""
        self._print(text.headline(report), STYLES[report.verdict])
        for line in (*text.about(report), *(self._details(report) if self._verbose else ())):
            self._wrapped(line)
        self._out.print(checks_table(report))
        for seen in text.worst_last(report):
            finding = seen.finding
            block = text.finding_text(report, seen, target=target, width=self._out.width)
            first, _, rest = block.partition("\n")
            self._print("\n" + first, "bold red" if finding.severity is Severity.ERROR else "yellow")
            self._print(rest)
            if self._verbose and finding.reproducer:
                self._print(f"\n{finding.reproducer}")
        self._print("\n" + text.summary(report) + "\n", "dim")

    def totals(self, reports: tuple[Report, ...]) -> None:
        """Print one line for each subject, if there are several; what is not right comes last."""
        if len(reports) < 2:
            return
        order = (Verdict.PASS, Verdict.SKIPPED, Verdict.UNDECIDED, Verdict.FAIL)
        for report in sorted(reports, key=lambda r: order.index(r.verdict)):
            word = report.verdict.name if report.verdict is Verdict.FAIL else report.verdict.name.lower()
            self._print(f"{word.ljust(10)} {report.subject}", STYLES[report.verdict])

    def _forget(self, item: Item) -> None:
        if item in self._tasks:
            self._progress.remove_task(self._tasks.pop(item))

    def _details(self, report: Report) -> tuple[str, ...]:
        return tuple(f"{name}: {value}" for name, value in report.environment)

    def _wrapped(self, line: str) -> None:
        self._print("\n".join(text.wrap(line, self._out.width)))

    def _print(self, content: str, style: str = "") -> None:
        # Commands are longer than a narrow terminal is wide: the terminal wraps them, so that they can be copied.
        self._out.print(Text(content, style=style), soft_wrap=True)


def checks_table(report: Report) -> Table:
    """One row for each check, in columns that fit a width of 80."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("would have seen", overflow="fold")
    table.add_column("examples", justify="right")
    table.add_column("seconds", justify="right")
    for result in report.results:
        table.add_row(
            f"  {text.identity(result)}",
            Text(_word(result), style=STYLES[result.verdict]),
            _remark(result),
            str(result.examples),
            f"{result.seconds:.1f}",
        )
    return table


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
