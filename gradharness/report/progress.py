"""How far a command is, over all of its targets, and how long the rest will take."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gradharness.engine.events import CheckFinished, CheckStarted, Event, ExampleExamined
from gradharness.engine.plan import Item

# Before that much is done, the mean of what is done says too little about the rest.
LEAST_CHECKS = 5
LEAST_SHARE = 0.2
_SUBJECT_WIDTH = 24


@dataclass(slots=True)
class Forecast:
    """Counts, and the time that is left. It has no clock: whoever asks says what time it is, in seconds.

    Attributes:
        to_come: Names of the checks that have not finished, over all targets.
        total: How many there are, finished or not.
        examples: How many were examined.
        deadline: When the command stops by itself.
    """

    to_come: Counter[str] = field(default_factory=Counter)
    total: int = 0
    examples: int = 0
    deadline: float = math.inf
    _seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _running: Item | None = None
    _since: float = 0.0
    _counted: int = 0

    def expect(self, items: Iterable[Item]) -> None:
        """Add what is going to run."""
        names = [item.check for item in items]
        self.to_come.update(names)
        self.total += len(names)

    def drop(self, items: Iterable[Item]) -> None:
        """Take back what is not going to run after all: it counts as done, and says nothing about the rest."""
        self.to_come -= Counter(item.check for item in items)
        self._running = None

    @property
    def done(self) -> int:
        """Number of checks that have finished."""
        return self.total - self.to_come.total()

    def update(self, event: Event, now: float) -> None:
        """Take note of one event."""
        match event:
            case CheckStarted(item=item):
                self._running, self._since, self._counted = item, now, 0
            case ExampleExamined(examples=examples):
                self.examples += examples - self._counted
                self._counted = examples
            case CheckFinished(item=item):
                self._finish(item, now)
            case _:
                pass

    def _finish(self, item: Item, now: float) -> None:
        if not self.to_come[item.check]:  # nobody said that it would run
            self.total += 1
        else:
            self.to_come[item.check] -= 1
        self._seconds[item.check].append(max(0.0, now - self._since))
        self._running = None

    def left(self, now: float) -> float | None:
        """Seconds until all is done; None while too little is known.

        A check is taken to need the mean of what checks of its name have needed in this command; of one that has not
        run yet, the mean of all.
        """
        everything = [s for seconds in self._seconds.values() for s in seconds]
        if len(everything) < max(LEAST_CHECKS, LEAST_SHARE * self.total):
            return None
        mean = sum(everything) / len(everything)
        means = {name: sum(seconds) / len(seconds) for name, seconds in self._seconds.items()}
        rest = sum(count * means.get(name, mean) for name, count in self.to_come.items())
        if self._running is not None and self.to_come[self._running.check]:
            rest -= min(now - self._since, means.get(self._running.check, mean))
        return max(0.0, min(rest, self.deadline - now))


def duration(seconds: float | None) -> str:
    """``about 40 s left``, no more exact than an estimate is; nothing where there is none."""
    if seconds is None:
        return ""
    if seconds < 5:
        return "a few seconds left"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {round(seconds / 3600)} h left"


def animated(out: Console, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody sees a line change: a terminal that can, and no CI service, which keeps every change."""
    terminal = bool(getattr(out.file, "isatty", lambda: False)())
    in_ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return terminal and not out.is_dumb_terminal and not in_ci


class ProgressLine:
    """One line at the foot of the terminal, while something runs.

    Args:
        out: The terminal.
        forecast: What it shows.
    """

    def __init__(self, out: Console, forecast: Forecast) -> None:
        self._forecast = forecast
        self._task: TaskID | None = None
        self._subject = ""
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.completed}/{task.total} checks, {task.fields[examples]} examples"),
            TextColumn("{task.fields[left]}"),
            console=out,
            transient=True,
            expand=False,
        )

    def start(self, subject: str) -> None:
        """Show it, for checks of this test."""
        self._subject = subject
        self._task = self._progress.add_task("", total=self._forecast.total, examples=0, left="")
        self._progress.start()

    def stop(self) -> None:
        """Take it away."""
        self._progress.stop()

    def show(self, event: Event, now: float) -> None:
        """Show the forecast, after an event that it knows already."""
        if self._task is None:
            return
        what = event.item.check if isinstance(event, CheckStarted | ExampleExamined) else ""
        self._progress.update(
            self._task,
            description=" ".join(filter(None, (_cut(self._subject), what))),
            completed=self._forecast.done,
            total=self._forecast.total,
            examples=self._forecast.examples,
            left=duration(self._forecast.left(now)),
        )


def _cut(name: str) -> str:
    return name if len(name) <= _SUBJECT_WIDTH else name[: _SUBJECT_WIDTH - 1] + "…"
