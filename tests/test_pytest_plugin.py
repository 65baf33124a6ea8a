"""Gradient tests as pytest items: ids, selection, outcomes, marks, junit, xdist."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gradharness.engine import events, plan  # noqa: F401  (kept loaded: pytester forgets what a run imports)

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
INSTALLED = any(e.value == "gradharness.pytest_plugin" for e in entry_points(group="pytest11"))
LOAD = () if INSTALLED else ("-p", "gradharness.pytest_plugin")
PLAIN = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
HEADER = "import pytest\nfrom tests.fakes import gradient_test\n"


def source(name="test_f", before="", **outcomes):
    given = ", ".join(f"{k}={v!r}" for k, v in outcomes.items())
    return f"{before}\n@gradient_test({given})\ndef {name}(x):\n    return x\n"


@pytest.fixture
def run(pytester):
    """Runs pytest in this process on a module made of these parts."""

    def run(*arguments, module=(), plain=True):
        if module:
            pytester.makepyfile(test_ops=HEADER + "\n".join(module))
        return pytester.runpytest_inprocess(*LOAD, *(PLAIN if plain else ()), *arguments)

    return run


def test_one_item_for_each_check(run):
    done = run("--collect-only", "-q", module=[source(vjp="pass", linearity="fail"), "def test_plain(): pass\n"])
    assert done.outlines[:3] == [
        "test_ops.py::test_f[vjp-cpu-float64]",
        "test_ops.py::test_f[linearity-cpu-float64]",
        "test_ops.py::test_plain",
    ]


def test_outcomes(run):
    module = [
        source("test_a", vjp="pass", linearity="warning"),
        source("test_b", vjp="fail", linearity="undecided"),
        source("test_c", vjp="skipped"),
    ]
    run(module=module).assert_outcomes(passed=2, failed=2, skipped=1)


def test_a_failure_prints_the_report_and_no_traceback(run):
    done = run("--gradharness-no-store", module=[source(vjp="fail")])
    done.stdout.fnmatch_lines(
        [
            "test_f: FAIL (the gradient is wrong *",
            "test_f [[]vjp-cpu-float64]: error, constant factor",
            "  expected -0.25 ± 3e-06   got -0.5 *",
            "  replay: gradharness check test_ops.py::test_f --checks vjp --device cpu --dtype float64 --seed 17",
            "FAILED test_ops.py::test_f[[]vjp-cpu-float64] - the gradient of `x` is *",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_undecided_is_a_failure_unless_it_is_to_be_skipped(run):
    done = run("-rf", module=[source(vjp="undecided")])
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["FAILED *- undecided: float32 differences *"])
    done = run("-rs", "--gradharness-undecided=skip")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED *undecided: float32 differences are too coarse"])


def test_a_skip_gives_its_reason(run):
    done = run("-rs", module=[source(vjp="skipped")])
    done.stdout.fnmatch_lines(["SKIPPED *torch sees no CUDA device"])


def test_a_warning_is_shown_and_fails_when_strict(run):
    done = run("-rP", module=[source(vjp="warning")])
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*float32 inside a float64 backward"])
    run("--gradharness-strict").assert_outcomes(failed=1)


def test_a_pass_shows_what_it_would_have_seen(run):
    done = run("-rP", module=[source(vjp="pass")])
    done.stdout.fnmatch_lines(["pass · would have seen a relative error above 3e-06"])


def test_profile_and_seed_reach_the_run(run):
    done = run(
        "--gradharness-profile=deep", "--gradharness-seed=5", "--gradharness-no-store", module=[source(vjp="fail")]
    )
    done.stdout.fnmatch_lines(["  replay: *--seed 5 --profile deep"])


def test_selection_by_name_keyword_and_stop_at_the_first(run):
    module = [source("test_a", vjp="fail", linearity="fail"), source("test_b", vjp="pass", linearity="pass")]
    run("-k", "linearity", module=module).assert_outcomes(failed=1, passed=1, deselected=2)
    run("-k", "test_b and vjp").assert_outcomes(passed=1, deselected=3)
    run("test_ops.py::test_b").assert_outcomes(passed=2)
    run("test_ops.py::test_b[vjp-cpu-float64]").assert_outcomes(passed=1)
    run("-x").assert_outcomes(failed=1)


def test_last_failed(run):
    module = [source("test_a", vjp="fail", linearity="pass"), source("test_b", vjp="pass")]
    run("-p", "no:xdist", module=module, plain=False).assert_outcomes(failed=1, passed=2)
    run("-p", "no:xdist", "--lf", plain=False).assert_outcomes(failed=1)


def test_junit(run, pytester):
    run("--junitxml=junit.xml", module=[source(vjp="fail", linearity="pass")])
    xml = (pytester.path / "junit.xml").read_text(encoding="utf-8")
    assert 'name="test_f[vjp-cpu-float64]"' in xml
    assert 'message="the gradient of `x` is 2 times the right one"' in xml
    said = dict(re.findall(r'property name="gradharness_(\w+)" value="(.*?)"', xml.partition("linearity")[0]))
    assert said == {
        "verdict": "fail",
        "fault": "constant factor",
        "seed": "17",
        "profile": "dev",
        "examples": "25",
    }
    assert 'property name="gradharness_resolution" value="3e-06"' in xml.partition("linearity")[2]
    assert "expected -0.25 ± 3e-06   got -0.5" in xml


def test_marks_above_and_below_the_decorator(run):
    above = source("test_a", "@pytest.mark.xfail(strict=True)", vjp="fail")
    below = "@gradient_test(vjp='pass')\n@pytest.mark.skip(reason='later')\ndef test_b(x):\n    return x\n"
    module = source("test_c", vjp="fail")
    done = run("-rs", module=[above, below])
    done.assert_outcomes(xfailed=1, skipped=1)
    run(module=["pytestmark = pytest.mark.xfail\n", module]).assert_outcomes(xfailed=1)


def test_a_mark_selects(run):
    module = [source("test_a", "@pytest.mark.slow", vjp="pass"), source("test_b", vjp="pass")]
    run("-m", "slow", "-W", "ignore", module=module).assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            source("test_f", "@pytest.mark.parametrize('n', [1])", vjp="pass"),
            "test_f: parametrize is not supported on gradient tests: write one gradient test for each case",
        ),
        (
            source("test_f", "@pytest.mark.usefixtures('tmp_path')", vjp="pass"),
            "test_f: fixtures are not supported on gradient tests: *",
        ),
        (
            "class TestOps:\n    @gradient_test(vjp='pass')\n    def test_f(x): return x\n",
            "test_f: gradient tests in classes are not supported: move it to module level",
        ),
        (source("test_f", vjp="unplannable"), "test_f: x='n d d2': the example has 2 dims; write 'n d'"),
    ],
    ids=["parametrize", "usefixtures", "class", "spec"],
)
def test_what_is_not_supported_is_told_in_one_line(run, module, message):
    done = run(module=[module, "def test_plain(): pass\n"])
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([message])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_a_usage_error_while_running_is_one_line(run):
    done = run(module=[source(vjp="usage")])
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["x='n d d2': the example has 2 dims; write 'n d'"])
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_fault_of_ours_keeps_its_traceback(run):
    done = run(module=[source(vjp="crash")])
    done.stdout.fnmatch_lines(["*RuntimeError: something of ours broke*"])


def test_the_place_is_the_users_function(run, pytester):
    done = run("-v", "--gradharness-undecided=fail", module=[source(vjp="fail")])
    done.stdout.fnmatch_lines(["test_ops.py::test_f[[]vjp-cpu-float64] FAILED*"])
    done = run("-rf", "--tb=line")
    done.stdout.fnmatch_lines([f"{pytester.path / 'test_ops.py'}:4: the gradient of `x` is *"])


def test_xdist(pytester, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(test_ops=HEADER + source(vjp="fail", linearity="fail", contract="undecided", value="skipped"))
    done = pytester.runpytest_subprocess(*LOAD, "-p", "no:cacheprovider", "-n", "2", "--gradharness-annotate=github")
    done.assert_outcomes(failed=3, skipped=1)
    # The controller prints what the workers found: one line for one fault.
    assert len([line for line in done.outlines if line.startswith("::error file=test_ops.py,line=4,title=")]) == 1
    done.stdout.fnmatch_lines(["  expected -0.25 ± 3e-06   got -0.5 *"])
    done.stdout.fnmatch_lines(["FAILED *undecided: float32 differe*"])


def test_the_plugin_loads_nothing_heavy_where_there_is_no_gradient_test(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain():\n"
        "    assert 'gradharness.pytest_plugin' in sys.modules\n"
        "    assert not {'torch', 'rich', 'msgspec', 'gradharness.api', 'gradharness.report'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *LOAD, "-p", "no:hypothesispytest", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


REAL = """
import pytest
import torch
from gradharness import gradient_test, pair

def square(x):
    return x * x

test_right = gradient_test(pair(square, lambda x, g: 2 * x * g), x="n", checks=["vjp"])
test_wrong = gradient_test(pair(square, lambda x, g: 3 * x * g), x="n", checks=["vjp", "linearity"])

@gradient_test(x="n", checks=["vjp"])
@pytest.mark.skip(reason="below")
def test_below(x):
    return x * x
"""


def test_real_gradient_tests(run, pytester):
    pytester.makepyfile(test_real=REAL)
    done = run("-v", "test_real.py")
    done.assert_outcomes(passed=2, failed=1, skipped=1)
    done.stdout.fnmatch_lines(
        [
            "test_real.py::test_right[[]vjp-cpu-float64] PASSED*",
            "test_real.py::test_wrong[[]vjp-cpu-float64] FAILED*",
            "test_real.py::test_wrong[[]linearity-cpu-float64] PASSED*",
            "  replay: gradharness replay ??????????",
        ]
    )


def test_a_mark_above_a_real_gradient_test(run, pytester):
    pytester.makepyfile(test_real=REAL.replace("@gradient_test", "@pytest.mark.xfail(strict=True)\n@gradient_test"))
    run("test_real.py", "-k", "below").assert_outcomes(skipped=1, deselected=3)
