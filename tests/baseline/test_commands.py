"""``gradharness baseline``: exit statuses, what is written, what is told."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradharness.baseline.storage import FILE, load
from gradharness.cli import main
from gradharness.report import record as record_file
from tests.baseline.levels import elsewhere, key, source


@pytest.fixture
def tests(folder):
    """Writes the file of tests, as if another process came next."""

    def tests(*parts, name="test_ops.py"):
        for module in [m for m in sys.modules if m.startswith("gradharness_target_")]:
            del sys.modules[module]
        (folder / name).write_text("\n\n".join(parts))

    return tests


def run(*arguments, status=0):
    done = CliRunner().invoke(main, ["baseline", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def recorded():
    return load(Path(FILE))


def test_recorded_and_compared_and_shown(tests):
    tests(source(vjp={"error": 1.234e-15, "cost_ratio": 1.26}, leak={"saved_bytes": 512}))
    done = run("record", "test_ops.py")
    assert done.stdout == f"{FILE}: 2 checks of 1 test recorded\n"
    assert recorded().entries[key()].error == 1.2e-15
    assert recorded().entries[key()].cost == 1.3
    assert recorded().entries[key("leak")].saved == 512
    before = Path(FILE).read_text()
    assert run("compare").stdout == f"{FILE}: 2 checks compared, no regression\n"
    run("record")
    assert Path(FILE).read_text() == before
    shown = run("show").stdout
    assert "vjp-cpu-float64   pass     1.2e-15" in shown
    assert "512" in shown
    assert max(len(line) for line in shown.splitlines() if "recorded with" not in line) <= 80


def test_a_regression_is_told_and_gives_a_one(tests):
    tests(source(vjp={"error": 1e-12}, leak={"saved_bytes": 512}))
    run("record", "test_ops.py")
    tests(source(vjp={"error": 1e-9}, leak={"saved_bytes": 512}))
    done = run("compare", status=1)
    assert done.stdout.splitlines() == [
        "REGRESSION: test_ops.py::test_f[vjp-cpu-float64]: error level was 1e-12, is 1e-09: 1e+03 × as much, the limit "
        "is 2 × 1e-12; mend it, or accept it: gradharness baseline record test_ops.py::test_f",
        f"{FILE}: 2 checks compared, 1 regression",
    ]
    run("compare", "--fail-on", "error:off")
    run("compare", "--fail-on", "error:2000x,cost:off")
    run("compare", "--checks", "leak")


def test_a_failure_that_is_new_prints_its_report(tests):
    tests(source(vjp={}))
    run("record", "test_ops.py")
    tests(source(vjp={"outcome": "fail"}))
    done = run("compare", status=1)
    assert "test_f [vjp-cpu-float64]: error, constant factor" in done.stdout
    assert "REGRESSION: test_ops.py::test_f[vjp-cpu-float64]: was pass, fails: constant factor of x" in done.stdout


def test_what_is_gone_is_a_regression_until_it_is_recorded(tests, folder):
    tests(source("test_f", vjp={}, leak={}), source("test_g", vjp={}))
    tests(source("test_h", vjp={}), name="test_more.py")
    run("record", ".")
    tests(source("test_f", vjp={}))
    (folder / "test_more.py").unlink()
    done = run("compare", status=1)
    assert [line.partition(";")[0] for line in done.stdout.splitlines()[:-1]] == [
        "VANISHED: test_ops.py::test_f[leak-cpu-float64]: the check is gone",
        "VANISHED: test_more.py::test_h: the test is gone, with 1 check",
        "VANISHED: test_ops.py::test_g: the test is gone, with 1 check",
    ]
    run("compare", "test_ops.py::test_f", "--checks", "vjp")
    assert "dropped: test_ops.py::test_g" in run("record", "test_ops.py").stdout
    assert {k.subject for k in recorded().entries} == {"test_ops.py::test_f", "test_more.py::test_h"}
    run("record")
    assert {k.subject for k in recorded().entries} == {"test_ops.py::test_f"}
    run("compare")


def test_a_file_that_does_not_import_is_no_file_without_tests(tests):
    tests(source(vjp={}))
    run("record", "test_ops.py")
    tests("import no_such_module")
    done = run("compare", status=2)
    assert "VANISHED" not in done.stdout
    assert "cannot import test_ops.py" in done.stderr
    run("record", "test_ops.py", status=2)
    assert key() in recorded().entries


def test_a_failing_test_is_left_out_unless_a_reason_is_given(tests):
    tests(source("test_f", vjp={"outcome": "fail"}, leak={}), source("test_g", vjp={}))
    done = run("record", "test_ops.py", status=1)
    assert "not recorded: test_ops.py::test_f fails (vjp-cpu-float64: constant factor)" in done.stdout
    assert {k.subject for k in recorded().entries} == {"test_ops.py::test_g"}
    done = run("record", "test_ops.py", "--known", " ", status=2)
    assert done.stderr.startswith("gradharness: --known ' ': give a reason")
    run("record", "test_ops.py", "--known", "issue 7", "--link", "https://e.org/7")
    (one,) = recorded().known.values()
    assert (one.key, one.fault, one.label, one.reason, one.link) == (
        key(),
        "constant factor",
        "x",
        "issue 7",
        "https://e.org/7",
    )
    done = run("compare", "--strict")
    assert "known failure: test_ops.py::test_f[vjp-cpu-float64]: constant factor of x: issue 7" in done.stdout
    assert "test_f: FAIL" not in done.stdout
    run("record")
    assert set(recorded().known) == {key()}


def test_a_known_failure_with_another_fault_fails_and_one_that_passes_is_dropped(tests):
    tests(source(vjp={"outcome": "fail"}))
    run("record", "test_ops.py", "--known", "issue 7")
    tests(source(vjp={"outcome": "fail", "fault": "sign"}))
    assert "known is another fault: constant factor of x (issue 7)" in run("compare", status=1).stdout
    assert "not recorded" in run("record", status=1).stdout
    tests(source(vjp={}))
    assert "known failure passes now: " in run("compare").stdout
    run("compare", "--strict", status=1)
    assert "dropped: the known failure of test_ops.py::test_f[vjp-cpu-float64] (issue 7)" in run("record").stdout
    assert not recorded().known
    run("compare", "--strict")


def test_another_machine_is_loud_and_fails_only_when_strict(tests):
    tests(source(vjp={"cost_ratio": 1.0, "error": 1e-12}))
    run("record", "test_ops.py")
    tests(source(vjp={"cost_ratio": 9.0, "error": 1e-12}, environment=elsewhere(threads="8", processor="two")))
    done = run("compare")
    assert done.stdout.splitlines() == [
        "THE ENVIRONMENT DIFFERS: processor: recorded with one, here two",
        "THE ENVIRONMENT DIFFERS: threads: recorded with 1, here 8",
        "not compared: cost ratio of 1 check: recorded with threads 1, here 8",
        f"{FILE}: 1 check compared, no regression",
    ]
    run("compare", "--strict", status=1)


def test_seed_and_profile_are_the_recorded_ones(tests):
    tests(source(vjp={"error": 1e-12}))
    run("record", "test_ops.py", "--seed", "5", "--profile", "dev")
    assert dict(recorded().entries[key()].environment)["seed"] == "5"
    assert "DIFFERS" not in run("compare").stdout
    assert "THE ENVIRONMENT DIFFERS: seed: recorded with 5, here 6" in run("compare", "--seed", "6").stdout


def test_entries_of_another_device_are_kept_and_told(tests):
    here, there = "[Item('vjp', 'cpu', 'float64')]", "[Item('vjp', 'cpu', 'float32'), Item('vjp', 'cpu', 'float64')]"
    both = source(vjp={}).replace("items=None", f"items={there}")
    tests(both)
    run("record", "test_ops.py")
    tests(source(vjp={}).replace("items=None", f"items={here}"))
    done = run("compare")
    assert "not compared: test_ops.py::test_f[vjp-cpu-float32]" in done.stdout
    run("compare", "--strict", status=1)
    run("record")
    assert len(recorded().entries) == 2


def test_the_configuration_names_file_tests_and_limits(tests, folder):
    (folder / "pyproject.toml").write_text(
        '[tool.gradharness]\ntests = ["test_ops.py"]\nbaseline = "ci/levels.toml"\nfail-on = ["error:off"]\n'
    )
    (folder / "ci").mkdir()
    tests(source(vjp={"error": 1e-12}))
    run("record")
    assert '[tests."../test_ops.py::test_f"]' in (folder / "ci" / "levels.toml").read_text()
    tests(source(vjp={"error": 1e-3}))
    run("compare")
    run("compare", "--fail-on", "error:2x", status=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare",), f"there is no baseline {FILE}"),
        (("show",), f"there is no baseline {FILE}"),
        (("record",), "no TARGET"),
        (("record", "no_such.py"), "no such file or folder"),
        (("record", "test_ops.py", "--checks", "vpj"), "unknown check 'vpj': did you mean 'vjp'?"),
        (("record", "test_ops.py", "--profile", "fast"), "unknown profile 'fast'"),
        (("compare", "--fail-on", "eror:2x"), "unknown figure in --fail-on 'eror'"),
    ],
)
def test_what_cannot_run_is_told_in_one_line(tests, arguments, words):
    tests(source(vjp={}))
    done = run(*arguments, status=2)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_damaged_file_gives_a_two_and_stays(tests, folder):
    tests(source(vjp={}))
    (folder / FILE).write_text("[gradharness-baseline\n")
    for command in ("compare", "record", "show"):
        assert "is not TOML" in run(command, "test_ops.py", status=2).stderr
    assert (folder / FILE).read_text() == "[gradharness-baseline\n"


def test_show_narrows_to_what_is_named(tests):
    tests(source("test_f", vjp={}), source("test_g", vjp={"outcome": "fail"}))
    run("record", "test_ops.py", "--known", "issue 7")
    shown = run("show", "test_ops.py::test_g").stdout
    assert "test_f" not in shown
    assert "known failure: test_ops.py::test_g[vjp-cpu-float64]: constant factor of x: issue 7" in shown
    assert "has nothing of no.py" in run("show", "no.py", status=2).stderr


def test_levels_are_in_the_record_and_in_a_verbose_report(tests, folder):
    tests(source(vjp={"error": 1.26e-12, "cost_ratio": 1.5}, leak={"saved_bytes": 512}))
    done = CliRunner().invoke(main, ["check", "test_ops.py", "--no-store", "-v", "--json", "r.json"])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    assert "vjp-cpu-float64: largest relative error 1.3e-12 · 1.5 × the time of plain autograd" in shown
    assert "leak-cpu-float64: 512 bytes saved for backward" in shown
    (report,) = record_file.load("r.json")
    assert [(r.error, r.saved_bytes, r.cost_ratio) for r in report.results] == [
        (1.26e-12, None, 1.5),
        (None, 512, None),
    ]
    plain = CliRunner().invoke(main, ["check", "test_ops.py", "--no-store"])
    assert "largest relative error" not in plain.stdout


def test_a_record_without_levels_is_read(tests, folder):
    tests(source(vjp={}))
    CliRunner().invoke(main, ["check", "test_ops.py", "--no-store", "--json", "r.json"])
    data = json.loads(Path("r.json").read_text())
    for name in ("error", "saved_bytes", "cost_ratio"):
        del data["reports"][0]["results"][0][name]
    (report,) = record_file.from_record(data)
    assert report.results[0].error is None
