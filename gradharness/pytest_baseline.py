"""The baseline under pytest: each item is held against its entry, and at the end what is gone is told.

Workers of xdist compare what they run; what they have measured and collected goes to the controller, which tells it
once, and writes it where the baseline is to be recorded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradharness import __version__
from gradharness.baseline import telling
from gradharness.baseline.comparing import Comparison, Kind, vanished
from gradharness.baseline.figures import Limits, limits
from gradharness.baseline.measuring import measured, merged, run_settings
from gradharness.baseline.model import FAIL, UNDECIDED, Baseline, Entry, Key, Measured
from gradharness.baseline.scope import Scope, subject_of
from gradharness.baseline.storage import FILE, load, update
from gradharness.errors import GradientError, UsageError

if TYPE_CHECKING:
    from gradharness.config import Config
    from gradharness.model.verdict import Report

NAME = "gradharness-baseline"
_DATA = "gradharness_baseline"


class Regressed(GradientError):
    """A check passes, and is worse than its baseline. The first line is the whole of it."""


def path_of(config: pytest.Config, configured: str | None) -> Path:
    """The file: as the option says, as the configuration says, or of the usual name in the root folder.

    Raises:
        UsageError: The option has swallowed a test.
    """
    given = config.getoption("gradharness_baseline")
    if not given:
        return Path(configured).absolute() if configured else config.rootpath / FILE
    path = Path(config.invocation_params.dir, given)
    if path.suffix == ".py" or "::" in given or path.is_dir():
        raise UsageError(
            f"--gradharness-baseline {given}: that is a test, not a baseline; write --gradharness-baseline=FILE, or "
            "put the option behind the tests"
        )
    return path


def with_baseline(config: pytest.Config, table: Config, *, record: bool) -> None:
    """Gives a run its baseline.

    Raises:
        UsageError: The file is missing or not in order, or the options are.
    """
    path = path_of(config, table.here(table.baseline) if table.baseline else None)
    allowed = limits(config.getoption("gradharness_fail_on") or table.fail_on or ())
    strict = bool(config.getoption("gradharness_strict") or table.strict)
    config.pluginmanager.register(BaselinePlugin(config, path, allowed, record=record, strict=strict), NAME)


class BaselinePlugin:
    """Hooks of a run with a baseline.

    Args:
        config: Pytest's.
        path: The file.
        limits: What growth fails.
        record: Whether to write the file in place of comparing with it.
        strict: Whether warnings fail in this run.

    Raises:
        BaselineError: The file is missing where it is to be compared with, or not in order.
    """

    def __init__(self, config: pytest.Config, path: Path, limits: Limits, *, record: bool, strict: bool) -> None:
        self._config = config
        self._path = path
        self._limits = limits
        self._record = record
        self._strict = strict
        self._baseline = load(path) if path.exists() or not record else Baseline()
        self._measured: list[Measured] = []
        self._files: set[str] = set()
        self._planned: dict[str, set[str]] = {}
        self._refused: set[str] = set()
        self._comparison = Comparison()
        self._lines: list[tuple[str, str]] = []

    # --- one item, where it runs -------------------------------------------------------------------------------------

    def settings(self, item: Any, profile: str | None, seed: int | None) -> tuple[str, int]:
        """Profile and seed of an item: as asked for, else as recorded."""
        said = {**item.test.defaults, **{k: v for k, v in item.test.options.items() if v is not None}}
        entry = None if self._record else self._baseline.entries.get(self._key(item))
        return run_settings(said, entry, profile=profile, seed=seed)

    def examine(self, item: Any, report: Report) -> None:
        """Raises where the baseline has something to say of the item that its verdict does not."""
        now = measured(self._key(item), report, version=__version__, strict=self._strict)
        item.baseline = _plain(now)
        known = self._baseline.known.get(now.key)
        remarks = Comparison().add(now, self._baseline, self._limits)
        told = "\n".join(str(remark) for remark in remarks)
        if any(r.kind is Kind.EXPECTED for r in remarks):
            pytest.xfail(told)
        if self._record:
            return
        was = self._baseline.entries.get(now.key)
        if now.entry.verdict == UNDECIDED and was is not None and was.verdict == UNDECIDED:
            pytest.skip(f"undecided, as the baseline has it: {now.message}")
        regressed = [r for r in remarks if r.kind is Kind.REGRESSION]
        if regressed and (now.entry.verdict not in (FAIL, UNDECIDED) or known is not None):
            raise Regressed(told)
        if told:
            item.add_report_section("call", NAME, told)

    def _key(self, item: Any) -> Key:
        return Key.of(self._subject(item.path, item.originalname), item.planned.id)

    def _subject(self, path: Path, name: str) -> str:
        return subject_of(f"{path}::{name}", self._path.parent)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put what was measured into the item's report, as plain data."""
        report = yield
        found = getattr(item, "baseline", None)
        excused = report.outcome == "skipped" and item.get_closest_marker("xfail") is not None
        if call.when == "call" and found is not None and not excused:  # pytest is told already that it fails
            vars(report)[_DATA] = found
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Module | pytest.Class, name: str
    ) -> Generator[None, Any, Any]:
        """Note what a file has, whatever is then deselected."""
        made = yield
        self._files.add(str(collector.path))
        for item in made if isinstance(made, list) else ():
            if hasattr(item, "planned"):
                self._planned.setdefault(self._subject(item.path, item.originalname), set()).add(item.planned.id)
            elif getattr(item, "reason", None):  # it could not be collected, which is told as such
                self._refused.add(self._subject(collector.path, name))
        return made

    # --- all of them, where it is told -------------------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what was measured out of a report, in the process that tells it."""
        found = getattr(report, _DATA, None)
        if found is not None:
            self._measured.append(_unplain(found))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has collected; one that has crashed says nothing."""
        found = getattr(node, "workeroutput", {}).get(_DATA)
        if found is not None:
            self._files.update(found["files"])
            self._refused.update(found["refused"])
            for subject, ids in found["planned"].items():
                self._planned.setdefault(subject, set()).update(ids)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Compare all, or record all; a worker only hands over what it has collected."""
        if hasattr(self._config, "workeroutput"):
            planned = {subject: sorted(ids) for subject, ids in self._planned.items()}
            data = {"files": sorted(self._files), "refused": sorted(self._refused), "planned": planned}
            self._config.workeroutput[_DATA] = data
            return
        if self._config.getoption("collectonly", default=False):
            return
        if self._record:
            self._write()
            return
        for one in self._measured:
            self._comparison.add(one, self._baseline, self._limits)
        gone = self._gone(self._baseline)
        self._comparison.remarks += vanished(self._baseline, gone, self._planned)
        self._lines = [*telling.lines(self._comparison), (telling.totals(self._comparison), "bold")]
        fine = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self._comparison.of(Kind.VANISHED) and session.exitstatus in fine:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print it."""
        if not self._lines:
            return
        terminalreporter.write_sep("=", f"gradharness baseline {self._path.name}")
        for line, style in self._lines:
            terminalreporter.write_line(line, **dict.fromkeys(style.replace("dim", "").split(), True))

    def _gone(self, baseline: Baseline) -> list[Key]:
        """Entries that the files of this run would have: those of files that were imported, or are gone themselves."""
        planned = [Key.of(subject, id) for subject, ids in self._planned.items() for id in ids]
        asked = [Path(self._config.invocation_params.dir, arg.partition("::")[0]) for arg in self._config.args]
        missing = {str(path) for key in baseline.entries if _is_missing(path := self._path.parent / key.path, asked)}
        scope = Scope(texts=(*sorted(self._files | missing),), folder=self._path.parent)
        return [k for k in scope.entries(baseline, planned) if k.path and k.subject not in self._refused]

    def _write(self) -> None:
        known = self._baseline.known
        refused = {
            m.key.subject for m in self._measured if m.entry.verdict == FAIL and not _is_known(m, known.get(m.key))
        }
        kept = [m for m in self._measured if m.key.subject not in refused]

        def change(now: Baseline) -> Baseline:
            gone = {k for k in self._gone(now) if k.id not in self._planned.get(k.subject, ())}
            return merged(now, kept, gone, {})

        told: Iterable[str] = (f"not recorded: {subject} fails" for subject in sorted(refused))
        self._lines = [(line, "bold red") for line in told]
        if kept or self._gone(self._baseline):
            try:
                update(self._path, change)
            except UsageError as error:
                self._lines.append((str(error), "bold red"))
                return
        self._lines.append((f"{telling.counted(len(kept), 'check')} recorded in {self._path}", "bold"))


def _is_missing(path: Path, asked: Iterable[Path]) -> bool:
    """Whether a file is no longer there, where the run was asked to look."""
    return not path.exists() and any(path.absolute().is_relative_to(place.absolute()) for place in asked)


def _is_known(one: Measured, known: Any) -> bool:
    return known is not None and one.fault == known.fault and known.label in ("", one.label)


def _plain(one: Measured) -> dict[str, Any]:
    """As data that a report can carry from one process to another."""
    data = asdict(one)
    data["entry"]["environment"] = [list(pair) for pair in one.entry.environment]
    return data


def _unplain(data: dict[str, Any]) -> Measured:
    entry = dict(data["entry"])
    entry["environment"] = tuple((name, value) for name, value in entry["environment"])
    return Measured(**{**data, "key": Key(**data["key"]), "entry": Entry(**entry)})
