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
    from gradharness.config import Config
    from gradharness.engine.plan import Item as PlannedItem
    from gradharness.model.verdict import CheckResult, Report
    from gradharness.report.annotations import Annotation, Place

REMEDY = {
    "class": "gradient tests in classes are not supported: move it to module level",
    "parametrize": "parametrize is not supported on gradient tests: write one gradient test for each case",
    "fixtures": "fixtures are not supported on gradient tests: make what it needs at module level",
}

KEPT = "gradharness_kept"  # a property of the items that have something to say of what was kept
CONFIG: pytest.StashKey[Config] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options ``--gradharness-…``."""
    group = parser.getgroup("gradharness", "gradient tests")
    group.addoption(
        "--gradharness-profile", metavar="NAME", help="how long to search: dev, ci (seed 0), deep, or the project's own"
    )
    group.addoption("--gradharness-seed", type=int, metavar="N", help="draw the same examples again")
    group.addoption("--gradharness-strict", action="store_true", help="a warning fails too")
    group.addoption(
        "--gradharness-undecided",
        choices=("fail", "skip"),
        help="what becomes of a check that could not decide; it never passes (default: fail)",
    )
    group.addoption(
        "--gradharness-store",
        metavar="FOLDER",
        help="keep failures here, and look at those again first (default: .gradharness in the root folder)",
    )
    group.addoption("--gradharness-no-store", action="store_true", help="keep nothing, and look at nothing again")
    group.addoption(
        "--gradharness-baseline",
        nargs="?",
        const="",
        metavar="FILE",
        help="fail what is worse than recorded (default: gradharness-baseline.toml in the root folder)",
    )
    group.addoption("--gradharness-baseline-record", action="store_true", help="record the baseline")
    group.addoption(
        "--gradharness-fail-on",
        action="append",
        metavar="FIGURE:FACTOR",
        help="growth beyond the baseline that fails, such as error:2x,cost:off",
    )
    group.addoption("--gradharness-html", metavar="FILE", help="write a page with pictures of all gradient tests")
    group.addoption(
        "--gradharness-annotate",
        choices=("auto", "github", "plain", "none"),
        help="tie findings to lines, for CI or an editor (default: auto, which is github where GITHUB_ACTIONS=true)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Complain of ``[tool.gradharness]`` before anything is collected; where there is none, load nothing."""
    from gradharness.engine.settings import insist_on_profile

    try:
        if any(_mentions_us(folder / "pyproject.toml") for folder in (config.rootpath, *config.rootpath.parents)):
            configured(config)
        insist_on_profile(config.getoption("gradharness_profile"))
        record = config.getoption("gradharness_baseline_record")
        if record or config.getoption("gradharness_baseline") is not None:
            from gradharness.pytest_baseline import with_baseline

            with_baseline(config, configured(config), record=record)
        _with_page(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    told = config.stash[CONFIG].annotate if CONFIG in config.stash else None
    choice = config.getoption("gradharness_annotate") or told
    if choice in ("github", "plain") or os.environ.get("GITHUB_ACTIONS") == "true":
        from gradharness.pytest_annotations import Annotator

        config.pluginmanager.register(Annotator(choice), "gradharness-annotations")


def _with_page(config: pytest.Config) -> None:
    """See to it that a page is written at the end, if one is wanted."""
    asked = config.getoption("gradharness_html")
    table: Any = config.stash.get(CONFIG, None)
    if asked or (table is not None and table.html):
        from gradharness.pytest_page import NAME, PageWriter

        path = asked or table.here(table.html)
        told = f"--gradharness-html {asked}" if asked else f"html = {table.html!r}"
        config.pluginmanager.register(PageWriter(Path(path), told), NAME)


def configured(config: pytest.Config) -> Config:
    """``[tool.gradharness]`` of the ``pyproject.toml`` of the root folder, or above; an option counts more.

    Raises:
        ConfigError: As ``load_config``.
        UnknownNameError: As ``load_config``.
    """
    if CONFIG not in config.stash:
        from gradharness.config import load_config
        from gradharness.engine.settings import use_profiles

        table = load_config(config.rootpath)
        use_profiles(table.own_profiles)
        config.stash[CONFIG] = table
    return config.stash[CONFIG]


def _mentions_us(path: Path) -> bool:
    try:
        return b"gradharness" in path.read_bytes()
    except OSError:
        return False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what came of failures that were kept, if any gradient test has run."""
    reports = (one for some in terminalreporter.stats.values() for one in some)
    if any(name == KEPT for one in reports for name, _ in getattr(one, "user_properties", ())):
        from gradharness.pytest_keeping import summarize

        summarize(terminalreporter)


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
        table = configured(collector.config)
        table.insist_on_names()
        test.defaults = table.defaults
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
        self.annotations: tuple[Annotation, ...] = ()
        self.gradient_report: Report | None = None
        self.own_markers.extend(marks)
        self.keywords.update({mark.name: mark for mark in self.own_markers})

    def runtest(self) -> None:
        """Run the check; fail, skip, or note what it passes with."""
        from gradharness.engine.events import silent
        from gradharness.engine.known import NOTHING
        from gradharness.pytest_keeping import keeper_of, told

        config = self.config
        keeper = keeper_of(config, configured(config), self.path, self.originalname)
        baseline = config.pluginmanager.get_plugin("gradharness-baseline")
        profile, seed = config.getoption("gradharness_profile"), config.getoption("gradharness_seed")
        if baseline is not None:
            profile, seed = baseline.settings(self, profile, seed)
        report = self.test.run(
            (self.planned,),
            emit=keeper or silent,
            seed=seed,
            profile=profile,
            strict=bool(config.getoption("gradharness_strict")),
            known=NOTHING if keeper is None else keeper.known,
        )
        report, said = told(keeper, report)
        self.gradient_report = report
        self.user_properties += said
        if baseline is not None:
            baseline.examine(self, report)
        for result in report.results:
            self._conclude(report, result)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any
    ) -> str | TerminalRepr:
        """The report alone: a traceback of the harness says nothing about the gradient."""
        error = excinfo.value
        if not isinstance(error, GradientError | GradharnessError):
            return super().repr_failure(excinfo, *args, **kwargs)
        place = self._place()
        message = error.headline if isinstance(error, _NotRight) else str(error).partition("\n")[0]
        entry = ReprEntryNative([f"{error}\n"])
        return ReprExceptionInfo(
            reprtraceback=ReprTraceback([entry], None, style="native"),
            reprcrash=ReprFileLocation(str(place.path), place.line, message),
        )

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where the user's function stands."""
        place = self._place()
        return place.path, place.line - 1, self.name

    def _conclude(self, report: Report, result: CheckResult) -> None:
        from gradharness.model.verdict import Verdict
        from gradharness.report import text
        from gradharness.report.annotations import annotate

        excused = (self.config.getoption("gradharness_undecided") or configured(self.config).undecided) == "skip"
        if not (excused and result.verdict is Verdict.UNDECIDED):
            self.annotations = annotate(report, self._place(), target=f"{self._relative()}::{self.originalname}")
        verbose = self.config.get_verbosity() > 0
        full = text.render(report, target=f"{self._relative()}::{self.originalname}", full=verbose)
        self.user_properties += text.properties(report, result)
        if result.verdict is Verdict.SKIPPED:
            pytest.skip(result.reason or result.verdict.value)
        if result.verdict is Verdict.UNDECIDED:
            sentence = f"undecided: {result.reason or result.verdict.value}"
            if excused:
                pytest.skip(sentence)
            raise _NotRight(full, sentence)
        if result.verdict is Verdict.FAIL:
            first = result.findings[0].message if result.findings else result.reason
            raise _NotRight(full, first)
        self.add_report_section("call", "gradharness", full if result.findings else text.outcome(result))

    @property
    def target(self) -> str:
        """What ``gradharness check`` takes to run the test."""
        return f"{self._relative()}::{self.originalname}"

    def _relative(self) -> str:
        """The module's path as somebody in the current folder would write it."""
        here = Path.cwd()
        return str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path)

    def _place(self) -> Place:
        from gradharness.report.annotations import place_of

        return place_of(self.test.function, self.path, self.originalname)


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
