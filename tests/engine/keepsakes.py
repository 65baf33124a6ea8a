"""Kept witnesses without a run."""

from __future__ import annotations

import torch

from gradharness.engine.events import CheckFinished, RunStarted
from gradharness.engine.keeping import Keeping
from gradharness.engine.plan import Item
from gradharness.engine.witness_store import WitnessStore
from gradharness.model.verdict import CheckResult, Fault, Finding, Severity, Verdict, Witness

ITEM = Item("vjp", "cpu", "float64")
NOW = "2026-01-02T03:04:05+00:00"


def keeper(folder, address="test_ops.py::test_f", now=NOW):
    """Keeps failures of one test beneath a folder."""
    keeping = Keeping(WitnessStore(folder / ".gradharness"), folder, lambda: now, {"torch": "2.13"})
    return keeping.of(str(folder / address) if "::" in address else address)


def witness(**fields):
    """A small failing case."""
    values = {
        "arguments": (("x", torch.tensor([[1.0, -2.0]], dtype=torch.float64)),),
        "cotangents": (torch.tensor([[1.0, 0.5]], dtype=torch.float64),),
        "recipe": {"sizes": {"n": 1, "d": 2}, "seed": 5},
        "label": "x",
        "index": (0, 1),
        "expected": -0.25,
        "got": -0.5,
        "bound": 3e-6,
        "active": ("x",),
    }
    return Witness(**{**values, **fields})


def fail(at, *, fault=Fault.CONSTANT_FACTOR, item=ITEM, strict=False, **fields):
    """Tells a keeper of a failed check, and gives the file's path."""
    finding = Finding(
        check=item.check, fault=fault, severity=Severity.ERROR, message="twice", witness=witness(**fields)
    )
    result = CheckResult(
        check=item.check, device=item.device, dtype=item.dtype, verdict=Verdict.FAIL, findings=(finding,)
    )
    before = set(at.keeping.store.place.glob("*")) if at.keeping.store.place.exists() else set()
    at(RunStarted("f", (item,), (), 17, "dev", strict=strict))
    at(CheckFinished(item, result))
    new = sorted(set(at.keeping.store.place.glob("*")) - before)
    return new[0] if new else None
