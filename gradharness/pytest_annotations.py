"""Annotations under pytest: each item's go with its report, so that under xdist the controller prints all, once."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest

from gradharness.report.annotations import Annotation, lines, style_of


class Annotator:
    """Hooks of a run whose findings are annotated.

    Args:
        choice: The style, or ``auto``.
    """

    def __init__(self, choice: str | None) -> None:
        self._style = style_of(choice)
        self._found: list[Annotation] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the item's annotations into its report, as plain data."""
        report = yield
        if call.when == "call":
            vars(report)["gradharness"] = [asdict(one) for one in getattr(item, "annotations", ())]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take them out again, in the process that prints. What is expected to fail is not annotated."""
        if hasattr(report, "wasxfail"):
            return
        self._found += [Annotation(**one) for one in getattr(report, "gradharness", ())]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print them."""
        for line in lines(self._found, self._style):
            terminalreporter.write_line(line)
