"""What it costs to follow a training of 1000 epochs: the time of the check beside that of both loops run plainly.

    python benchmarks/training_cost.py

The loop is a course's: linear regression of y = 2x + 1 at x = 0 … 10, SGD with lr 0.01; once with autograd and
torch.optim, and once with its gradients and its update written by hand.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import torch

from gradharness import training
from gradharness.checks import Setting, find_check
from gradharness.engine.looking import Looker
from gradharness.engine.question import ask
from gradharness.inputs.recipe import example_recipe
from gradharness.model.verdict import Verdict

EPOCHS = 1000
ROUNDS = 7
X = torch.arange(11, dtype=torch.float64).reshape(-1, 1)
Y = 2 * X + 1


def model() -> torch.nn.Module:
    return torch.nn.Linear(1, 1)


def descent(params: list[torch.Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.01)


def with_autograd(model: torch.nn.Module, batches: object) -> None:
    criterion = torch.nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in batches:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def by_hand(model: torch.nn.Module, batches: object) -> None:
    with torch.no_grad():
        for x, y in batches:
            error = 2 * (x @ model.weight.T + model.bias - y) / len(x)
            dw, db = error.T @ x, error.sum(0)
            model.weight -= 0.01 * dw
            model.bias -= 0.01 * db


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def checked(loop: Callable[..., object]) -> Callable[[], object]:
    subject = training(loop, model=model, loss=torch.nn.MSELoss(), optimizer=descent, steps=EPOCHS)
    question = ask(subject, (X, Y), None, surrogate=False)
    setting = Setting.of(question.subject, own=question.subject.own_forward())
    looker = Looker(setting, find_check("training"), question.domain)
    recipe = example_recipe(question.domain)

    def run() -> None:
        observation = looker.look(recipe).observation
        assert observation is not None
        assert observation.verdict is Verdict.PASS, observation

    return run


def main() -> None:
    """Prints the ratio for either loop being the one that is checked."""
    warnings.simplefilter("ignore")  # of torch, where sizes that do not fit are tried on the loss
    batches = [(X, Y)] * EPOCHS
    for loop in (by_hand, with_autograd):
        check = checked(loop)
        check()
        ratios, costs = [], []
        for _ in range(ROUNDS):
            plain = sum(seconds(lambda f=f: f(model().double(), batches)) for f in (loop, with_autograd))
            cost = seconds(check)
            ratios.append(cost / plain)
            costs.append((cost, plain))
        cost, plain = (statistics.median(column) for column in zip(*costs, strict=True))
        print(
            f"{loop.__name__:14s} check {cost * 1000:6.0f} ms, both loops plainly {plain * 1000:6.0f} ms, "
            f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
