"""The examples do what their first lines say."""

import subprocess
import sys
from pathlib import Path

import pytest

from gradharness import Fault, Verdict
from gradharness.cli.loading import load_file

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def logistic_regression():
    return load_file(EXAMPLES / "logistic_regression.py")


def run(test, seed=1):
    test.named("test")
    return test.run(seed=seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_course_class_breaks_beyond_one_feature_and_one_sample(logistic_regression, seed):
    report = run(logistic_regression.test_course_lr, seed)
    assert report.verdict is Verdict.FAIL
    finding = report.findings[0]
    assert finding.fault in (Fault.FORWARD_RAISES, Fault.WRONG_FORWARD)
    sizes = {name: tuple(value.shape) for name, value in finding.witness.arguments}
    # One feature and one sample is the one shape that works; one step beyond is the smallest witness.
    assert sorted(sizes["x"]) in ([0, 2], [1, 2])


def test_the_course_class_is_right_for_the_one_shape_that_it_works_for(logistic_regression):
    import torch

    from gradharness import gradient_test, tensor

    one = {
        "x": tensor("1 1", low=-1, high=1, grad=False),
        "y": tensor("1 1", low=0, high=1, grad=False),
        "W": tensor("1 1", low=-0.5, high=0.5),
        "b": tensor("", low=-1, high=1),
    }
    subject = logistic_regression.logistic_regression(logistic_regression.CourseLR)
    assert torch.is_tensor(subject.build().W)
    report = gradient_test(subject, inputs=one, reference=logistic_regression.reference).run(seed=1)
    assert report.verdict is Verdict.PASS


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_repaired_class_passes_with_its_resolution(logistic_regression, seed):
    report = run(logistic_regression.test_repaired_lr, seed)
    assert report.verdict is Verdict.PASS
    resolutions = {r.check: r.resolution for r in report.results}
    assert resolutions["vjp"] < 1e-4
    assert resolutions["shape"] < 1e-4


def test_the_linear_functions():
    module = load_file(EXAMPLES / "linear_function.py")
    assert run(module.test_linear).verdict is Verdict.PASS
    report = run(module.test_clipping_linear)
    assert report.findings[0].fault is Fault.NOT_LINEAR
    assert report.findings[0].witness.elements <= 4


def gradharness(*arguments):
    command = [sys.executable, "-m", "gradharness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_main_job_ends_in_one():
    done = gradharness("check", "examples/logistic_regression.py", "--seed", "1", "--no-store")
    assert done.returncode == 1, done.stderr
    assert "test_course_lr: FAIL" in done.stdout
    assert "test_repaired_lr: PASS" in done.stdout


def test_as_pytest_the_wrong_items_fail_and_the_repaired_pass(tmp_path):
    junit = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "examples/logistic_regression.py", "-q", "-p", "no:cacheprovider"]
    command += ["--gradharness-seed", "1", f"--junitxml={junit}", "--gradharness-no-store"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed
    assert all("test_course_lr[" in line for line in failed)
    assert "test_repaired_lr[vjp-cpu-float64]" in junit.read_text()


@pytest.mark.parametrize("name", ["test_course_lr", "test_clipping_linear"])
def test_reproducers_of_the_examples_end_in_one(name, tmp_path, logistic_regression):
    modules = (logistic_regression, load_file(EXAMPLES / "linear_function.py"))
    test = next(getattr(m, name) for m in modules if hasattr(m, name))
    finding = next(f for f in test.run(seed=1).findings if f.check in ("vjp", "value"))
    script = tmp_path / "reproduce.py"
    script.write_text(finding.reproducer, encoding="utf-8")
    assert "import gradharness" not in finding.reproducer
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, finding.reproducer + done.stdout + done.stderr
