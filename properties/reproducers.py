"""Prints, for every finding of the fault table, how long its stand-alone script is and how it ends.

python -m properties.reproducers
python -m properties.reproducers --only 06 --show

A script has to end in 1 on the faulty subject (an exception counts, as Python has it), and in 0 on the correct twin,
unless the check finds the same in the twin. The subject's own source, where it is copied, is not among the lines. FILL
IN is a subject that a script cannot get at. Findings without a script, which say why, are left out. Everything is
measured when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import torch

from gradharness import Report, check
from gradharness.model.verdict import Finding
from gradharness.report.reproduction import LINES, counted
from gradharness.report.sources import reproduced
from gradharness.subjects import as_subject
from tests.faults.table.row import Row
from tests.faults.table.rows import ROWS

FILL_IN = 2


@dataclass(frozen=True)
class Measured:
    """One script.

    Attributes:
        row: Of which fault; None where it came from another process.
        finding: Which it shows; None likewise.
        source: On the faulty subject.
        wrong: How it ends there.
        right: How it ends on the twin.
        shared: Whether the check finds the same in the twin.
    """

    row: Row | None
    finding: Finding | None
    source: str
    wrong: int
    right: int
    shared: bool

    @property
    def lines(self) -> int:
        return counted(self.source.splitlines())

    @property
    def tells(self) -> bool:
        """Whether it tells the faulty subject from its twin, as far as the check does."""
        return self.wrong == 1 and self.right == int(self.shared)


def status(source: str) -> int:
    """Exit status of a script, in this process: 1 for an exception."""
    path = list(sys.path)
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "reproduce.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        return 1
    finally:
        sys.path[:] = path
        torch.set_default_dtype(torch.float32)
    return 0


def measured(row: Row) -> Iterator[Measured]:
    """Every script of a row."""
    report, twins = (_report(row, subject) for subject in (row.wrong, row.right))
    found = {(f.check, f.fault) for f in twins.findings}
    scripts = reproduced(report, as_subject(row.wrong)), reproduced(report, as_subject(row.right))
    for finding in report.findings:
        if id(finding) in scripts[0] and scripts[0][id(finding)].reproducer:
            source, twin = (script[id(finding)].reproducer for script in scripts)
            shared = (finding.check, finding.fault) in found
            yield Measured(row, finding, source, status(source), status(twin), shared)


def _report(row: Row, subject: object) -> Report:
    return check(subject, row.inputs(), reference=row.reference, seed=0)


def rows(number: int, *, show: bool) -> list[tuple[str, Measured]]:
    """What is printed of a row, and what was measured, without what no other process can take."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = []
    for one in measured(ROWS[number]):
        finding = one.finding
        ends = f"{one.wrong:5} | {one.right:4} |" + ("" if one.tells else "  <- does not tell them apart")
        line = f"| {one.row.number:14} | {finding.check:16} | {finding.fault:40} | {one.lines:5} | {ends}"
        found.append((f"{line}\n{one.source}" if show else line, replace(one, row=None, finding=None)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose number starts with this")
    parser.add_argument("--show", action="store_true", help="print the scripts")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the rows")
    options = parser.parse_args()
    started = time.monotonic()
    print(f"| {'row':14} | {'check':16} | {'fault':40} | lines | wrong | twin |")
    print(f"|{'-' * 16}|{'-' * 18}|{'-' * 42}|-------|-------|------|")
    table: list[Measured] = []
    chosen = [n for n, row in enumerate(ROWS) if row.number.startswith(options.only)]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for found in pool.map(partial(rows, show=options.show), chosen):
            for text, one in found:
                print(text, flush=True)
                table.append(one)
    short = sum(one.lines <= LINES for one in table)
    told = sum(one.tells for one in table)
    open_ = sum(one.wrong == FILL_IN for one in table)
    print(f"\nscripts: {len(table)}; of at most {LINES} lines: {short}; that tell wrong from right: {told};")
    print(f"that leave a place to fill in: {open_}; {time.monotonic() - started:.0f} s")
    return 0 if told + open_ == len(table) else 1


if __name__ == "__main__":
    sys.exit(main())
