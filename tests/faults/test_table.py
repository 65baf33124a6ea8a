"""Every fault of the table is found on natural inputs, and its correct twin gives no error."""

import pytest

from gradharness import Severity, Verdict, check
from tests.faults.table.rows import ROWS

each_row = pytest.mark.parametrize("row", ROWS, ids=str)


def errors(report):
    return [f.message for f in report.findings if f.severity is Severity.ERROR]


def warned(report):
    """The checks that warn."""
    return {f.check for f in report.findings if f.severity is Severity.WARNING}


@each_row
def test_the_fault_is_found(row):
    report = check(row.wrong, row.inputs(), reference=row.reference, seed=0)
    if row.warning:
        twins = check(row.right, row.inputs(), reference=row.reference, seed=0)
        assert warned(report) - warned(twins), report
    else:
        assert report.verdict is Verdict.FAIL, report


@each_row
def test_the_correct_twin_gives_no_error(row):
    report = check(row.right, row.inputs(), reference=row.reference, seed=0)
    assert report.verdict is not Verdict.FAIL, report
    assert not errors(report)


def test_numbers_are_unique():
    assert len({row.number for row in ROWS}) == len(ROWS)
