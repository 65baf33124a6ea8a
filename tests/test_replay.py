"""Failures are kept by the command line and by pytest, looked at again first, and by ``gradharness replay``."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradharness.cli import main
from gradharness.engine.campaign_store import FILE, open_store
from gradharness.engine.findings import Sighting
from gradharness.engine.kept import KeptStatus
from gradharness.engine.witness_store import WitnessStore

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
INSTALLED = any(e.value == "gradharness.pytest_plugin" for e in entry_points(group="pytest11"))
LOAD = () if INSTALLED else ("-p", "gradharness.pytest_plugin")
PLAIN = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
QUICK = """
[tool.gradharness]
profile = "quick"

[tool.gradharness.profiles.quick]
examples = 4
shrinks = 12
"""
OPS = """
import torch
from gradharness import gradient_test

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return {factor} * ctx.saved_tensors[0] * g

@gradient_test(reference=torch.square, {argument}="n", checks=["vjp", "value", "contract"])
def {name}({argument}):
    return Square.apply({argument})
"""


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(autouse=True)
def quick(tmp_path):
    (tmp_path / "pyproject.toml").write_text(QUICK)


def ops(write, factor, *, name="test_square", argument="x"):
    # Another length: a file that is written twice in one second may be taken from a cache.
    text = OPS.format(factor=factor, name=name, argument=argument) + "#" * round(10 * factor)
    forget()
    return write("test_ops.py", text, fake=False)


def forget():
    """As a new process would, which imports the file again."""
    for name in [n for n in sys.modules if n.startswith("gradharness_target_")]:
        del sys.modules[name]


def kept(folder=Path(".gradharness")):
    return WitnessStore(folder).read().witnesses


def test_a_failure_is_kept_replayed_fixed_and_looked_at_ever_after(write):
    done = run("check", ops(write, 3), "--seed", 4)
    assert done.exit_code == 1
    (witness,) = kept()
    assert witness.entry.address == "test_ops.py::test_square"
    assert f"replay: gradharness replay {witness.id}\n" in done.stdout

    again = run("replay", witness.id[:4])
    assert again.exit_code == 1
    assert f"still fails  {witness.id}  test_ops.py::test_square [vjp-cpu-float64]: constant factor" in again.stdout
    assert "gradient of x is 3/2 times the right one" in again.stdout

    done = run("check", ops(write, 2))
    assert done.exit_code == 0
    assert f"fixed: {witness.id} no longer fails (constant factor)" in done.stdout
    assert "fixed" not in run("check", "test_ops.py").stdout
    again = run("replay")
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "1 kept witness, 1 fixed")

    done = run("check", ops(write, 5))
    assert done.exit_code == 1
    assert f"fails again: {witness.id} (constant factor)" in done.stdout
    assert [w.id for w in kept()] == [witness.id]


def test_what_is_fixed_is_forgotten_when_asked_to(write):
    run("check", ops(write, 3))
    ops(write, 2)
    assert run("replay", "--prune").exit_code == 0
    assert kept() == ()
    assert run("replay").stdout == "nothing is kept in .gradharness\n"


@pytest.mark.parametrize("change", [{"name": "test_other"}, {"argument": "y"}])
def test_what_cannot_run_any_more_says_why_and_stays(write, change):
    run("check", ops(write, 3))
    ops(write, 2, **change)
    done = run("replay")
    assert done.exit_code == 2
    assert re.search("cannot run .*(known: test_other|are y now)", done.stdout)
    assert f"what cannot run stays kept; delete its file in {Path('.gradharness/witnesses')} to forget" in done.stdout
    assert [w.entry.status for w in kept()] == [KeptStatus.ERRORING]


def test_a_test_that_does_not_import_is_told_in_one_line(write):
    run("check", ops(write, 3))
    forget()
    write("test_ops.py", "1 / 0", fake=False)
    done = run("replay")
    assert done.exit_code == 2
    assert "cannot import test_ops.py, line 1: ZeroDivisionError" in done.stdout


def test_an_unknown_id_suggests_one(write):
    run("check", ops(write, 3))
    (witness,) = kept()
    done = run("replay", witness.id[:-1] + "x")
    assert (done.exit_code, done.stderr) == (
        2,
        f"gradharness: unknown witness '{witness.id[:-1]}x': did you mean {witness.id!r}?\n",
    )


def test_a_damaged_file_is_skipped_with_a_warning_and_not_deleted(write):
    run("check", ops(write, 3))
    (witness,) = kept()
    path = Path(".gradharness", "witnesses", "0123456789.safetensors")
    path.write_bytes(b"\x80\x04not a witness")
    done = run("replay")
    assert done.exit_code == 1
    assert f"gradharness: {path} is refused: it is no safetensors file, or was cut short; delete it" in done.stderr
    done = run("check", ops(write, 2))
    assert (done.exit_code, path.exists()) == (0, True)
    assert f"gradharness: warning: {path} is refused" in done.stderr
    assert f"fixed: {witness.id}" in done.stdout
    assert run("replay").exit_code == 2


def test_nothing_is_kept_without_a_store_and_elsewhere_if_asked(write):
    ops(write, 3)
    done = run("check", "test_ops.py", "--no-store", "--seed", 3)
    assert "replay: gradharness check test_ops.py::test_square --checks vjp" in done.stdout
    assert not Path(".gradharness").exists()
    done = run("check", "test_ops.py", "--store", "kept here")
    (witness,) = kept(Path("kept here"))
    assert f'replay: gradharness replay {witness.id} --store "kept here"' in done.stdout
    assert run("replay", "--store", "kept here").exit_code == 1
    assert not Path(".gradharness").exists()


def test_the_configuration_says_where_or_that_nothing_is_kept(write, folder):
    ops(write, 3)
    (folder / "pyproject.toml").write_text(QUICK.replace("profile =", "store = false\nprofile =", 1))
    run("check", "test_ops.py")
    assert not Path(".gradharness").exists()
    (folder / "pyproject.toml").write_text(QUICK.replace("profile =", 'store = "cases"\nprofile =', 1))
    run("check", "test_ops.py")
    assert len(kept(Path("cases"))) == 1
    assert run("replay").exit_code == 1


def test_a_right_test_leaves_no_folder(write):
    assert run("check", ops(write, 2)).exit_code == 0
    assert not Path(".gradharness").exists()


@pytest.mark.parametrize("store", ["", 'store = "cases"\n'])
def test_one_project_has_one_store_and_one_name_for_a_test(write, folder, monkeypatch, store):
    (folder / "pyproject.toml").write_text(QUICK.replace("profile =", f"{store}profile =", 1))
    inner = folder / "inner"
    inner.mkdir()
    done = run("check", ops(write, 3))
    (witness,) = kept(Path("cases" if store else ".gradharness"))
    monkeypatch.chdir(inner)
    forget()
    done = run("check", "../test_ops.py")
    assert f"still fails: {witness.id} (constant factor)" in done.stdout
    assert os.listdir(inner) == []
    for place in (folder, inner):
        monkeypatch.chdir(place)
        done = run("replay")
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "1 kept witness, 1 still fails")


def test_a_store_is_replayed_from_above_its_project(write, folder, monkeypatch):
    (folder / "pyproject.toml").unlink()
    (folder / "project").mkdir()
    monkeypatch.chdir(folder / "project")
    write("project/test_ops.py", OPS.format(factor=3, name="test_square", argument="x"), fake=False)
    run("check", "test_ops.py")
    monkeypatch.chdir(folder)
    done = run("replay", "--store", "project/.gradharness")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "1 kept witness, 1 still fails")


def test_a_test_outside_of_the_project_is_not_kept(write, folder, monkeypatch):
    ops(write, 3)
    inner = folder / "inner"
    inner.mkdir()
    (folder / "pyproject.toml").rename(inner / "pyproject.toml")
    monkeypatch.chdir(inner)
    done = run("check", "../test_ops.py")
    assert done.exit_code == 1
    assert "replay: gradharness check ../test_ops.py::test_square" in done.stdout
    assert not (inner / ".gradharness").exists()


def test_the_store_of_a_folder_above_is_found_by_its_tests(write, folder, monkeypatch):
    run("check", ops(write, 3))
    inner = folder / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    forget()
    assert run("replay", "--store", "../.gradharness").exit_code == 1
    ops(write, 2)
    done = run("check", "../test_ops.py", "--store", "../.gradharness")
    assert (done.exit_code, "fixed: " in done.stdout) == (0, True)


def test_a_record_says_what_came_of_each(write):
    run("check", ops(write, 3))
    assert run("replay", "--json", "replay.json").exit_code == 1
    data = json.loads(Path("replay.json").read_text())
    assert (data["tool"], data["kind"], data["schema_version"], data["refused"]) == ("gradharness", "replay", 1, [])
    (one,) = data["replayed"]
    assert (one["status"], one["before"], one["report"]["verdict"]) == ("failing", "failing", "fail")


def test_findings_of_a_campaign_are_mentioned_and_untouched(write):
    ops(write, 2)
    store = open_store(Path(".gradharness"))
    store.keep(Sighting(key="k", source="catalogue", title="t", text="x", replay="()"), 0)
    store.close()
    done = run("replay")
    assert "fuzz: 1 finding stands; gradharness fuzz --replay N looks at one again" in done.stdout
    Path(".gradharness", FILE).write_bytes(b"no database")
    assert "cannot be read now" in run("replay").stdout
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(Path(".gradharness", FILE)).execute("SELECT 1 FROM findings")


SLOW = """
import time

@gradient_test(x="n", checks=["vjp"])
def test_slow(x):
    time.sleep(60)
    return x
"""


def test_a_run_that_is_killed_has_kept_what_it_had_found(write, folder):
    write("test_ops.py", OPS.format(factor=3, name="test_square", argument="x") + SLOW, fake=False)
    command = [sys.executable, "-m", "gradharness", "check", "test_ops.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not kept() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert [w.entry.fault for w in kept()] == ["constant factor"]


# ---------------------------------------------------------------------------------------------------------- pytest


@pytest.fixture
def run_pytest(pytester):
    """Runs pytest in this process on gradient tests whose gradient is so wrong."""
    pytester.makeini("[pytest]\n")
    pytester.makefile(".toml", pyproject=QUICK)

    def run_pytest(factor, *arguments, tests=1):
        text = "".join(OPS.format(factor=factor, name=f"test_{n}", argument="x") for n in range(tests))
        pytester.makepyfile(test_ops=text + "#" * round(10 * factor))
        return pytester.runpytest_inprocess(*LOAD, *PLAIN, "-k", "vjp", *arguments)

    return run_pytest


def test_pytest_keeps_in_the_root_folder_and_says_what_came_of_it(run_pytest, pytester):
    done = run_pytest(3)
    (witness,) = kept(pytester.path / ".gradharness")
    assert witness.entry.address == "test_ops.py::test_0"
    done.stdout.fnmatch_lines([f"  replay: gradharness replay {witness.id}"])
    done.stdout.no_fnmatch_line("*failures that were kept*")
    done = run_pytest(2)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*failures that were kept*", f"fixed: {witness.id} no longer fails (constant factor)"])


def test_two_workers_keep_all_and_what_they_say_comes_together(run_pytest, pytester):
    run_pytest(3, tests=1)
    (witness,) = kept(pytester.path / ".gradharness")
    run_pytest(3, "--collect-only", tests=4)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "-k", "vjp", *LOAD)
    done.assert_outcomes(failed=4)
    assert len(kept(pytester.path / ".gradharness")) == 4
    done.stdout.fnmatch_lines([f"still fails: {witness.id} (constant factor)"])


def test_pytest_keeps_nothing_or_elsewhere_if_asked(run_pytest, pytester):
    run_pytest(3, "--gradharness-no-store").assert_outcomes(failed=1)
    assert not (pytester.path / ".gradharness").exists()
    run_pytest(3, "--gradharness-store=cases").assert_outcomes(failed=1)
    assert len(kept(pytester.path / "cases")) == 1
