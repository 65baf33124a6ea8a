"""What a diagnosis has to go on."""

import math

import torch

from tests.diagnosis.making import F64, TRUTHS, case, correct, randn, sample, setting


def test_passing_cases_become_samples_of_the_right_gradient():
    from gradharness.diagnosis import right_samples

    def vjp(x, g):
        if len(x) == 4:
            raise ValueError("four")
        return None if len(x) == 3 else 2 * g

    where = setting(lambda x: 2 * x, vjp)
    cases = [case(where, randn(n)) for n in (0, 2, 3, 4)]
    found = right_samples(where, "x", cases)
    assert [tuple(s.expected.shape) for s in found] == [(2,), (3,)]
    assert torch.equal(found[0].got, 2 * cases[1].cotangents[0])
    assert not found[1].got.any()
    assert right_samples(where, "output", cases) == ()


def test_a_sample_knows_its_leaf_and_what_is_wrong():
    one = sample(TRUTHS[0], None)
    assert not one.got.any()
    assert one.wrong.all()
    assert one.leaf is one.case.primals.leaves[0]
    assert sample(TRUTHS[0], TRUTHS[0], label="output").leaf is None
    assert not correct(torch.zeros(2, dtype=F64)).right.any()
    assert not sample(torch.tensor([math.nan]), torch.tensor([1.0])).right.any()
