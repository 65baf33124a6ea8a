"""A gradient test with given outcomes, so that the command line and the plugin are tested without a search."""

from __future__ import annotations

from dataclasses import replace

import torch

from gradharness.engine.events import CheckFinished, CheckStarted, ExampleExamined, RunFinished, RunStarted
from gradharness.engine.plan import Item
from gradharness.errors import SpecError
from gradharness.model.verdict import CheckResult, Fault, Finding, Report, Severity, Verdict, Witness

WITNESS = Witness(
    arguments=(("x", torch.tensor([[1.0, -2.0]], dtype=torch.float64)), ("n", 3)),
    cotangents=(torch.tensor([[1.0]], dtype=torch.float64),),
    recipe={"seed": 5},
    label="x",
    index=(0, 1),
    expected=-0.25,
    got=-0.5,
    bound=3e-6,
    active=("x",),
    whole=torch.tensor([[0.0, -0.25]], dtype=torch.float64),
    whole_bound=torch.tensor([[1e-12, 3e-6]], dtype=torch.float64),
)
ERROR = Finding(
    check="vjp",
    fault=Fault.CONSTANT_FACTOR,
    severity=Severity.ERROR,
    message="the gradient of `x` is 2 times the right one",
    evidence=("2 of 2 elements are wrong",),
    witness=WITNESS,
)
WARNING = Finding(
    check="contract", fault=Fault.WRONG_DTYPE, severity=Severity.WARNING, message="float32 inside a float64 backward"
)


def result(item: Item, outcome: str) -> CheckResult:
    """What a check gives that is said to have this outcome."""
    base = CheckResult(
        check=item.check, device=item.device, dtype=item.dtype, verdict=Verdict.PASS, examples=25, seconds=0.25
    )
    match outcome:
        case "pass":
            return replace(base, resolution=3e-6)
        case "warning":
            return replace(base, resolution=3e-6, findings=(replace(WARNING, check=item.check),))
        case "fail":
            return replace(base, verdict=Verdict.FAIL, findings=(replace(ERROR, check=item.check),))
        case "undecided":
            return replace(base, verdict=Verdict.UNDECIDED, undecided=25, reason="float32 differences are too coarse")
        case "skipped":
            return replace(base, verdict=Verdict.SKIPPED, examples=0, reason="torch sees no CUDA device")
        case "usage":
            raise SpecError("x='n d d2': the example has 2 dims; write 'n d'")
        case "crash":
            raise RuntimeError("something of ours broke")
        case "interrupt":
            raise KeyboardInterrupt
    raise AssertionError(outcome)


class FakeTest:
    """Has what the command line and the plugin use of a GradientTest."""

    __gradharness__ = True

    def __init__(self, function, outcomes):
        self.function = function
        self.name = self.__name__ = function.__name__
        self.outcomes = outcomes

    def __call__(self):
        raise AssertionError("not called by the command line or the plugin")

    def named(self, name):
        assert self.function is not None

    def items(self):
        if "unplannable" in self.outcomes.values():
            raise SpecError("x='n d d2': the example has 2 dims; write 'n d'")
        return tuple(Item(check, "cpu", "float64") for check in self.outcomes)

    def run(self, items=None, *, emit=None, seed=None, profile=None, strict=None, time_limit=None, known=None):
        items = self.items() if items is None else items
        emit = emit or (lambda _event: None)
        emit(RunStarted(self.name, items, ("x: float64[n, d]",), seed or 17))
        results = []
        for item in items:
            emit(CheckStarted(item))
            emit(ExampleExamined(item, 1, 25))
            given = result(item, self.outcomes[item.check])
            if strict and given.findings:
                given = replace(given, verdict=Verdict.FAIL)
            if time_limit is not None and time_limit < 1:
                given = replace(given, verdict=Verdict.UNDECIDED, reason="the time limit left no time for it")
            results.append(given)
            emit(CheckFinished(item, results[-1]))
        report = Report(
            subject=self.name,
            results=tuple(results),
            domain=("x: float64[n, d]",),
            seed=seed or 17,
            profile=profile or "dev",
            environment=(("torch", "2.13"),),
            seconds=1.5,
        )
        emit(RunFinished(report))
        return report


def gradient_test(**outcomes):
    """Stands in for ``gradharness.gradient_test``: the checks, and the outcome of each."""
    return lambda function: FakeTest(function, outcomes)
