"""Gradient tests in pytest: one item for each check, device and dtype, such as ``test_linear[vjp-cpu-float64]``.

pytest imports this module in every run, so torch and the rest of gradharness are imported only for a gradient test.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

from gradharness.errors import GradharnessError, GradientError, UsageError

if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr

    from gradharness.api import GradientTest
    from gradharness.engine.plan import Item as PlannedItem
    from gradharness.model.verdict import CheckResult, Report

REMEDY = {
    "class": "gradient tests in classes are not supported: move it to module level",
    "parametrize": "parametrize is not supported on gradient tests: write one gradient test for each case",
    "fixtures": "fixtures are not supported on gradient tests: make what it needs at module level",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options ``--gradharness-…``."""
    group = parser.getgroup("gradharness", "gradient tests")
    group.addoption("--gradharness-profile", choices=("dev", "ci", "deep"), help="how long to search")
    group.addoption("--gradharness-seed", type=int, metavar="N", help="draw the same examples again")
    group.addoption("--gradharness-strict", action="store_true", help="a warning fails too")
    group.addoption(
        "--gradharness-undecided",
        choices=("fail", "skip"),
        default="fail",
        help="what becomes of a check that could not decide; it never passes (default: fail)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item | pytest.Collector] | None:
    """Items for what ``@gradient_test`` has made; None for anything else."""
    if getattr(type(obj), "__gradharness__", False) is not True:
        return None
    test: GradientTest = obj  # type: ignore[assignment]
    test.named(name)
    marks = tuple(_marks(test))
    try:
        _refuse_unsupported(collector, marks)
        planned = test.items()
    except GradharnessError as error:
        return [_Refused.from_parent(collector, name=name, reason=f"{name}: {error}")]
    return [_item(collector, f"{name}[{one.id}]", test=test, planned=one, marks=marks) for one in planned]


class GradientItem(pytest.Item):
    """One check of one gradient test, on one device in one dtype."""

    def __init__(
        self, *, test: GradientTest, planned: PlannedItem, marks: Iterable[pytest.Mark], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.test = test
        self.planned = planned
        self.originalname = self.name.partition("[")[0]
        self.own_markers.extend(marks)
        self.keywords.update({mark.name: mark for mark in self.own_markers})

    def runtest(self) -> None:
        """Run the check; fail, skip, or note what it passes with."""
        config = self.config
        report = self.test.run(
            (self.planned,),
            seed=config.getoption("gradharness_seed"),
            profile=config.getoption("gradharness_profile"),
            strict=bool(config.getoption("gradharness_strict")),
        )
        for result in report.results:
            self._conclude(report, result)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any
    ) -> str | TerminalRepr:
        """The report alone: a traceback of the harness says nothing about the gradient."""
        error = excinfo.value
        if not isinstance(error, GradientError | GradharnessError):
            return super().repr_failure(excinfo, *args, **kwargs)
        path, line = self._place()
        message = error.headline if isinstance(error, _NotRight) else str(error).partition("\n")[0]
        entry = ReprEntryNative([f"{error}\n"])
        return ReprExceptionInfo(
            reprtraceback=ReprTraceback([entry], None, style="native"),
            reprcrash=ReprFileLocation(str(path), line + 1, message),
        )

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where the user's function stands."""
        path, line = self._place()
        return path, line, self.name

    def _conclude(self, report: Report, result: CheckResult) -> None:
        from gradharness.model.verdict import Verdict
        from gradharness.report import text

        full = text.render(report, target=f"{self._relative()}::{self.originalname}")
        if result.verdict is Verdict.SKIPPED:
            pytest.skip(result.reason or result.verdict.value)
        if result.verdict is Verdict.UNDECIDED:
            sentence = f"undecided: {result.reason or result.verdict.value}"
            if self.config.getoption("gradharness_undecided") == "skip":
                pytest.skip(sentence)
            raise _NotRight(full, sentence)
        if result.verdict is Verdict.FAIL:
            first = result.findings[0].message if result.findings else result.reason
            raise _NotRight(full, first)
        if result.resolution is not None:
            self.user_properties.append(("gradharness_resolution", result.resolution))
        self.add_report_section("call", "gradharness", full if result.findings else text.outcome(result))

    def _relative(self) -> str:
        """The module's path as somebody in the current folder would write it."""
        here = Path.cwd()
        return str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path)

    def _place(self) -> tuple[Path, int]:
        code = getattr(self.test.function, "__code__", None)
        if code is None:  # made by a call, not by a decorator
            return self.path, 0
        return Path(code.co_filename), code.co_firstlineno - 1


def _item(collector: pytest.Module | pytest.Class, name: str, **kwargs: Any) -> GradientItem:
    # Given the whole id, pytest tells name and parameter apart, which --lf needs.
    return GradientItem.from_parent(collector, name=name, nodeid=f"{collector.nodeid}::{name}", **kwargs)


class _NotRight(GradientError):
    """A failure, with the one line of it that fits a summary."""

    def __init__(self, report: str, headline: str) -> None:
        super().__init__(report)
        self.headline = headline


class _Refused(pytest.Collector):
    """In place of a gradient test that cannot be collected."""

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def collect(self) -> Iterable[pytest.Item]:
        """Say why there is no item."""
        raise self.CollectError(self.reason)


def _marks(test: GradientTest) -> Iterator[pytest.Mark]:
    """Marks put on the gradient test, and on the function below the decorator."""
    seen: list[pytest.Mark] = []
    for owner in (test, test.function):
        marks = getattr(owner, "pytestmark", [])
        for mark in marks if isinstance(marks, list) else [marks]:
            plain = mark if isinstance(mark, pytest.Mark) else mark.mark
            if plain not in seen:
                seen.append(plain)
                yield plain


def _refuse_unsupported(collector: pytest.Module | pytest.Class, marks: Iterable[pytest.Mark]) -> None:
    names = {mark.name for mark in marks}
    if isinstance(collector, pytest.Class):
        raise UsageError(REMEDY["class"])
    if "parametrize" in names:
        raise UsageError(REMEDY["parametrize"])
    if "usefixtures" in names:
        raise UsageError(REMEDY["fixtures"])
