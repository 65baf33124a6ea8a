"""What a terminal shows, and what a pipe gets."""

import io
import os
from dataclasses import replace

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
test_linear: FAIL (the gradient is wrong beyond what all known errors can
    explain)
  drew: x: float64[n, d]
  on: cpu, float64
  check      verdict  would have seen     examples  seconds
  linearity  pass     errors above 3e-06        25      0.2
  vjp        FAIL     constant factor           25      0.2

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
    table = " ".join(" ".join(line.split()) for line in lines[3:10])
    assert "undecided float32 differences are too" in table
    assert "skipped torch sees no CUDA device" in table
    assert "errors above 3e-06, 1 warning" in table


def test_every_line_but_the_command_keeps_to_80_columns():
    lines = shown(subject(cotangent_layout="undecided", double_backward="fail", c="warning")).splitlines()
    assert [line for line in lines if len(line) > 80 and "replay:" not in line] == []


def test_a_narrow_terminal_is_spared_what_a_check_cost(monkeypatch):
    for columns in (71, 72):
        monkeypatch.setattr("shutil.get_terminal_size", lambda columns=columns: os.terminal_size((columns, 24)))
        told = shown(subject(vjp="pass", linearity="fail"), terminal=True, color=False)
        assert ("examples  seconds" in told) is (columns == 72)
        table = told.partition("  check ")[2].partition("\n\n")[0]
        assert max(map(len, table.splitlines())) <= columns


def test_findings_end_with_the_worst():
    text = shown(subject(vjp="fail", contract="warning"))
    assert text.index(WARNING.message) < text.index(ERROR.message)


def test_a_terminal_sees_colour_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31m" in shown(subject(vjp="fail"), terminal=True)
    assert "\x1b[1;31m" not in shown(subject(vjp="fail"), terminal=True, color=False)


def reported(*, color):
    stream = Stream(terminal=True)
    TerminalReporter(console(color=color, file=stream)).report(subject(vjp="fail", mask="warning").run())
    return stream.getvalue()


def test_plain_text_has_no_weight_either(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in reported(color=None)
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b" not in reported(color=False)
    assert "\x1b[1;31m" in reported(color=None)


def test_a_terminal_sees_progress_and_a_pipe_or_ci_does_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    item = Item("vjp", "cpu", "float64")
    for terminal, ci in ((True, ""), (False, ""), (True, "true")):
        monkeypatch.setenv("CI", ci)
        stream = Stream(terminal=terminal)
        with TerminalReporter(console(file=stream)) as reporter:
            reporter.expect([item])
            reporter(CheckStarted(item))
            reporter(ExampleExamined(item, 3, 25))
        assert ("0/1 checks, 3 examples" in stream.getvalue()) is (terminal and not ci)


def test_what_checks_share_stands_above_them_only_if_they_do():
    both = subject(vjp="pass").run()
    other = replace(both.results[0], dtype="float32")
    stream = Stream()
    TerminalReporter(console(file=stream)).report(replace(both, results=(*both.results, other)))
    assert [line.split()[0] for line in stream.getvalue().splitlines()[2:5]] == [
        "check",
        "vjp-cpu-float64",
        "vjp-cpu-float32",
    ]


def test_verbose_shows_the_environment_and_the_script():
    report = subject(vjp="fail").run()
    finding = replace(ERROR, reproducer="import torch\nprint(1)\n")
    report = replace(report, results=(replace(report.results[0], findings=(finding,)),))
    for verbose in (True, False):
        stream = Stream()
        TerminalReporter(console(file=stream), verbose=verbose).report(report)
        assert ("  environment: torch 2.13\n" in stream.getvalue()) is verbose
        assert ("to be saved and run:\n\nimport torch\nprint(1)\n" in stream.getvalue()) is verbose


@pytest.mark.parametrize("outcomes", [["pass"], ["pass", "fail", "undecided"]])
def test_totals_are_for_several_subjects_and_end_with_the_worst(outcomes):
    stream = Stream()
    reporter = TerminalReporter(console(file=stream))
    reporter.totals(tuple(subject(vjp=outcome).run() for outcome in outcomes))
    expected = ["pass", "undecided", "FAIL"] if len(outcomes) > 1 else []
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == expected
