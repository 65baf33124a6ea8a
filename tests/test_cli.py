"""The command line: exit statuses, one-line errors, what is found in files and folders."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradharness.checks import all_checks
from gradharness.cli import main
from gradharness.report import record

ROOT = Path(__file__).parents[1]


def source(name="test_f", **outcomes):
    given = ", ".join(f"{k}={v!r}" for k, v in outcomes.items())
    return f"@gradient_test({given})\ndef {name}(x):\n    return x\n"


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def check(*arguments):
    return run("check", *arguments)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ({"vjp": "pass"}, 0),
        ({"vjp": "pass", "linearity": "skipped"}, 0),
        ({"vjp": "warning"}, 0),
        ({"vjp": "pass", "linearity": "fail"}, 1),
        ({"vjp": "undecided", "linearity": "fail"}, 1),
        ({"vjp": "pass", "linearity": "undecided"}, 3),
        ({"vjp": "skipped"}, 3),
        ({"vjp": "usage"}, 2),
        ({"vjp": "crash"}, 2),
    ],
)
def test_the_exit_status_says_what_was_found(write, outcomes, status):
    assert check(write("test_ops.py", source(**outcomes))).exit_code == status


def test_a_warning_fails_when_strict(write):
    assert check(write("test_ops.py", source(vjp="warning")), "--strict").exit_code == 1


def test_all_targets_run_and_the_worst_decides(write):
    right = write("test_a.py", source("test_right", vjp="pass"))
    wrong = write("test_b.py", source("test_wrong", vjp="fail"))
    done = check("no_such.py", right, wrong)
    assert done.exit_code == 1
    assert "test_right: PASS" in done.stdout
    assert "test_wrong: FAIL" in done.stdout
    assert done.stdout.rstrip().splitlines()[-2:] == ["pass       test_right", "FAIL       test_wrong"]
    assert done.stderr == (
        "gradharness: no_such.py: no such file or folder: give PATH, PATH::NAME or module:attribute\n"
    )


def test_the_command_in_the_report_runs_that_check_again(write):
    write("test_ops.py", source(vjp="fail", linearity="pass"))
    command = next(line for line in check("test_ops.py", "--no-store").stdout.splitlines() if "replay:" in line)
    again = run(*command.split("gradharness ")[1].split())
    assert again.exit_code == 1
    assert "linearity" not in again.stdout
    assert "seed 17" in again.stdout


def test_a_name_selects_one_test(write):
    write("test_ops.py", source("test_a", vjp="fail"), source("test_b", vjp="pass"))
    done = check("test_ops.py::test_b")
    assert (done.exit_code, "test_a" in done.stdout) == (0, False)


def test_a_module_and_attribute(write):
    write("target_module.py", source(vjp="pass"), "def plain(x):\n    return x\n")
    assert check("target_module:test_f").exit_code == 0
    done = check("target_module:plain")
    assert done.exit_code == 2
    assert "target_module:plain is a function, not a gradient test" in done.stderr
    assert "@gradient_test" in done.stderr


def test_a_folder_gives_the_files_that_mention_gradient_tests(write):
    write("deep/test_a.py", source("test_a", vjp="pass"))
    write("deep/ops.py", source("test_b", vjp="pass"))
    write("deep/other.py", "raise SystemExit('not to be imported')", fake=False)
    write("deep/.hidden/test_c.py", source("test_c", vjp="pass"))
    write("deep/venv/test_d.py", source("test_d", vjp="pass"))
    write("deep/venv/pyvenv.cfg", fake=False)
    done = check("deep")
    assert done.exit_code == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines() if ": PASS" in line] == ["test_b", "test_a"]


def test_a_broken_file_in_a_folder_does_not_stop_the_others(write):
    write("deep/test_a.py", "import no_such_module_here")
    write("deep/test_b.py", source(vjp="pass"))
    done = check("deep")
    assert done.exit_code == 2
    assert "test_f: PASS" in done.stdout
    assert "cannot import deep/test_a.py, line 2: ModuleNotFoundError" in done.stderr


def test_a_test_that_another_file_imports_runs_once(write):
    write("test_a.py", source(vjp="pass"))
    write("test_b.py", "from test_a import test_f\n", fake=False)
    (Path("test_b.py")).write_text("from test_a import test_f  # a gradient_test\n")
    assert check(".").stdout.count(": PASS") == 1


def test_siblings_import_and_dataclasses_and_pickle_work(write):
    write("helper_of_target.py", "VALUE = 1", fake=False)
    write(
        "test_ops.py",
        "import dataclasses, pickle\nfrom helper_of_target import VALUE\n"
        "@dataclasses.dataclass\nclass D:\n    x: 'int'\npickle.dumps(D(1))\n",
        source(vjp="pass"),
    )
    before = list(sys.path)
    done = check("test_ops.py")
    assert (done.exit_code, done.stderr) == (0, "")
    assert sys.path == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = = 1", "cannot import test_ops.py, line 1: SyntaxError: invalid syntax"),
        ("import no_such_module_here", "cannot import test_ops.py, line 1: ModuleNotFoundError: No module named"),
        ("def f():\n    raise ValueError('one\\ntwo')\nf()", "cannot import test_ops.py, line 2: ValueError: one;"),
        ("import sys; sys.exit(4)", "cannot import test_ops.py, line 1: exits with status 4; guard"),
        ("x = 1", "test_ops.py has no gradient test at module level: decorate a function with @gradient_test"),
    ],
)
def test_a_file_that_gives_no_test_is_one_line_and_status_2(write, content, message):
    done = check(write("test_ops.py", content, fake=False))
    assert done.exit_code == 2
    assert done.stderr.startswith(f"gradharness: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_verbose_gives_the_traceback(write):
    done = check(write("test_ops.py", "import no_such_module_here", fake=False), "-v")
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checks", "vpj"], "unknown check 'vpj': did you mean 'vjp'?"),
        (["--dtype", "float46"], "unknown dtype 'float46': did you mean 'float64'?"),
        (["--device", "gpu"], "unknown device 'gpu': did you mean 'cpu'?"),
        (["--json", "no/such/file.json"], "--json no/such/file.json: the folder does not exist; make it first"),
        (["--checks", "contract"], "test_ops.py::test_f: none of its checks is left by --checks"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(write, arguments, message):
    done = check(write("test_ops.py", source(vjp="pass")), *arguments)
    assert (done.exit_code, done.stderr) == (2, f"gradharness: {message}\n")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("test_ops.py::test_g", "unknown gradient test in test_ops.py 'test_g': did you mean 'test_f'?"),
        (".::test_f", ".::test_f: . is a folder: name a file before '::'"),
        ("empty", "empty has no Python file that mentions gradient_test: decorate a function with @gradient_test"),
        ("no_such_module:f", "cannot import module 'no_such_module': ModuleNotFoundError: No module named"),
        ("test_ops:test_g", "unknown attribute of test_ops 'test_g': did you mean 'test_f'?"),
    ],
)
def test_a_target_that_leads_nowhere(write, folder, target, message):
    write("test_ops.py", source(vjp="pass"))
    (folder / "empty").mkdir()
    done = check(target)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"gradharness: {message}")


@pytest.mark.parametrize(
    "arguments", [[], ["--profile", "fast", "f.py"], ["--seed", "-1", "f.py"], ["--checks", "a,,b", "f.py"]]
)
def test_options_that_cannot_be_are_status_2(arguments):
    assert check(*arguments).exit_code == 2


def test_a_spec_error_is_told_in_one_line(write):
    done = check(write("test_ops.py", source(vjp="unplannable")))
    assert done.stderr == "gradharness: test_ops.py::test_f: x='n d d2': the example has 2 dims; write 'n d'\n"


def test_devices_dtypes_seed_and_profile_reach_the_run(write):
    write("test_ops.py", source(vjp="pass", linearity="pass"))
    arguments = ["--checks", "vjp", "--dtype", "float64,float32", "--device", "cpu,cuda", "--seed", "5"]
    done = check("test_ops.py", *arguments, "--profile", "ci")
    assert [line.split()[0] for line in done.stdout.splitlines() if "errors above" in line] == [
        "vjp-cpu-float64",
        "vjp-cpu-float32",
        "vjp-cuda-float64",
        "vjp-cuda-float32",
    ]
    assert "seed 5, profile ci" in done.stdout


def test_the_record_holds_every_report(write):
    write("test_ops.py", source("test_a", vjp="fail"), source("test_b", vjp="pass"))
    check("test_ops.py", "--json", "record.json")
    assert [report.subject for report in record.load("record.json")] == ["test_a", "test_b"]
    assert json.loads(Path("record.json").read_text())["schema_version"] == 1


def test_an_interrupt_prints_and_records_what_was_found(write):
    write("test_ops.py", source(vjp="fail", linearity="interrupt", value="pass"), source("test_g", vjp="pass"))
    done = check("test_ops.py", "--json", "record.json", "--profile", "deep")
    assert done.exit_code == 130
    assert "seed 17, profile deep" in done.stdout
    assert "the gradient of `x` is 2 times the right one" in done.stdout
    assert "note: interrupted: 2 of 3 checks did not finish" in done.stdout
    assert "test_g" not in done.stdout
    assert len(record.load("record.json")) == 1


def test_an_interrupted_import_is_status_130(write):
    done = check(write("test_ops.py", "raise KeyboardInterrupt", fake=False))
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_at_the_time_limit_the_rest_is_undecided(write):
    write("test_ops.py", source(vjp="pass", linearity="pass"))
    done = check("test_ops.py", "--time-limit", "1e-9")
    assert done.exit_code == 3
    assert done.stdout.count("undecided  the time limit left") == 2


def test_list_names_every_check_and_what_it_proves():
    done = run("list")
    assert done.exit_code == 0
    for one in all_checks():
        assert f"\n{one.name} " in f"\n{done.stdout}"
        assert one.proves in " ".join(done.stdout.split())
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.parametrize("one", all_checks(), ids=lambda c: c.name)
def test_explain_says_what_a_check_proves_and_what_it_cannot(one):
    done = run("explain", one.name)
    text = " ".join(done.stdout.split())
    assert done.exit_code == 0
    assert f"proves: {one.proves}" in text
    assert f"cannot: {one.cannot}" in text


def test_explain_of_an_unknown_check_suggests_one():
    done = run("explain", "vpj")
    assert (done.exit_code, done.stderr) == (2, "gradharness: unknown check 'vpj': did you mean 'vjp'?\n")


def test_it_runs_as_a_module_and_help_is_light():
    code = "import sys; sys.argv = ['gradharness', '--help']\nfrom gradharness.cli import main\ntry: main()\n"
    code += "finally: assert not {'torch', 'rich', 'msgspec', 'hypothesis'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "check" in done.stdout


def test_output_without_unicode_does_not_crash(write, folder):
    write("test_ops.py", source(vjp="fail"))
    done = subprocess.run(
        [sys.executable, "-m", "gradharness", "check", "test_ops.py"],
        cwd=folder,
        capture_output=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert done.returncode == 1, done.stderr
    assert b"expected -0.25 ? 3e-06   got -0.5" in done.stdout


OPS = """
import torch
import torch.nn.functional as F
from gradharness import gradient_test

class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, {factor} * (g.T @ x)

@gradient_test(reference=F.linear, x="n d", weight="k d", checks=["vjp", "linearity"])
def test_linear(x, weight):
    return Linear.apply(x, weight)
"""


def test_a_real_fault_is_found_recorded_replayed_and_reproduced(folder):
    ops = folder / "ops_of_a_user.py"
    ops.write_text(OPS.format(factor=2))
    done = check("ops_of_a_user.py", "--json", "record.json")
    assert done.exit_code == 1, done.stderr
    assert "expected" in done.stdout
    assert "weight" in done.stdout

    command = next(line for line in done.stdout.splitlines() if "replay:" in line)
    again = run(*command.split("gradharness ")[1].split())
    assert again.exit_code == 1

    (report,) = record.load("record.json")
    (folder / "reproducer.py").write_text(report.findings[0].reproducer)

    def reproduce():
        arguments = [sys.executable, "-B", "reproducer.py"]
        environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
        return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    wrong = reproduce()
    assert (wrong.returncode, wrong.stderr) == (1, "")
    ops.write_text(OPS.format(factor=1))
    right = reproduce()
    assert (right.returncode, right.stderr) == (0, "")


def test_a_right_backward_passes(folder):
    (folder / "ops_of_a_user.py").write_text(OPS.format(factor=1))
    done = check("ops_of_a_user.py")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "errors above" in done.stdout
