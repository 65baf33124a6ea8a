"""One ``gradharness check``: run every target, keep what is known when it is stopped, decide the exit status."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from enum import IntEnum

from gradharness.cli.targets import Target
from gradharness.engine.events import CheckFinished, Event, RunStarted
from gradharness.engine.keeping import Keeper, Keeping
from gradharness.engine.known import NOTHING
from gradharness.engine.plan import Item, plan
from gradharness.errors import GradharnessError, UsageError, first_line
from gradharness.model.verdict import CheckResult, Report, Verdict
from gradharness.report.replays import news
from gradharness.report.terminal import TerminalReporter

# Targets for which no time is left still run, so that each of their checks is reported as undecided.
LEAST_TIME = 1e-3


class ExitStatus(IntEnum):
    """What the shell sees. The worst of all targets wins: wrong, then could not run, then undecided."""

    RIGHT = 0
    WRONG = 1
    ERROR = 2
    UNDECIDED = 3
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line.

    Attributes:
        checks: Names of the checks to run; empty for all.
        devices: Devices in place of each test's own; empty to keep those.
        dtypes: Dtypes in place of each test's own; empty to keep those.
        profile: Name of the budget; None for each test's own.
        seed: Seed of the draws; None for a fresh one.
        strict: Whether warnings fail.
        time_limit: Seconds for everything together; None for no limit.
    """

    checks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    profile: str | None = None
    seed: int | None = None
    strict: bool = False
    time_limit: float | None = None

    def validate(self) -> None:
        """Raises ``UsageError`` for a name that does not exist."""
        plan(self.checks or None, self.devices or ("cpu",), self.dtypes or None)

    def items(self, own: tuple[Item, ...]) -> tuple[Item, ...]:
        """A test's own items, narrowed to the checks, moved to the devices and dtypes that were asked for."""
        chosen = [item for item in own if not self.checks or item.check in self.checks]
        moved = [
            Item(item.check, device, dtype)
            for item in chosen
            for device in self.devices or (item.device,)
            for dtype in self.dtypes or (item.dtype,)
        ]
        return tuple(dict.fromkeys(moved))


@dataclass(slots=True)
class Session:
    """Runs targets one after another.

    Attributes:
        options: What was asked for.
        reporter: Shows events and reports.
        reports: What is known so far.
        reported: The target of each report.
        errors: What could not run, in one line each.
        interrupted: Whether it was stopped by Ctrl-C.
        keeping: Where failures are kept, and what was kept before; None to do without.
    """

    options: Options
    reporter: TerminalReporter
    reports: list[Report] = field(default_factory=list)
    reported: list[Target] = field(default_factory=list)
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    interrupted: bool = False
    keeping: Keeping | None = None
    _deadline: float = float("inf")

    def run(self, targets: tuple[Target, ...]) -> None:
        """Run all targets; stop early only at Ctrl-C."""
        if self.options.time_limit is not None:
            self._deadline = time.monotonic() + self.options.time_limit
        for target in targets:
            self._announce(target)
        for target in targets:
            keeper = None if self.keeping is None else self.keeping.of(target.address)
            report = self._run(target, keeper)
            if report is not None and keeper is not None:
                report = keeper.told(report)
            if report is not None:
                self.reports.append(report)
                self.reported.append(target)
                self.reporter.report(report, target=target.address)
                self.reporter.tell(news(() if keeper is None else keeper.replayed))
            if self.interrupted:
                return

    @property
    def status(self) -> ExitStatus:
        """Exit status for everything seen."""
        verdicts = {report.verdict for report in self.reports}
        if self.interrupted:
            return ExitStatus.INTERRUPTED
        if Verdict.FAIL in verdicts:
            return ExitStatus.WRONG
        if self.errors:
            return ExitStatus.ERROR
        return ExitStatus.UNDECIDED if Verdict.UNDECIDED in verdicts else ExitStatus.RIGHT

    def _announce(self, target: Target) -> None:
        """What progress is measured by. A target that cannot be planned says so when it is its turn."""
        with contextlib.suppress(GradharnessError):
            items = self.options.items(target.test.items())
            self.reporter.expect(items, seconds=self.options.time_limit)

    def _run(self, target: Target, keeper: Keeper | None) -> Report | None:
        """The report of one target, cut short if it was stopped; None if it could not run."""
        seen = _Seen(self.reporter, keeper)
        items: tuple[Item, ...] = ()
        try:
            items = self.options.items(target.test.items())
            if not items:
                raise UsageError("none of its checks is left by --checks")
            return self._whole(target, items, seen)
        except KeyboardInterrupt:
            self.interrupted = True
            report = seen.partial(target, items)
            return replace(report, profile=self.options.profile or report.profile) if items else None
        except GradharnessError as error:
            self.errors.append((f"{target.address}: {first_line(error, 1000)}", error))
        except Exception as error:
            line = f"{target.address}: internal error, {type(error).__name__}: {first_line(error)}; -v shows where"
            self.errors.append((line, error))
        self.reporter.drop(item for item in items if item not in seen.results)
        return None

    def _whole(self, target: Target, items: tuple[Item, ...], seen: _Seen) -> Report:
        left = None
        if self.options.time_limit is not None:
            left = max(self._deadline - time.monotonic(), LEAST_TIME)
        self.reporter.subject = target.test.name
        with self.reporter:
            return target.test.run(
                items,
                emit=seen,
                seed=self.options.seed,
                profile=self.options.profile,
                strict=self.options.strict,
                time_limit=left,
                known=NOTHING if seen.keeper is None else seen.keeper.known,
            )


@dataclass(slots=True)
class _Seen:
    """Passes events on, to be kept and shown, and remembers what has finished."""

    reporter: TerminalReporter
    keeper: Keeper | None = None
    started: RunStarted | None = None
    results: dict[Item, CheckResult] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.started = event
        if isinstance(event, CheckFinished):
            self.results[event.item] = event.result
        if self.keeper is not None:
            self.keeper(event)
        self.reporter(event)

    def partial(self, target: Target, items: tuple[Item, ...]) -> Report:
        """What is known, with the checks that were interrupted undecided."""
        missing = [
            CheckResult(check=i.check, device=i.device, dtype=i.dtype, verdict=Verdict.UNDECIDED, reason="interrupted")
            for i in items
            if i not in self.results
        ]
        report = Report(
            subject=target.test.name,
            results=(*self.results.values(), *missing),
            notes=(f"interrupted: {len(missing)} of {len(items)} checks did not finish",),
            seconds=sum(result.seconds for result in self.results.values()),
        )
        if self.started is None:
            return report
        return replace(report, domain=self.started.domain, seed=self.started.seed)
