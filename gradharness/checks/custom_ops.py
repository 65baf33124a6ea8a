"""Custom ops: what their registration says of them, and what tracing makes of them, by ``torch.library.opcheck``.

Its AOTAutograd test is what ``torch.compile(backend="aot_eager")`` does with an op: forward and backward traced with
dynamic shapes, beside eager mode. It knows nothing of right gradients, which is the other checks' business.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gradharness.checks.base import Setting
from gradharness.errors import first_line
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.subjects.transformed import AnyCallable, is_random

_LARGEST = 64  # elements of a case that is compiled: what is checked here does not depend on sizes
_TESTS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
# What a test says of an op that has not registered what it needs; that is not asked.
_ABSENT = ("no fake impl", "no fake kernel", "register_fake", "meta implementation", "abstract impl")


def registered(setting: Setting, case: Case, function: AnyCallable) -> Iterator[tuple[bool, Discrepancy]]:
    """Schema, aliasing, autograd registration, fake kernel and AOTAutograd of a ``torch.library`` op.

    Each takes tens of milliseconds (the first one a second and more), so that one small case in a run is looked at:
    the example, or a plain one.
    """
    op = operator_of(function)
    if op is None or is_random(setting.subject) or not _is_chosen(case):
        return
    arguments = tuple(_example(value) for value in case.primals.arguments(case.primals.leaves))
    active = {int(path[0]) for path in case.primals.active}
    arguments = tuple(
        a.requires_grad_() if i in active and isinstance(a, torch.Tensor) else a for i, a in enumerate(arguments)
    )
    for test, text in _failures(op, arguments):
        detail = f"torch.library.opcheck: {test} fails: {text}"
        yield True, Discrepancy(label=test, fault=Fault.CUSTOM_OP, detail=detail, steps=_steps(test))


def operator_of(function: AnyCallable) -> Any | None:
    """The overload behind a custom op as users hold it; None for anything else."""
    overload = getattr(function, "_opoverload", None)
    if overload is not None:
        return overload
    if isinstance(function, torch._ops.OpOverload):
        return function
    if isinstance(function, torch._ops.OpOverloadPacket):
        names = function.overloads()  # type: ignore[no-untyped-call]
        return getattr(function, names[0]) if len(names) == 1 else None
    return None


def _is_chosen(case: Case) -> bool:
    small = case.elements <= _LARGEST
    return small and (bool(case.recipe.get("example")) or case.recipe.get("style") == "normal")


def _example(value: object) -> object:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _failures(op: Any, arguments: tuple[object, ...]) -> Iterator[tuple[str, str]]:
    for test in _TESTS:
        with _quiet():
            result: Any = torch.library.opcheck(op, arguments, test_utils=test, raise_exception=False)[test]
        if isinstance(result, BaseException):
            whole = str(result)
            if not any(word in whole for word in _ABSENT):
                yield test, first_line(result)


@contextmanager
def _quiet() -> Iterator[None]:
    """Compilers warn and log about what is no fault of the op."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _steps(test: str) -> tuple[str, ...]:
    return (
        "seen = []",
        "class Recorder(torch.utils._python_dispatch.TorchDispatchMode):",
        "    def __torch_dispatch__(self, op, types, args=(), kwargs=None):",
        "        seen.append(op)",
        "        return op(*args, **(kwargs or {}))",
        "with Recorder():",
        "    outputs_of(arguments)",
        "custom = next(op for op in seen if op.namespace not in ('aten', 'prim', 'prims'))",
        f"test = {test!r}",
        "values = tuple(arguments.values())",
        "result = torch.library.opcheck(custom, values, test_utils=test, raise_exception=False)[test]",
        "print(result)",
        "sys.exit(int(result != 'SUCCESS'))",
    )
