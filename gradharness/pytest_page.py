"""The HTML page under pytest: each item's report goes with pytest's, so that under xdist the controller writes one."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gradharness import __version__
from gradharness.errors import GradharnessError, GradientError, UsageError, first_line
from gradharness.report.html.extra import insist_on_extra

if TYPE_CHECKING:
    from gradharness.report.html.view import Shown

NAME = "gradharness-page"
_LONGEST = 1000  # characters of a line


class PageWriter:
    """Hooks of a run that ends with a page.

    Args:
        path: Where it is written.
        told: What asks for it, as the user wrote it.

    Raises:
        UsageError: If it could not be written there, or the extra is missing.
    """

    def __init__(self, path: Path, told: str) -> None:
        insist_on_extra(told)
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{told}: the folder does not exist; make it first")
        self._path = path
        self._records: list[tuple[str, str, str]] = []
        self._errors: list[str] = []
        self._outcome = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the item's report into pytest's, as text."""
        report = yield
        if call.when == "call" and hasattr(item, "gradient_report"):
            vars(report)["gradharness_page"] = _told(item, call)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take it out again, in the process that writes."""
        found = getattr(report, "gradharness_page", {})
        if "record" in found:
            self._records.append((found["record"], found["target"], getattr(report, "wasxfail", "")))
        if "error" in found:
            self._errors.append(found["error"])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what cannot even be collected."""
        if report.failed:
            reason = str(report.longrepr).strip().rpartition("\n")[2]
            self._errors.append(f"{report.nodeid}: {reason}"[:_LONGEST])

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        """Write the page, also of a run that was stopped; in the controller only."""
        if hasattr(session.config, "workerinput") or session.config.getoption("collectonly"):
            return
        from gradharness.report.html.page import write
        from gradharness.report.html.view import About

        try:
            about = About(
                version=__version__,
                when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                errors=tuple(dict.fromkeys(self._errors)),
                interrupted=exitstatus == pytest.ExitCode.INTERRUPTED,
            )
            write(self._path, self._shown(), about)
            self._outcome = f"gradharness: wrote {self._path}"
        except UsageError as error:
            self._outcome = f"gradharness: {error}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the page is."""
        if self._outcome:
            terminalreporter.write_line(self._outcome)

    def _shown(self) -> list[Shown]:
        from gradharness.report import record
        from gradharness.report.html.view import Shown

        found = []
        for text, target, excuse in self._records:
            notes = (f"pytest expects it to fail: {excuse}",) if excuse else ()
            for report in record.from_record(msgspec.json.decode(text)):
                found.append(Shown(report=replace(report, notes=report.notes + notes), target=target))
        return found


def _told(item: Any, call: pytest.CallInfo[Any]) -> dict[str, str]:
    """Plain data: the report as JSON, or why there is none."""
    if item.gradient_report is not None:
        from gradharness.report import record

        text = msgspec.json.encode(record.to_record([item.gradient_report])).decode()
        return {"record": text, "target": item.target}
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, GradharnessError):
        return {"error": f"{item.target}: {first_line(error, _LONGEST)}"}
    if error is not None and not isinstance(error, GradientError | pytest.skip.Exception):
        return {"error": f"{item.target}: {type(error).__name__}: {first_line(error)}"}
    return {}
