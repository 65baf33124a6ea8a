"""The forecast over all targets of a command, with a clock of our own, and who gets to see it."""

import io
import re

import pytest
from rich.console import Console

from gradharness.engine.events import CheckFinished, CheckStarted, ExampleExamined
from gradharness.engine.plan import Item
from gradharness.report.progress import LEAST_CHECKS, Forecast, animated, duration
from gradharness.report.terminal import TerminalReporter, console
from tests.fakes import result


class Stream(io.StringIO):
    def __init__(self, *, terminal=True):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def item(check):
    return Item(check, "cpu", "float64")


def ran(forecast, check, start, seconds):
    """One check that began and ended at these times."""
    forecast.update(CheckStarted(item(check)), start)
    forecast.update(CheckFinished(item(check), result(item(check), "pass")), start + seconds)
    return start + seconds


def test_the_rest_is_estimated_by_checks_of_the_same_name():
    forecast = Forecast()
    for _ in range(2):
        forecast.expect([item("vjp"), *(item(f"quick{n}") for n in range(6))])
    now = ran(forecast, "vjp", 0.0, 60.0)
    for n in range(6):
        now = ran(forecast, f"quick{n}", now, 1.0)
    assert (forecast.done, forecast.total) == (7, 14)
    assert forecast.left(now) == pytest.approx(66.0)
    now = ran(forecast, "vjp", now, 60.0)
    assert forecast.left(now) == pytest.approx(6.0)


def test_a_name_that_has_not_run_is_given_the_mean():
    forecast = Forecast()
    forecast.expect([item(name) for name in "abcde"] + [item("other")] * 2)
    now = 0.0
    for name in "abcde":
        now = ran(forecast, name, now, 2.0)
    assert forecast.left(now) == pytest.approx(4.0)


def test_what_runs_counts_for_what_is_left_of_it():
    forecast = Forecast()
    forecast.expect([item("a")] * (LEAST_CHECKS + 2))
    now = 0.0
    for _ in range(LEAST_CHECKS):
        now = ran(forecast, "a", now, 10.0)
    forecast.update(CheckStarted(item("a")), now)
    assert forecast.left(now) == pytest.approx(20.0)
    assert forecast.left(now + 4) == pytest.approx(16.0)
    assert forecast.left(now + 400) == pytest.approx(10.0)


def test_while_too_little_is_known_there_is_no_estimate():
    forecast = Forecast()
    forecast.expect([item("a")] * 100)
    now = 0.0
    for _ in range(19):
        assert forecast.left(now) is None
        now = ran(forecast, "a", now, 1.0)
    assert forecast.left(now) is None
    assert forecast.left(ran(forecast, "a", now, 1.0)) == pytest.approx(80.0)


def test_a_command_ends_at_its_limit():
    forecast = Forecast(deadline=30.0)
    forecast.expect([item("a")] * 10)
    now = 0.0
    for _ in range(5):
        now = ran(forecast, "a", now, 5.0)
    assert forecast.left(now) == pytest.approx(5.0)


def test_what_could_not_run_is_done_and_says_nothing_about_the_rest():
    forecast = Forecast()
    forecast.expect([item("a")] * 3)
    forecast.drop([item("a")] * 3)
    assert (forecast.done, forecast.total, forecast.left(0.0)) == (3, 3, None)


def test_what_nobody_announced_counts_too():
    forecast = Forecast()
    ran(forecast, "a", 0.0, 1.0)
    assert (forecast.done, forecast.total) == (1, 1)


def test_examples_are_counted_over_all_checks():
    forecast = Forecast()
    for check in ("a", "b"):
        forecast.update(CheckStarted(item(check)), 0.0)
        for n in (1, 2, 5):
            forecast.update(ExampleExamined(item(check), n, 25), 0.0)
    assert forecast.examples == 10


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0, "a few seconds left"),
        (41.0, "about 40 s left"),
        (100.0, "about 2 min left"),
        (3600.0, "about 60 min left"),
        (7300.0, "about 2 h left"),
    ],
)
def test_an_estimate_is_told_no_more_exactly_than_it_is_known(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("terminal", "environment", "seen"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"CI": "true"}, False),
        (True, {"CI": "1"}, False),
        (True, {"CI": "false"}, True),
        (True, {"CI": ""}, True),
    ],
)
def test_only_a_terminal_that_is_no_ci_sees_progress(monkeypatch, terminal, environment, seen):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert animated(console(file=Stream(terminal=terminal)), environment) is seen


def test_a_forced_colour_is_not_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = Console(file=Stream(terminal=False))
    assert out.is_terminal
    assert not animated(out, {})


def test_a_dumb_terminal_sees_none(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not animated(console(file=Stream()), {})


def test_the_line_shows_checks_examples_and_the_time_left(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    stream = Stream()
    reporter = TerminalReporter(console(file=stream, color=False))
    reporter.subject = "test_linear"
    reporter.expect([item("vjp")] * 6)
    with reporter:
        for _ in range(LEAST_CHECKS):
            reporter(CheckStarted(item("vjp")))
            reporter(ExampleExamined(item("vjp"), 4, 25))
            reporter(CheckFinished(item("vjp"), result(item("vjp"), "pass")))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert f"{LEAST_CHECKS}/6 checks, {4 * LEAST_CHECKS} examples" in shown
    assert "test_linear" in shown
    assert "a few seconds left" in shown
