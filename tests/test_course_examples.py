"""The examples of a course's systems: what is right passes, and what fails on purpose says why."""

from pathlib import Path

import pytest
import torch

from gradharness import Fault, Verdict
from gradharness.cli.loading import load_file

EXAMPLES = Path(__file__).parents[1] / "examples"
RIGHT = {
    "convolutional_model": ("test_model",),
    "linear_module": ("test_lr", "test_my_linear"),
    "worked_example": ("test_worked_example",),
    "linear_regression": ("test_by_autograd", "test_by_hand"),
    "recurrent": ("test_rnn",),
    "logistic_regression_training": ("test_lr",),
}
WRONG = {
    ("convolutional_model", "test_wrong_model"): ("vjp", None),
    ("linear_module", "test_wrong_my_linear"): ("module", None),
    ("worked_example", "test_wrong_worked_example"): ("vjp", Fault.CONSTANT_FACTOR),
    ("linear_regression", "test_wrong_without_zero_grad"): ("training", Fault.STALE_GRADIENT),
    ("recurrent", "test_wrong_rnn"): ("vjp", None),
    ("logistic_regression_training", "test_wrong_adding_lr"): ("training", Fault.STALE_GRADIENT),
    ("logistic_regression_training", "test_wrong_decaying_lr"): ("training", Fault.SHARED_STATE),
}


def loaded(file, name):
    found = getattr(load_file(EXAMPLES / f"{file}.py"), name)
    found.named(name)
    return found


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in RIGHT.items() for name in names])
def test_the_right_ones_pass(file, name):
    test = loaded(file, name)
    items = [item for item in test.items() if item.device == "cpu" and item.check != "program"]
    report = test.run(items, seed=1, time_limit=20)
    assert report.verdict is Verdict.PASS, report


@pytest.mark.parametrize(("file", "name"), WRONG)
def test_the_wrong_ones_fail_and_say_why(file, name):
    check, fault = WRONG[file, name]
    test = loaded(file, name)
    report = test.run([item for item in test.items() if item.device == "cpu" and item.check == check], seed=1)
    assert report.verdict is Verdict.FAIL
    assert fault in (None, report.findings[0].fault)


def test_every_example_of_the_course_is_looked_at():
    named = {(file, name) for file, names in RIGHT.items() for name in names} | set(WRONG)
    for file in RIGHT:
        found = load_file(EXAMPLES / f"{file}.py")
        assert {(file, name) for name in vars(found) if name.startswith("test_")} <= named


def test_the_worked_example_is_eight_thirds_everywhere():
    module = load_file(EXAMPLES / "worked_example.py")
    x = module.X.clone().requires_grad_()
    module.forward(x).backward()
    by_hand = module.backward(module.X, torch.tensor(1.0))
    for gradient in (x.grad, by_hand):
        torch.testing.assert_close(gradient, torch.full((3, 3), 8 / 3))


@pytest.mark.parametrize("loop", ["by_autograd", "by_hand"])
def test_the_regression_learns_the_line(loop):
    module = load_file(EXAMPLES / "linear_regression.py")
    model = module.LinearRegression()
    getattr(module, loop)(model, [(module.x, 2 * module.x + 1)] * module.EPOCHS)
    torch.testing.assert_close(model(module.x).detach(), 2 * module.x + 1, atol=0.05, rtol=0.05)


@pytest.mark.cuda
def test_the_regression_on_cuda():
    test = loaded("linear_regression", "test_by_hand")
    report = test.run([item for item in test.items() if item.device == "cuda"], seed=1, time_limit=20)
    assert report.verdict is Verdict.PASS, report
