"""``pytest --gradharness-baseline``: each item beside its entry, and what is gone at the end."""

import subprocess
import sys
from pathlib import Path

import pytest

from gradharness import pytest_baseline, pytest_keeping  # noqa: F401  (kept: pytester forgets what a run imports)
from gradharness.baseline.model import Baseline, Known
from gradharness.baseline.storage import FILE, load, update
from gradharness.engine import events, plan  # noqa: F401  (the same)
from tests.baseline.levels import elsewhere, entry, key, source
from tests.test_pytest_plugin import LOAD, PLAIN, ROOT

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester):
    """Runs pytest on files of these parts; without parts, on what is there."""

    def run(*arguments, plain=True, **files):
        for name, parts in files.items():
            pytester.makepyfile(**{name: "\n\n".join(parts)})
        return pytester.runpytest_inprocess(*LOAD, *(PLAIN if plain else ()), "--gradharness-no-store", *arguments)

    return run


def record(run, **files):
    return run("--gradharness-baseline-record", **files)


def compare(run, *arguments, **options):
    return run(*arguments, "--gradharness-baseline", **options)


def told(done):
    """The lines of the section at the end."""
    lines = done.outlines
    first = next(n for n, line in enumerate(lines) if "gradharness baseline" in line and line.startswith("=="))
    return [line for line in lines[first + 1 :] if not line.startswith(("=", "FAILED"))]


def test_recorded_and_compared(run, pytester):
    module = [source(vjp={"error": 1e-12}, leak={"saved_bytes": 64})]
    done = record(run, test_ops=module)
    done.assert_outcomes(passed=2)
    assert told(done) == [f"2 checks recorded in {pytester.path / FILE}"]
    assert load(pytester.path / FILE).entries[key("leak")].saved == 64
    done = compare(run)
    done.assert_outcomes(passed=2)
    assert told(done) == ["2 checks compared, no regression"]
    assert done.ret == 0


def test_what_pytest_expects_to_fail_is_no_regression(run):
    wrong, right = source(vjp={"outcome": "fail"}), source("test_g", vjp={"error": 1e-12})
    expected = "import pytest\n" + wrong.replace("@leveled", "@pytest.mark.xfail(reason='known')\n@leveled")
    done = record(run, test_ops=[expected, right])
    done.assert_outcomes(passed=1, xfailed=1)
    assert told(done)[0].startswith("1 check recorded")
    done = compare(run)
    done.assert_outcomes(passed=1, xfailed=1)
    assert (done.ret, told(done)) == (0, ["1 check compared, no regression"])
    done = compare(run, test_ops=[wrong, right])
    assert done.ret == 1
    assert "1 regression" in told(done)[-1]


def test_a_regression_fails_its_item_with_a_report(run):
    record(run, test_ops=[source(vjp={"error": 1e-12}, leak={"saved_bytes": 64})])
    done = compare(run, test_ops=[source(vjp={"error": 1e-9}, leak={"saved_bytes": 64})])
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(
        [
            "REGRESSION: test_ops.py::test_f[[]vjp-cpu-float64]: error level was 1e-12, is 1e-09: *; mend it, or *",
            "*gradharness baseline*",
            "2 checks compared, 1 regression",
            "FAILED test_ops.py::test_f[[]vjp-cpu-float64] - REGRESSION: *",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    compare(run, "--gradharness-fail-on=error:off").assert_outcomes(passed=2)
    compare(run, "--gradharness-fail-on=error:2000x").assert_outcomes(passed=2)


def test_what_was_a_pass_and_is_skipped_fails(run):
    record(run, test_ops=[source(vjp={})])
    done = compare(run, test_ops=[source(vjp={"outcome": "undecided"})])
    done.assert_outcomes(failed=1)
    record(run)
    done = compare(run)
    done.assert_outcomes(skipped=1)


def test_a_known_failure_is_expected_until_it_passes(run, pytester):
    failing = [source(vjp={"outcome": "fail"}, leak={})]
    done = record(run, test_ops=failing)
    done.assert_outcomes(failed=1, passed=1)
    assert told(done)[0] == "not recorded: test_ops.py::test_f fails"
    assert not (pytester.path / FILE).exists()
    one = Known(key=key(), fault="constant factor", label="x", reason="issue 7")
    update(pytester.path / FILE, lambda _: Baseline(known={one.key: one}))
    done = compare(run, "-rx")
    done.assert_outcomes(xfailed=1, passed=1)
    done.stdout.fnmatch_lines(["XFAIL test_ops.py::test_f[[]vjp-cpu-float64] - *constant factor of x: issue 7"])
    assert done.ret == 0
    done = compare(run, test_ops=[source(vjp={"outcome": "fail", "fault": "sign"}, leak={})])
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["*known is another fault: constant factor of x (issue 7)*"])
    done = compare(run, test_ops=[source(vjp={}, leak={})])
    done.assert_outcomes(passed=2)
    assert "known failure passes now: test_ops.py::test_f[vjp-cpu-float64]" in told(done)[-2]
    record(run).assert_outcomes(passed=2)
    assert not load(pytester.path / FILE).known


def test_a_failure_that_nobody_knows_keeps_its_report(run):
    record(run, test_ops=[source(vjp={})])
    done = compare(run, test_ops=[source(vjp={"outcome": "fail"})])
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["test_f [[]vjp-cpu-float64]: error, constant factor", "*1 regression"])


def test_what_is_gone_fails_the_session_and_what_is_deselected_does_not(run, pytester):
    both = [source("test_f", vjp={}, leak={}), source("test_g", vjp={})]
    record(run, test_ops=both, test_more=[source("test_h", vjp={})])
    for arguments in (("-k", "test_f and vjp"), ("test_ops.py::test_f",), ("test_ops.py",), ("--collect-only",)):
        assert compare(run, *arguments).ret == 0
    done = compare(run, test_ops=[source("test_f", vjp={})])
    done.assert_outcomes(passed=2)
    assert done.ret == 1
    assert [line.partition(";")[0] for line in told(done)[:-1]] == [
        "VANISHED: test_ops.py::test_f[leak-cpu-float64]: the check is gone",
        "VANISHED: test_ops.py::test_g: the test is gone, with 1 check",
    ]
    assert compare(run, "test_more.py").ret == 0
    (pytester.path / "test_more.py").unlink()
    assert "VANISHED: test_more.py::test_h: the test is gone" in "\n".join(told(compare(run)))
    assert "test_h" not in "\n".join(told(compare(run, "test_ops.py")))
    record(run)
    assert compare(run).ret == 0


def test_what_ran_last_failed_only_is_not_gone(run):
    record(run, test_ops=[source("test_f", vjp={}), source("test_g", vjp={})], test_more=[source("test_h", vjp={})])
    failing = [source("test_f", vjp={"outcome": "fail"}), source("test_g", vjp={})]
    compare(run, "-p", "no:xdist", plain=False, test_ops=failing).assert_outcomes(passed=2, failed=1)
    done = compare(run, "-p", "no:xdist", "--lf", plain=False)
    done.assert_outcomes(failed=1)
    assert not any("VANISHED" in line for line in told(done))


def test_a_file_that_cannot_be_collected_is_not_gone(run):
    record(run, test_ops=[source(vjp={})])
    done = compare(run, test_ops=["import no_such_module"])
    done.assert_outcomes(errors=1)
    assert not any("VANISHED" in line for line in told(done))


def test_another_machine_is_loud(run):
    record(run, test_ops=[source(vjp={"cost_ratio": 1.0})])
    done = compare(run, test_ops=[source(vjp={"cost_ratio": 9.0}, environment=elsewhere(processor="two"))])
    assert done.ret == 0
    assert told(done) == [
        "THE ENVIRONMENT DIFFERS: processor: recorded with one, here two",
        "not compared: cost ratio of 1 check: recorded with processor one, here two",
        "1 check compared, no regression",
    ]


def test_what_is_new_is_to_be_recorded(run):
    record(run, test_ops=[source(vjp={})])
    done = compare(run, test_ops=[source(vjp={}, leak={})])
    assert done.ret == 0
    assert "new: test_ops.py::test_f[leak-cpu-float64]: is not in the baseline, passes; record it" in told(done)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gradharness-baseline=no.toml"], "*there is no baseline *no.toml: write it with *"),
        (["--gradharness-baseline=bad.toml"], "*bad.toml is not TOML *"),
        (
            ["--gradharness-baseline", "test_ops.py"],
            "*that is a test, not a baseline; write --gradharness-baseline=FILE*",
        ),
        (["--gradharness-baseline=b.toml", "--gradharness-fail-on=eror:2x"], "*unknown figure in --fail-on 'eror'*"),
    ],
)
def test_what_cannot_be_is_a_usage_error(run, pytester, arguments, message):
    (pytester.path / "bad.toml").write_text("[x")
    update(pytester.path / "b.toml", lambda now: now)
    done = run(*arguments, test_ops=[source(vjp={})])
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([message])


def test_under_xdist_the_controller_tells_what_the_workers_found(pytester, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = pytester.path / FILE
    names = ("vjp", "leak"), ("vjp",)
    keys = [
        key(c, f"test_ops.py::{test}") for test, checks in zip(("test_f", "test_g"), names, strict=True) for c in checks
    ]
    update(path, lambda _: Baseline({k: entry() for k in keys}))
    wrong = source("test_wrong", vjp={"outcome": "fail"}, leak={})
    pytester.makepyfile(test_ops="\n\n".join([source(vjp={"error": 1e-3}), wrong]))
    quiet = ("-p", "no:cacheprovider", "--gradharness-no-store", "-n", "2")
    done = pytester.runpytest_subprocess(*LOAD, *quiet, "--gradharness-baseline")
    shown = "\n".join(told(done))
    done.assert_outcomes(failed=1, passed=2)
    assert "VANISHED: test_ops.py::test_f[leak-cpu-float64]" in shown
    assert "VANISHED: test_ops.py::test_g: the test is gone" in shown
    assert "REGRESSION: test_ops.py::test_wrong[vjp-cpu-float64]: is not in the baseline, fails" in shown
    assert "new: test_ops.py::test_wrong[leak-cpu-float64]" in shown


def test_nothing_heavy_is_loaded_before_there_is_a_gradient_test(tmp_path):
    (tmp_path / FILE).write_text("[gradharness-baseline]\nversion = 1\n")
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain():\n"
        "    assert 'gradharness.pytest_baseline' in sys.modules\n"
        "    assert not {'torch', 'rich', 'hypothesis', 'gradharness.api'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", *LOAD, "-p", "no:hypothesispytest"]
    done = subprocess.run(
        [*command, "--gradharness-baseline", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(ROOT),
    )
    assert done.returncode == 0, done.stdout + done.stderr
