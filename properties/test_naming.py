"""Whether faults are called by their true names, on a sample; all with ``python -m properties.naming_table``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradharness import Fault, Finding, Severity
from properties.naming import ENTRIES
from properties.naming.entry import CLASSES, UnknownNameError
from properties.naming_table import Grade, Named, graded, named, totals

pytestmark = pytest.mark.filterwarnings("ignore")
BY_ID = {entry.id: entry for entry in ENTRIES}
# Which check finds them is no question here, so most are asked of one alone. Each has a class of its own.
SAMPLE = (
    ("linear-weight-doubled", ("vjp",)),
    ("quotient-denominator-sign", ("vjp",)),
    ("linear-weight-transposed", ("vjp",)),
    ("bias-pair-unsummed", None),
    ("layer-norm-weight-averaged", ("vjp",)),
    ("sigmoid-class-without-cotangent", ("vjp",)),
    ("hardtanh-sign", ("linearity",)),
    ("product-own-factor", ("vjp",)),
    ("leaky-relu-as-relu", ("vjp",)),
    ("saved-on-class", ("state",)),
    ("cotangent-row-major", ("layout",)),
    ("complex-linear-input", ("vjp",)),
    ("scale-weight-none", None),
    ("logsumexp-overflow", ("extremes",)),
    ("silu-detached", ("double_backward",)),
)


@pytest.mark.parametrize(("id", "checks"), SAMPLE, ids=[id for id, _ in SAMPLE])
def test_a_fault_is_called_by_its_name(id, checks):
    result = named(BY_ID[id], checks=checks)
    assert result.grade is Grade.RIGHTLY, f"{result.fault}: {result.message}; true is: {BY_ID[id].cause}"


def test_of_a_correct_twin_nothing_is_told():
    entry = BY_ID["linear-weight-doubled"]
    assert named(replace(entry, wrong=entry.twin), checks=("vjp", "mask")) == Named(entry.id, "", "", Grade.MISSED)


def test_entries_are_well_formed():
    assert len(BY_ID) == len(ENTRIES) >= 80
    assert {entry.kind for entry in ENTRIES} == set(CLASSES)
    for entry in ENTRIES:
        assert entry.wrong is not entry.twin, entry.id
        assert entry.cause, entry.id
        assert entry.faults() or entry.or_says, entry.id
    told = sum(entry.reference is not None for entry in ENTRIES)
    assert 0.4 < told / len(ENTRIES) < 0.6


def test_names_that_do_not_exist_are_passed_over_beside_one_that_does():
    entry = BY_ID["linear-weight-doubled"]
    assert replace(entry, names=("constant factor", "no such name")).faults() == {Fault.CONSTANT_FACTOR}
    with pytest.raises(UnknownNameError, match="none of no such name is a Fault"):
        replace(entry, names=("no such name",)).faults()


@pytest.mark.parametrize(
    ("fault", "message", "grade"),
    [
        (Fault.CONSTANT_FACTOR, "gradient of w is 2 times the right one", Grade.RIGHTLY),
        (Fault.CONSTANT_FACTOR, "gradient of x is 2 times the right one", Grade.WRONGLY),
        (Fault.CONSTANT_FACTOR, "gradient of w is 3 times the right one", Grade.WRONGLY),
        (Fault.SIGN, "gradient of w is 2 times the right one", Grade.WRONGLY),
        (Fault.UNKNOWN, "gradient of w is wrong in no pattern that was recognised", Grade.UNKNOWN),
        (Fault.WRONG_ELEMENTS, "gradient of w is wrong", Grade.UNKNOWN),
    ],
)
def test_a_name_is_right_with_its_particulars_alone(fault, message, grade):
    finding = Finding(check="vjp", fault=fault, severity=Severity.ERROR, message=message)
    assert graded(BY_ID["linear-weight-doubled"], finding) is grade


def test_a_sentence_may_stand_in_place_of_a_name():
    finding = Finding(check="vjp", fault=Fault.UNKNOWN, severity=Severity.ERROR, message="gradient of x is not centred")
    assert graded(BY_ID["centred-uncentred"], finding) is Grade.RIGHTLY


def test_totals_count_each_class_and_the_whole():
    results = [
        Named("linear-weight-doubled", "constant factor", "", Grade.RIGHTLY),
        Named("mse-without-two", "sign", "", Grade.WRONGLY),
        Named("hinge-up", "", "", Grade.MISSED),
    ]
    *_, factor, sign, whole = totals(results)
    assert factor.split("|")[1:6] == [" factor         ", *(f" {n:8} " for n in (1, 1, 0, 0))]
    assert sign.split("|")[1:6] == [" sign           ", *(f" {n:8} " for n in (0, 0, 0, 1))]
    assert whole == "3 faults: rightly 1 (33 %), wrongly 1 (33 %), unknown 0 (0 %), missed 1 (33 %)"
