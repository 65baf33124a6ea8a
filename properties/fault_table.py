"""Prints the table of faults: what torch's own tools say of each one on natural inputs, and what this package says.

python -m properties.fault_table
python -m properties.fault_table --only 06

D is detected, C a crash with another error (it alerts, and explains nothing), w a warning, - silence, "not run" where a
tool has no entry for such a subject or would take gigabytes. Below stand the counts for the correct twins, of which
nothing should be said. Everything is measured when the script runs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from torch.testing._internal.optests import OpCheckError

from gradharness import Severity, Verdict, check
from gradharness.subjects.function_pair import PairSubject
from gradharness.subjects.manual_class import ManualSubject
from tests.faults.table.row import Row
from tests.faults.table.rows import ROWS

NOT_RUN = "not run"
# A Jacobian of more elements takes minutes and gigabytes.
_LARGEST = 2000
_numbers = itertools.count()

Inputs = tuple[Any, ...]


def _quick_failure(*_: object) -> str:
    """In place of the slow Jacobian that fast mode makes for its message: the verdict is the same without it."""
    return ""


def callable_of(subject: object) -> Callable[..., object] | None:
    """What a user would give to gradcheck; None if there is nothing to give."""
    if isinstance(subject, ManualSubject):
        return subject.build().forward
    if isinstance(subject, PairSubject):
        return None
    return subject.apply if isinstance(subject, type) else subject  # type: ignore[return-value]


def outcome(run: Callable[[], object], *detected: type[Exception]) -> str:
    """D, C or silence."""
    torch.manual_seed(0)
    try:
        run()
    except detected:
        return "D"
    except Exception as error:
        return f"C {type(error).__name__}"
    return "-"


def by_gradcheck(tool: Callable[..., object], subject: object, inputs: Inputs, **options: bool) -> str:
    """What gradcheck or gradgradcheck says with its defaults."""
    function = callable_of(subject)
    elements = sum(t.numel() for t in inputs if isinstance(t, torch.Tensor))
    if function is None or (elements > _LARGEST and not options.get("fast_mode")):
        return NOT_RUN
    return outcome(lambda: tool(function, inputs, **options), GradcheckError)


def _float32(inputs: Inputs) -> Inputs:
    def one(t: torch.Tensor) -> torch.Tensor:
        if not (t.is_floating_point() or t.is_complex()):
            return t
        dtype = torch.complex64 if t.is_complex() else torch.float32
        return t.detach().to(dtype).requires_grad_(t.requires_grad)

    return tuple(one(t) for t in inputs)


def _as_operator(function: Callable[..., Any], inputs: Inputs) -> Any:
    """A custom op of the function: its forward is the function's, its backward the one that the function brings."""
    with torch.no_grad():
        made = function(*(t.clone() for t in inputs))
    several = isinstance(made, tuple)
    if not all(isinstance(t, torch.Tensor) for t in (made if several else (made,))):
        return None
    tensors = ", ".join(f"Tensor x{i}" for i in range(len(inputs)))
    returned = f"({', '.join('Tensor' for _ in made)})" if several else "Tensor"
    operator = torch.library.custom_op(
        f"gradharness_table::fault_{next(_numbers)}", function, mutates_args=(), schema=f"({tensors}) -> {returned}"
    )
    operator.register_fake(function)

    def keep(ctx: Any, inputs: Inputs, output: object) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, *cotangents: torch.Tensor) -> Inputs:
        pairs = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(needed) for t, needed in pairs]
            outputs = function(*leaves)
        outputs = outputs if several else (outputs,)
        asked = [t for t in leaves if t.requires_grad]
        found = iter(torch.autograd.grad(outputs, asked, cotangents, allow_unused=True))
        return tuple(next(found) if t.requires_grad else None for t in leaves)

    operator.register_autograd(backward, setup_context=keep)
    return operator


def by_opcheck(row: Row, inputs: Inputs) -> str:
    """What opcheck says of a custom op around the subject, in float32."""
    function = callable_of(row.wrong)
    plain = isinstance(row.wrong, (ManualSubject, torch.nn.Module)) or function is None
    if plain or not all(isinstance(t, torch.Tensor) for t in inputs):
        return NOT_RUN
    inputs = _float32(inputs)
    try:
        operator = _as_operator(function, inputs)
    except Exception:  # a forward that works in no such wrapper
        return NOT_RUN
    if operator is None:
        return NOT_RUN
    return outcome(lambda: torch.library.opcheck(operator, inputs), OpCheckError)


def by_gradharness(row: Row) -> str:
    """What this package says, and which check says so first. A warning counts if the correct twin does not get it."""
    verdict, errors, warned = _told(row, row.wrong)
    if errors:
        return f"D {errors[0]}"
    if warned and row.right is not row.wrong:
        warned = [name for name in warned if name not in _told(row, row.right)[2]]
    if warned:
        return f"w {warned[0]}"
    return "-" if verdict is Verdict.PASS else "undecided"


def _told(row: Row, subject: object) -> tuple[Verdict, list[str], list[str]]:
    """The verdict, and the checks of the errors and of the warnings."""
    report = check(subject, row.inputs(), reference=row.reference, seed=0)
    errors, warned = ([f.check for f in report.findings if f.severity is s] for s in (Severity.ERROR, Severity.WARNING))
    return report.verdict, errors, warned


COLUMNS = ("slow", "fast", "gradgrad", "opcheck", "gradharness")


def measured(row: Row) -> tuple[str, ...]:
    """One entry a column."""
    return (
        by_gradcheck(gradcheck, row.wrong, row.inputs()),
        by_gradcheck(gradcheck, row.wrong, row.inputs(), fast_mode=True),
        by_gradcheck(gradgradcheck, row.wrong, row.inputs()),
        by_opcheck(row, row.inputs()),
        by_gradharness(row),
    )


def line(number: str, name: str, entries: tuple[str, ...]) -> str:
    """One line of the table."""
    return f"| {number:14} | {name:58} | " + " | ".join(f"{e:18}" for e in entries) + " |"


def noticed(entry: str) -> bool:
    """Whether a user is alerted."""
    return entry[:1] in ("D", "C", "w")


def is_error(entry: str) -> bool:
    """Whether a user is told of an error, or gets one."""
    return entry[:1] in ("D", "C")


def told_apart(wrong: str, right: str) -> str:
    """The entry of a fault, or silence if the correct twin gets an error too."""
    return "-" if is_error(right) else wrong


def totals(table: Sequence[tuple[str, ...]], counted: Callable[[str], bool]) -> tuple[str, ...]:
    """How many entries of each column count, of those that were run."""
    columns = [[entry for entry in column if entry != NOT_RUN] for column in zip(*table, strict=True)]
    return tuple(f"{sum(map(counted, column))} of {len(column)}" for column in columns)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose number starts with this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.modules[gradcheck.__module__]._run_slow_mode_and_get_error = _quick_failure
    started = time.monotonic()
    rows = [row for row in ROWS if row.number.startswith(options.only)]
    print(line("row", "fault", COLUMNS))
    print("|" + "|".join("-" * n for n in (16, 60, *[20] * len(COLUMNS))) + "|")
    table, twins = [], []
    for row in rows:
        table.append(measured(row))
        twins.append(measured(replace(row, wrong=row.right)))
        print(line(row.number, row.name, table[-1]), flush=True)
        if any(map(is_error, twins[-1])):
            print(line("", "   its correct twin", twins[-1]), flush=True)
    print(line("", "noticed (D, C or w), of those run", totals(table, noticed)))
    print(line("", "errors told of correct twins (D or C)", totals(twins, is_error)))
    apart = [tuple(map(told_apart, *both)) for both in zip(table, twins, strict=True)]
    print(line("", "told apart from the correct twin", totals(apart, noticed)))
    union = sum(any(map(noticed, entries[:4])) for entries in apart)
    print(f"\ntold apart by any of torch's tools: {union} of {len(rows)}; {time.monotonic() - started:.0f} s")
    missed = [row.number for row, entries in zip(rows, table, strict=True) if not noticed(entries[-1])]
    alarmed = [row.number for row, entries in zip(rows, twins, strict=True) if is_error(entries[-1])]
    print(f"missed by gradharness: {missed or 'none'}; twins that it calls wrong: {alarmed or 'none'}")
    return 1 if missed or alarmed else 0


if __name__ == "__main__":
    sys.exit(main())
