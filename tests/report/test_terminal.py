"""What a terminal shows, and what a pipe gets."""

import io

import pytest

from gradharness.engine.events import CheckStarted, ExampleExamined
from gradharness.engine.plan import Item
from gradharness.report.terminal import TerminalReporter, console
from tests.fakes import ERROR, WARNING, gradient_test


class Stream(io.StringIO):
    def __init__(self, *, terminal=False):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def subject(**outcomes):
    @gradient_test(**outcomes)
    def test_linear(x):
        return x

    return test_linear


def shown(test, *, terminal=False, color=None, verbose=False):
    stream = Stream(terminal=terminal)
    reporter = TerminalReporter(console(color=color, file=stream), verbose=verbose)
    with reporter:
        report = test.run(emit=reporter)
    reporter.report(report, target="test_ops.py::test_linear")
    return stream.getvalue()


def test_a_pipe_gets_the_table_and_then_the_findings_without_colour():
    assert "\n".join(line.rstrip() for line in shown(subject(linearity="pass", vjp="fail")).splitlines()) == (
        """\
test_linear: FAIL (the gradient is wrong beyond what all known errors can explain)
  drew: x: float64[n, d]
  check                  verdict  would have seen     examples  seconds
  linearity-cpu-float64  pass     errors above 3e-06        25      0.2
  vjp-cpu-float64        FAIL     constant factor           25      0.2

test_linear [vjp-cpu-float64]: error, constant factor
  at x[0, 1]
  expected -0.25 ± 3e-06   got -0.5   off by 0.25, 8.3e+04 × the bound
  the gradient of `x` is 2 times the right one
  2 of 2 elements are wrong
  witness (2 elements):
    x: float64[1, 2] = [[1, -2]]
    n: 3
    cotangent: float64[1, 1] = [[1]]
  replay: gradharness check test_ops.py::test_linear --checks vjp --device cpu --dtype float64 --seed 17

2 checks, 50 examples, 1.5 s, seed 17, profile dev
"""
    )


def test_reasons_and_warnings_stand_in_the_table():
    lines = shown(subject(a="undecided", b="skipped", c="warning")).splitlines()
    table = " ".join(" ".join(line.split()) for line in lines[2:10])
    assert "undecided float32 differences are too" in table
    assert "skipped torch sees no CUDA device" in table
    assert "errors above 3e-06, 1 warning" in table


def test_every_line_but_the_command_keeps_to_80_columns():
    lines = shown(subject(cotangent_layout="undecided", double_backward="fail", c="warning")).splitlines()
    # The headline is the verdict's own sentence.
    assert [line for line in lines[1:] if len(line) > 80 and "replay:" not in line] == []


def test_findings_end_with_the_worst():
    text = shown(subject(vjp="fail", contract="warning"))
    assert text.index(WARNING.message) < text.index(ERROR.message)


def test_a_terminal_sees_colour_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31m" in shown(subject(vjp="fail"), terminal=True)
    assert "\x1b[1;31m" not in shown(subject(vjp="fail"), terminal=True, color=False)


def test_a_terminal_sees_progress_and_a_pipe_does_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    item = Item("vjp", "cpu", "float64")
    for terminal in (True, False):
        stream = Stream(terminal=terminal)
        with TerminalReporter(console(file=stream)) as reporter:
            reporter(CheckStarted(item))
            reporter(ExampleExamined(item, 3, 25))
        assert ("vjp-cpu-float64" in stream.getvalue()) is terminal
        assert ("3/25" in stream.getvalue()) is terminal


def test_verbose_shows_the_environment():
    assert "torch: 2.13" in shown(subject(vjp="pass"), verbose=True)


@pytest.mark.parametrize("outcomes", [["pass"], ["pass", "fail", "undecided"]])
def test_totals_are_for_several_subjects_and_end_with_the_worst(outcomes):
    stream = Stream()
    reporter = TerminalReporter(console(file=stream))
    reporter.totals(tuple(subject(vjp=outcome).run() for outcome in outcomes))
    expected = ["pass", "undecided", "FAIL"] if len(outcomes) > 1 else []
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == expected
