"""Annotations: the line they point at, the two styles and their escapes, once for each fault, also under xdist."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gradharness.cli import main
from gradharness.engine.plan import Item
from gradharness.errors import UsageError
from gradharness.model.verdict import Report
from gradharness.report.annotations import Annotation, Place, Style, annotate, github, lines, place_of, plain, style_of
from tests.fakes import result
from tests.test_pytest_plugin import HEADER, LOAD, PLAIN, source

pytest_plugins = ["pytester"]

ONE = Annotation(
    path="test_ops.py",
    line=12,
    severity="error",
    subject="test_f",
    check="vjp-cpu-float64",
    fault="constant factor",
    message="the gradient of `x` is 2 times the right one",
    details=("at x[0, 1]", "100 % of it"),
)


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITHUB_WORKSPACE", "CI"):
        monkeypatch.delenv(name, raising=False)


def changed(**fields):
    from dataclasses import replace

    return replace(ONE, **fields)


# ------------------------------------------------------------------------------------------------------------- styles


def test_github_writes_a_workflow_command(folder):
    assert github(ONE) == (
        "::error file=test_ops.py,line=12,title=test_f [vjp-cpu-float64]%3A constant factor"
        "::the gradient of `x` is 2 times the right one%0Aat x[0, 1]%0A100 %25 of it"
    )


def test_what_could_end_a_command_or_begin_another_is_escaped(folder):
    line = github(changed(path="a,b:c.py", subject="x::y%", message="1\r\n::error::2", details=(), severity="warning"))
    assert line == (
        "::warning file=a%2Cb%3Ac.py,line=12,title=x%3A%3Ay%25 [vjp-cpu-float64]%3A constant factor::1%0D%0A::error::2"
    )
    assert "\n" not in line


def test_plain_is_one_line_as_compilers_write_it(folder):
    assert plain(changed(message="wrong\nby 2")) == "test_ops.py:12: error: wrong by 2 [constant factor]"


def test_paths_are_from_the_repository_for_github_and_from_here_for_an_editor(folder, monkeypatch):
    inner = folder / "package"
    inner.mkdir()
    (folder / ".git").mkdir()
    monkeypatch.chdir(inner)
    here = changed(path=str(inner / "test_ops.py"))
    assert "file=package/test_ops.py," in github(here)
    assert plain(here).startswith("test_ops.py:12:")
    assert plain(changed(path=str(folder / "test_ops.py"))).startswith(f"{folder.as_posix()}/test_ops.py:12:")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(inner))
    assert "file=test_ops.py," in github(here)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder / "elsewhere"))
    assert "file=package/test_ops.py," in github(here)


def test_one_line_for_one_fault_of_one_test():
    found = [ONE, changed(check="shape-cpu-float64"), changed(fault="sign"), changed(subject="test_g")]
    told = lines(found, Style.PLAIN)
    assert len(told) == 3
    assert "vjp-cpu-float64" in lines(found, Style.GITHUB)[0]
    assert lines(found, Style.NONE) == []


@pytest.mark.parametrize(
    ("choice", "environment", "style"),
    [
        (None, {}, "none"),
        ("auto", {}, "none"),
        ("auto", {"GITHUB_ACTIONS": "true"}, "github"),
        (None, {"GITHUB_ACTIONS": "true"}, "github"),
        ("none", {"GITHUB_ACTIONS": "true"}, "none"),
        ("plain", {"GITHUB_ACTIONS": "true"}, "plain"),
        ("github", {"CI": "true"}, "github"),
    ],
)
def test_the_environment_decides_only_where_nothing_was_said(choice, environment, style):
    assert style_of(choice, environment) == style


def test_a_style_that_does_not_exist():
    with pytest.raises(UsageError, match="annotate='gitlab': give one of auto, github, plain, none"):
        style_of("gitlab", {})


def test_each_fault_of_a_report_once_the_worst_last():
    names = {"vjp": "fail", "linearity": "fail", "contract": "warning", "value": "pass"}
    results = tuple(result(Item(name, "cpu", "float64"), outcome) for name, outcome in names.items())
    report = Report(subject="test_f", results=results, seed=17)
    found = annotate(report, Place(Path("test_ops.py"), 3), target="test_ops.py::test_f")
    assert [(one.severity, one.check, one.line) for one in found] == [
        ("warning", "contract-cpu-float64", 3),
        ("error", "vjp-cpu-float64", 3),
    ]
    assert found[1].details[0] == "at x[0, 1]"
    assert found[1].details[-1].startswith("replay: gradharness check test_ops.py::test_f --checks vjp")


def test_each_check_that_could_not_decide_is_a_warning():
    results = tuple(result(Item(name, "cpu", "float64"), "undecided") for name in ("vjp", "value"))
    report = Report(subject="test_f", results=(*results, result(Item("leak", "cpu", "float64"), "pass")), seed=17)
    found = annotate(report, Place(Path("test_ops.py"), 3))
    assert [(one.severity, one.check) for one in found] == [
        ("warning", "vjp-cpu-float64"),
        ("warning", "value-cpu-float64"),
    ]
    told = lines(found * 2, Style.GITHUB)
    assert len(told) == 2
    assert told[0].startswith("::warning file=")
    assert f"title=test_f [vjp-cpu-float64]%3A undecided::could not decide: {results[0].reason}%0A" in told[0]
    assert lines(found, Style.PLAIN)[1].endswith("[undecided]")


# ------------------------------------------------------------------------------------------------------------- places

MODULE = """\
test_a = 1


def helper():
    test_a = 2  # not at the top


if True:
    test_a = \\
        3
test_b, (test_c, *test_d) = 4, (5, 6)
test_e: int = 7
from os import path as test_f
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [("test_a", 9), ("test_b", 11), ("test_c", 11), ("test_d", 11), ("test_e", 12), ("test_f", 13), ("test_z", 1)],
)
def test_an_assignment_is_found_in_the_file(tmp_path, name, line):
    path = tmp_path / "test_ops.py"
    path.write_text(MODULE)
    assert place_of(None, path, name) == Place(path, line)


@pytest.mark.parametrize("content", [b"def (", b"\xff\x00", None])
def test_a_file_that_cannot_be_read_has_a_first_line(tmp_path, content):
    path = tmp_path / "test_ops.py"
    if content is not None:
        path.write_bytes(content)
    assert place_of(None, path, "test_a").line == 1


def test_a_function_knows_its_place():
    def function(): ...

    assert place_of(function, Path("other.py"), "f") == Place(Path(__file__), function.__code__.co_firstlineno)


# -------------------------------------------------------------------------------------------------------- command line


def check(*arguments):
    return CliRunner().invoke(main, ["check", *arguments], catch_exceptions=False)


def fake(name, **outcomes):
    given = ", ".join(f"{k}={v!r}" for k, v in outcomes.items())
    return f"@gradient_test({given})\ndef {name}(x):\n    return x\n"


def test_the_command_line_annotates_every_test_after_the_reports(write):
    write("test_ops.py", fake("test_a", vjp="fail", contract="warning"), fake("test_b", vjp="fail"))
    told = check("test_ops.py", "--annotate", "plain").stdout.splitlines()[-3:]
    assert told == [
        "test_ops.py:2: warning: float32 inside a float64 backward [wrong dtype]",
        "test_ops.py:2: error: the gradient of `x` is 2 times the right one [constant factor]",
        "test_ops.py:7: error: the gradient of `x` is 2 times the right one [constant factor]",
    ]


def test_on_github_nothing_has_to_be_said(write, monkeypatch):
    write("test_ops.py", fake("test_a", vjp="fail"))
    assert "::error" not in check("test_ops.py").stdout
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::error file=test_ops.py,line=2,title=" in check("test_ops.py").stdout
    assert "::error" not in check("test_ops.py", "--annotate", "none").stdout
    Path("pyproject.toml").write_text("[tool.gradharness]\nannotate = 'plain'\n")
    assert "test_ops.py:2: error: " in check("test_ops.py").stdout


def test_a_module_is_found_by_its_file(write):
    write("annotated_ops.py", fake("test_a", vjp="fail"))
    assert "annotated_ops.py:2: error: " in check("annotated_ops:test_a", "--annotate", "plain").stdout


# ------------------------------------------------------------------------------------------------------------- pytest


def under_pytest(pytester, *arguments, module):
    """Runs pytest in this process; ``test_xdist`` of the plugin's tests looks at what the controller prints."""
    pytester.makepyfile(test_ops=HEADER + module)
    return pytester.runpytest_inprocess(*LOAD, *PLAIN, *arguments)


def test_pytest_annotates_at_the_end_and_not_what_is_expected(pytester):
    module = source("test_a", vjp="fail", linearity="fail") + source("test_b", "@pytest.mark.xfail", vjp="fail")
    done = under_pytest(pytester, "--gradharness-annotate=plain", module=module)
    told = [line for line in done.outlines if line.startswith("test_ops.py:")]
    assert told == ["test_ops.py:4: error: the gradient of `x` is 2 times the right one [constant factor]"]


def test_pytest_annotates_on_github_and_says_nothing_elsewhere(pytester, monkeypatch):
    module = source("test_a", vjp="warning")
    under_pytest(pytester, module=module).stdout.no_fnmatch_line("::warning*")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    under_pytest(pytester, module=module).stdout.fnmatch_lines(["::warning file=test_ops.py,line=4,title=test_a *"])
    under_pytest(pytester, "--gradharness-annotate=none", module=module).stdout.no_fnmatch_line("::warning*")
