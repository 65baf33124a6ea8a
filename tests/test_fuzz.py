"""``gradharness fuzz``: what is found is told and kept, whatever ends the run, and one seed finds the same."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradharness.cli import main
from gradharness.engine.campaign_store import FILE, open_store
from gradharness.engine.findings import FindingStatus

ROOT = Path(__file__).parents[1]
STORE = Path(".gradharness")
RULES = """
from gradharness import vjp_of

@vjp_of("sin")
def wrong_sin(call, g):
    return -g * call.x.cos()

@vjp_of("sin")
def right_sin(call, g):
    return g * call.x.cos()
"""


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def fuzz(*arguments):
    return run("fuzz", *arguments)


def source(name="test_f", **outcomes):
    given = ", ".join(f"{k}={v!r}" for k, v in outcomes.items())
    return f"@gradient_test({given})\ndef {name}(x):\n    return x\n"


def stored(where=STORE):
    store = open_store(where)
    store.close()
    return store.findings()


def started(*arguments, cwd):
    """The real command, as a process."""
    command = [sys.executable, "-m", "gradharness", "fuzz", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A suite that a shell runs in the background ignores Ctrl-C, and what it starts would inherit that.
    return subprocess.Popen(command, cwd=cwd, env=environment, preexec_fn=listens_to_ctrl_c, **pipes)  # noqa: PLW1509


def listens_to_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until_told(process, pattern):
    """What it has printed until a line matches."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError("".join(lines) + process.stderr.read())


@pytest.fixture
def rules(write):
    return write("rules.py", RULES, fake=False)


def test_our_own_vjps_are_right(folder):
    done = fuzz("--max-programs", 60, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert re.search(r"60 programs \(\d+/s\); in all: 60 programs, \d+ of \d+ ops, .*0 findings", done.stdout)
    assert "seed 3, next round 60" in done.stdout


def test_a_wrong_rule_is_found_and_named_and_the_right_one_is_silent(rules):
    done = fuzz(rules, "--max-programs", 100, "--seed", 1)
    assert done.exit_code == 1
    assert "#1 found: rules.py::wrong_sin: the VJP of sin gives a wrong gradient of operand 0" in done.stdout
    assert "guilty: node 0, v0 = torch.sin(x0)" in done.stdout
    assert re.search(r"x0: -?[\d.]+, autograd has -?[\d.]+", done.stdout)
    assert "right_sin" not in done.stdout
    assert [f.source for f in stored()] == ["rules.py::wrong_sin"]


def test_what_the_report_prints_runs_it_again(rules):
    out = fuzz(rules, "--max-programs", 100).stdout
    command = next(line for line in out.splitlines() if line.startswith("again: gradharness "))
    again = run(*command.removeprefix("again: gradharness ").split())
    assert again.exit_code == 1
    assert "#1 recurs: rules.py::wrong_sin" in again.stdout
    literal = next(line for line in out.splitlines() if line.startswith("replay: ")).removeprefix("replay: ")
    done = fuzz(f"{rules}::wrong_sin", "--replay", literal)
    assert done.exit_code == 1
    assert "the VJP of sin gives a wrong gradient" in done.stdout
    done = fuzz(f"{rules}::right_sin", "--replay", literal)
    assert done.exit_code == 0
    assert "nothing is wrong in this program, with the VJPs of catalogue, rules.py::right_sin" in done.stdout


def test_a_mended_rule_is_gone_and_stays_quiet(rules, write):
    fuzz(rules, "--max-programs", 100)
    mended = write("rules_mended.py", RULES.replace("-g", "g"), fake=False)
    Path(mended).rename(rules)
    for name in [name for name in sys.modules if name.startswith("gradharness_target_")]:
        del sys.modules[name]
    done = fuzz(rules, "--max-programs", 10)
    assert done.exit_code == 0, done.output
    assert "#1 is gone: rules.py::wrong_sin" in done.stdout
    assert ", 1 gone;" in done.stdout
    assert stored()[0].status is FindingStatus.GONE
    assert "is gone" not in fuzz(rules, "--max-programs", 10).stdout


def test_gradient_tests_have_their_rounds(write):
    name = write("test_ops.py", source(vjp="fail", value="pass"))
    done = fuzz(name, "--max-programs", 70, "--seed", 1)
    assert done.exit_code == 1
    assert "#1 found: test_ops.py::test_f: test_f [vjp-cpu-float64]: constant factor" in done.stdout
    assert "test_f: FAIL (the gradient is wrong" in done.stdout
    assert re.search(r"replay: gradharness check test_ops.py::test_f --checks vjp .* --seed \d+", done.stdout)
    assert ", 1 check of tests, " in done.stdout


def test_two_runs_with_one_seed_find_the_same(rules):
    records = []
    for n in range(2):
        assert fuzz(rules, "--max-programs", 150, "--seed", 7, "--store", f"s{n}", "--json", f"{n}.json").exit_code == 1
        records.append(json.loads(Path(f"{n}.json").read_text()))
    assert records[0] == records[1]
    assert records[0]["findings"][0]["key"] == "rules.py::wrong_sin|sin|GRADIENT"
    assert (records[0]["kind"], records[0]["seed"], records[0]["programs"]) == ("campaign", 7, 150)


def test_a_run_that_is_killed_loses_nothing_and_goes_on(rules, folder):
    process = started(rules, "--max-time", 600, "--seed", 5, "--store", "killed", cwd=folder)
    until_told(process, "#1 found")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (found,) = stored(Path("killed"))
    assert found.source == "rules.py::wrong_sin"
    done = fuzz(rules, "--max-rounds", 400, "--store", "killed", "--json", "killed.json")
    assert done.exit_code == 1
    assert re.search(r"seed 5; (goes on at round \d+; )?looks at 1 stored finding first", done.stdout)
    assert "#1 recurs" in done.stdout
    killed = json.loads(Path("killed.json").read_text())
    fuzz(rules, "--max-rounds", killed["rounds"], "--seed", 5, "--store", "whole", "--json", "whole.json")
    whole = json.loads(Path("whole.json").read_text())
    assert killed["ops"] == whole["ops"]
    for one in (*killed["findings"], *whole["findings"]):
        del one["status"]
    assert killed == whole


def test_ctrl_c_ends_with_the_summary(rules, folder):
    process = started(rules, "--max-time", 600, cwd=folder)
    until_told(process, "#1 found")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert "#1 found: rules.py::wrong_sin" in out
    assert "next round" in out
    assert "Traceback" not in err
    assert len(stored()) == 1


def test_a_second_run_on_one_store_is_told_so(rules, folder):
    process = started(rules, "--max-time", 600, cwd=folder)
    until_told(process, "#1 found")
    done = fuzz(rules, "--max-programs", 1)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "is in use by another campaign" in done.stderr


def test_a_damaged_store_is_moved_aside_and_told(rules):
    STORE.mkdir()
    (STORE / FILE).write_bytes(b"damaged" * 1000)
    done = fuzz(rules, "--max-programs", 100)
    assert done.exit_code == 1
    assert "was damaged: it is now .gradharness/campaign-old-1.sqlite, and 0 of its findings were read" in done.stderr
    assert len(stored()) == 1


def test_a_fresh_start_forgets_and_keeps_the_old_store(rules):
    fuzz(rules, "--max-programs", 100, "--seed", 1)
    done = fuzz(rules, "--max-programs", 1, "--fresh", "--seed", 1)
    assert "stored finding" not in done.stdout
    assert "next round 1\n" in done.stdout
    assert (STORE / "campaign-old-1.sqlite").exists()


def test_a_rule_that_no_program_can_use_is_no_pass(write):
    text = "from gradharness import vjp_of\n@vjp_of(lambda x: x.nope())\ndef never(call, g):\n    return g\n"
    done = fuzz(write("rules.py", text, fake=False), "--max-programs", 420)
    assert done.exit_code == 2
    assert "rules.py::never: nothing was tried: none of 200 programs could use never" in done.stderr


def test_what_cannot_run_is_told_in_a_line(write):
    assert fuzz("no_such.py", "--max-programs", 1).exit_code == 2
    plain = write("plain.py", "x = 1", fake=False)
    done = fuzz(plain, "--max-programs", 1)
    assert done.stderr == (
        "gradharness: plain.py has no gradient test or VJP under test at module level: "
        "decorate a function with @gradient_test or @vjp_of\n"
    )
    done = fuzz("--replay", 3)
    assert done.exit_code == 2
    assert "has no finding of this number; it has: none" in done.stderr
    done = fuzz("--replay", "sin(x)")
    assert done.exit_code == 2
    assert "is no program: give the whole literal after 'replay:', in quotes" in done.stderr
    assert "the folder does not exist" in fuzz("--json", "no/such.json").stderr


def test_a_test_that_cannot_run_is_an_error(write):
    name = write("test_ops.py", source(vjp="usage"))
    done = fuzz(name, "--max-programs", 70)
    assert done.exit_code == 2
    assert "test_ops.py::test_f: x='n d d2': the example has 2 dims" in done.stderr


def test_a_folder_gives_rules_and_tests(write):
    write("deep/rules.py", RULES, fake=False)
    write("deep/test_ops.py", source(vjp="fail"))
    done = fuzz("deep", "--max-programs", 100)
    assert {f.source for f in stored()} == {"deep/rules.py::wrong_sin", "deep/test_ops.py::test_f"}
    assert done.exit_code == 1


def test_check_passes_over_rules(rules):
    done = run("check", rules)
    assert done.exit_code == 2
    assert "has no gradient test at module level: gradharness fuzz runs its VJPs under test, or" in done.stderr


def test_ops_are_listed():
    done = run("list", "--ops")
    assert done.exit_code == 0
    assert re.search(r"^sin +torch.sin\(\{0\}\)$", done.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_example_has_one_wrong_rule_and_two_right_ones(folder, seed):
    done = fuzz(ROOT / "examples/vjp_rules.py", "--max-programs", 400, "--seed", seed)
    assert done.exit_code == 1
    (found,) = stored()
    assert found.source.endswith("vjp_rules.py::wrong_softmax")
    assert found.title == "the VJP of softmax gives a wrong gradient of operand 0, in a program of 1 op"


def test_a_full_disk_ends_the_run_and_shows_what_was_found(rules, monkeypatch):
    full = "BEFORE INSERT ON findings BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    fuzz("--max-programs", 1)
    with sqlite3.connect(STORE / FILE) as connection:
        connection.execute(f"CREATE TRIGGER full {full}")
    connection.close()
    done = fuzz(rules, "--max-programs", 100)
    assert done.exit_code == 1
    assert "#1 found: rules.py::wrong_sin" in done.stdout
    assert "database or disk is full; free some space, or give --store" in done.stderr


def test_a_finding_whose_file_is_gone_cannot_be_looked_at(rules):
    fuzz(rules, "--max-programs", 100)
    Path(rules).unlink()
    done = fuzz("--replay", 1)
    assert done.exit_code == 2
    assert "#1 cannot be looked at: rules.py: no such file or folder" in done.stderr
    done = fuzz("--max-programs", 10)
    assert done.exit_code == 0
    assert "#1 not looked at: its source is not among what was asked for" in done.stdout


def test_the_configuration_says_where_findings_are_from_wherever_in_the_project(rules, folder, monkeypatch):
    (folder / "pyproject.toml").write_text('[tool.gradharness]\nstore = "cases"\n')
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder / "inner")
    assert fuzz("../rules.py", "--max-programs", 60, "--seed", 3).exit_code == 1
    assert (os.listdir(folder / "inner"), (folder / "cases" / FILE).exists()) == ([], True)
    for place, path in ((folder, "rules.py"), (folder / "inner", "../rules.py")):
        monkeypatch.chdir(place)
        done = fuzz("--replay", 1)
        assert done.exit_code == 1, done.output
        assert "rules.py::wrong_sin" in done.stdout
        done = fuzz(path, "--max-programs", 1)
        assert "recurs" in done.stdout
        assert ": 1 program (" in done.stdout
    (folder / "pyproject.toml").write_text("[tool.gradharness]\nstore = false\n")
    done = fuzz("--max-programs", 1)
    told = "gradharness: [tool.gradharness] says store = false: give --store FOLDER\n"
    assert (done.exit_code, done.stderr) == (2, told)


def test_a_module_and_attribute_is_a_target(write):
    write("rule_module.py", RULES, fake=False)
    assert fuzz("rule_module:right_sin", "--max-programs", 20).exit_code == 0
    done = fuzz("rule_module:wrong_sin", "--max-programs", 60)
    assert done.exit_code == 1
    assert "#1 found: rule_module:wrong_sin: the VJP of sin" in done.stdout
