"""A small part of the planted faults: each is found early, shrunk to one or two ops, and the right node is named.

The whole, over three seeds: ``python -m properties.planted_programs``.
"""

import statistics

import pytest

from gradharness.programs.catalogue import catalogue
from properties.planted_programs import EVERYWHERE, FAULTS, IN_A_REGION, hunt, table

_FEW = FAULTS[::3]


@pytest.fixture(scope="module")
def hunts():
    return [hunt(fault, 0, 400) for fault in _FEW]


def test_there_are_two_dozen_half_of_them_in_a_region():
    assert len(FAULTS) >= 24
    assert min(len(EVERYWHERE), len(IN_A_REGION)) >= 12
    assert {fault.op for fault in FAULTS} <= set(catalogue().by_name)


def test_all_are_found_and_most_of_them_early(hunts):
    assert all(h.finding for h in hunts), table(hunts)
    assert statistics.median(h.finding.after for h in hunts) <= 12


def test_they_are_shrunk_to_one_or_two_ops_and_the_guilty_node_is_named(hunts):
    assert all(h.small and h.named for h in hunts), table(hunts)
    assert "guilty node named     100.0%" in table(hunts)
