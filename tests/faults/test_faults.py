"""Every planted fault is found, called by its name and shown in a small case; its correct twin passes."""

import functools

import pytest

from gradharness import Report, Verdict, check
from tests.faults import contracts, cotangents, forms, formulas, regions
from tests.faults.planting import Planted

FAULTS = [*formulas.FAULTS, *cotangents.FAULTS, *regions.FAULTS, *contracts.FAULTS, *forms.FAULTS]
each_fault = pytest.mark.parametrize("planted", FAULTS, ids=lambda one: one.name)


@functools.cache
def report_of_wrong(number: int) -> Report:
    """What the check that exists for it says of a faulty subject, for all tests that look at it."""
    return FAULTS[number].report(FAULTS[number].wrong, (FAULTS[number].check,))


@pytest.fixture
def report(planted: Planted) -> Report:
    return report_of_wrong(FAULTS.index(planted))


@each_fault
def test_a_planted_fault_fails(planted, report):
    assert report.verdict is Verdict.FAIL
    assert planted.result(report).verdict is Verdict.FAIL


@each_fault
def test_a_planted_fault_is_called_by_its_name(planted, report):
    finding = planted.finding(report)
    assert finding.fault is planted.fault, finding.message
    for part in planted.says:
        assert part in finding.message


@each_fault
def test_the_witness_of_a_planted_fault_is_small(planted, report):
    witness = planted.finding(report).witness
    assert witness.elements <= planted.elements, witness


@each_fault
def test_the_correct_twin_passes(planted):
    """By the checks of first-order gradients; the whole catalogue looks at the twins of the table."""
    report = planted.report(planted.right, ("value", "vjp", "linearity", "contract", "shape"))
    assert report.verdict is Verdict.PASS, report


@pytest.mark.parametrize("name", forms.PLAIN)
def test_plain_torch_code_passes(name):
    function, inputs = forms.PLAIN[name]
    report = check(function, inputs(), seed=0)
    assert report.verdict is Verdict.PASS, report
