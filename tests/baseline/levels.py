"""Gradient tests with given levels, so that baselines are tested without a search."""

from __future__ import annotations

from dataclasses import replace

from gradharness.baseline.model import Entry, Key, Measured
from gradharness.engine.events import RunFinished, RunStarted
from gradharness.engine.plan import Item
from gradharness.model.verdict import Fault, Report, Verdict
from tests.fakes import ERROR, FakeTest, result

HERE = (
    ("gradharness", "0.1.0"),
    ("torch", "2.13.0"),
    ("python", "3.11.7"),
    ("threads", "1"),
    ("machine", "x86_64"),
    ("processor", "one"),
    ("profile", "ci"),
    ("seed", "0"),
)


def elsewhere(**values):
    """The environment with some values replaced."""
    return tuple((name, str(values.get(name, value))) for name, value in HERE)


def key(check="vjp", subject="test_ops.py::test_f", device="cpu", dtype="float64"):
    return Key(subject, check, device, dtype)


def entry(verdict="pass", **levels):
    return Entry(verdict=verdict, **{"environment": HERE, **levels})


def found(verdict="pass", at=None, **levels):
    """What a run has found; a failure is a constant factor of x."""
    told = {name: levels.pop(name) for name in ("fault", "label", "message", "no_device") if name in levels}
    if verdict == "fail":
        told = {"fault": "constant factor", "label": "x", **told}
    return Measured(key=at or key(), entry=entry(verdict, **levels), **told)


class Leveled(FakeTest):
    """Has the levels that it is given, check by check: fields of its result, and the ``outcome`` of ``tests.fakes``."""

    def __init__(self, function, levels, environment, items):
        super().__init__(function, levels)
        self.options, self.defaults = {}, {}
        self.environment = environment
        self.planned = items

    def items(self):
        return self.planned or tuple(Item(check, "cpu", "float64") for check in self.outcomes)

    def run(self, items=None, *, emit, seed=None, profile=None, strict=None, time_limit=None, known=None):
        emit(RunStarted(self.name, items, (), seed))
        results = tuple(self._result(item) for item in items)
        environment = tuple(pair for pair in self.environment if pair[0] not in ("gradharness", "profile", "seed"))
        report = Report(
            subject=self.name,
            results=results,
            seed=seed or 0,
            profile=profile or "dev",
            environment=environment,
            seconds=0.1,
        )
        emit(RunFinished(report))
        return report

    def _result(self, item):
        levels = dict(self.outcomes[item.check])
        outcome, fault = levels.pop("outcome", "pass"), levels.pop("fault", None)
        made = replace(result(item, outcome), **({"resolution": None} if outcome == "pass" else {}))
        if fault is not None:
            made = replace(made, findings=(replace(ERROR, check=item.check, fault=Fault(fault)),))
        return replace(made, **levels) if made.verdict is Verdict.PASS else made


def leveled(environment=HERE, items=None, **levels):
    """Stands in for ``gradharness.gradient_test``."""
    return lambda function: Leveled(function, levels, environment, items)


def source(name="test_f", environment=HERE, items=None, **levels):
    """A file's lines for one such test."""
    given = ", ".join(f"{check}={values!r}" for check, values in levels.items())
    return (
        "from gradharness.engine.plan import Item\nfrom tests.baseline.levels import leveled\n\n"
        f"@leveled(environment={environment!r}, items={items!r}, {given})\ndef {name}(x):\n    return x\n"
    )
