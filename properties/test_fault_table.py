"""The table of faults, on rows of which every entry is known; all of it with ``python -m properties.fault_table``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from properties.fault_table import NOT_RUN, is_error, measured, noticed, told_apart, totals
from tests.faults.table.rows import ROWS

pytestmark = pytest.mark.filterwarnings("ignore")
BY_NUMBER = {row.number: row for row in ROWS}


@pytest.mark.parametrize(
    ("number", "entries"),
    [
        ("00", ("D", "D", "-", "-", "D vjp")),  # a factor of 3/2
        ("11b", ("-", "-", "-", "-", "w mask")),  # wasted work
        ("26d", ("-", "-", "-", "-", "D vjp")),  # negative cotangents dropped
        ("33", ("-", "-", "-", "-", "w complex")),  # a conjugate, and no warning of the twin's
    ],
)
def test_a_row_says_what_each_tool_says(number, entries):
    assert measured(BY_NUMBER[number]) == entries


def test_a_correct_twin_is_an_error_to_nobody():
    row = BY_NUMBER["00"]
    assert not any(map(is_error, measured(replace(row, wrong=row.right))))


def test_only_what_was_run_is_counted():
    table = [("D", NOT_RUN), ("-", "C TypeError"), ("w", "-")]
    assert totals(table, noticed) == ("2 of 3", "1 of 2")
    assert totals(table, is_error) == ("1 of 3", "1 of 2")


@pytest.mark.parametrize(
    ("wrong", "right", "apart"),
    [("D", "-", "D"), ("w mask", "w mask", "w mask"), ("D", "C ValueError", "-"), (NOT_RUN, NOT_RUN, NOT_RUN)],
)
def test_what_is_said_of_the_correct_twin_too_tells_nothing(wrong, right, apart):
    assert told_apart(wrong, right) == apart
