"""Check ``leak``: what a call allocates is given back when its results are dropped."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gradharness.checks.base import Check, Setting
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict

_WARM = 2  # calls that may fill caches
_CALLS = 4
# A cache with a limit stops growing before this: functools.lru_cache holds 128 by default.
_MANY = 160
_HEAD = (
    "import gc",
    "def living():",
    "    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())",
    "def run():",
    "    start(arguments, leaves)([w.clone() for w in cotangents])",
    "run(); run()",
    "gc.collect(); gc.disable()",
    "before = living()",
)


def examine(setting: Setting, case: Case) -> Observation:
    """Tensors that are alive after a few calls whose results were dropped, before and after a garbage collection."""
    with _quiet_collector():
        for _ in range(_WARM):
            _run(setting, case)
        gc.collect()
        before = _living()
        for _ in range(_CALLS):
            _run(setting, case)
        dropped = _living() - before
        if dropped < _CALLS:
            return Observation(verdict=Verdict.PASS)
        gc.collect()
        kept = _living() - before
        found = [_cycle(setting)] if dropped - kept >= _CALLS else []
        if kept >= _CALLS:
            for _ in range(_MANY - _CALLS):
                _run(setting, case)
            gc.collect()
            kept = _living() - before
            found += [_growth(setting, kept)] if kept >= _MANY else []
    return Observation(verdict=Verdict.PASS, warnings=tuple(found))


def _run(setting: Setting, case: Case) -> None:
    setting.subject.linearize(case.primals).pullback(case.cotangents)


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """No collection but our own, and of what is allocated in here alone: all else takes a tenth of a second."""
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        if enabled:
            gc.enable()


def _living() -> int:
    """Tensors that Python knows of."""
    # ``isinstance`` would ask proxies for their __class__, and run whatever they do then.
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


def _cycle(setting: Setting) -> Discrepancy:
    detail = (
        f"a reference cycle keeps tensors of every call of {setting.subject.name} alive until the garbage collector "
        "runs (an output kept as an attribute of ctx: use save_for_backward)"
    )
    steps = (
        *_HEAD,
        f"[run() for _ in range({_CALLS})]",
        f"sys.exit(int(living() - before >= {_CALLS}))",
    )
    return Discrepancy(label="cycle", fault=Fault.REFERENCE_CYCLE, detail=detail, steps=steps)


def _growth(setting: Setting, kept: int) -> Discrepancy:
    detail = (
        f"{setting.subject.name} keeps tensors of every call: {kept} more are alive after {_MANY} calls whose results "
        "were dropped"
    )
    steps = (
        *_HEAD,
        f"[run() for _ in range({_MANY})]",
        "gc.collect()",
        f"sys.exit(int(living() - before >= {_MANY}))",
    )
    return Discrepancy(label="growth", fault=Fault.MEMORY_GROWTH, detail=detail, steps=steps)


CHECK = Check(
    name="leak",
    proves="No tensor outlives the results of its call: neither by a reference cycle nor in a list that grows.",
    cannot="Memory that Python does not know of is not counted, and neither are saved bytes.",
    causes=(
        (
            "an output is kept on ctx, which the output's graph holds in turn",
            "use ctx.save_for_backward, which knows outputs",
        ),
        (
            "a list on the class grows with every call",
            "drop what a call has kept once its backward has run",
        ),
    ),
    examine=examine,
    weight=0.04,
)
