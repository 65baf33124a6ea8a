"""Conditions: where each holds, and where it makes no sense."""

from dataclasses import replace

import torch

from gradharness.diagnosis.conditions import conditions
from gradharness.model.subject import Primals
from tests.diagnosis.making import randn, sample


def with_argument(value, shape=(3, 4)):
    one = sample(randn(*shape), randn(*shape, seed=1))
    primals = Primals(("x", "given"), (*one.case.primals.values, value), one.case.primals.active)
    return replace(one, case=replace(one.case, primals=primals))


def found(value, words):
    """Where the condition of these words holds."""
    here = with_argument(value)
    return {w: p(here) for w, p in conditions(here)}[words]


def test_a_mask_and_its_opposite():
    mask = torch.tensor([[True, False, True, True]] * 3)
    assert torch.equal(found(mask, "given is False"), ~mask)
    assert torch.equal(found(mask, "given is True"), mask)


def test_lengths_and_labels_of_rows():
    lengths = torch.tensor([4, 1, 2])
    beyond = found(lengths, "the index of x in dimension 1 is given or beyond")
    assert beyond.sum(1).tolist() == [0, 3, 2]
    assert found(lengths, "given is 1").all(1).tolist() == [False, True, False]


def test_order_of_two_arguments():
    other = randn(3, 4, seed=5)
    here = with_argument(other)
    assert torch.equal(found(other, "x < given"), here.leaf < other)
    assert not bool(found(other, "x = given").any())


def test_nothing_is_said_of_what_does_not_fit():
    words = [w for w, _ in conditions(with_argument(torch.ones(7, dtype=torch.bool)))]
    assert not any("given" in w for w in words)
    assert not any("given" in w for w, _ in conditions(with_argument("text")))
    mask = dict(conditions(with_argument(torch.ones(3, 4, dtype=torch.bool))))["given is True"]
    assert not bool(mask(with_argument(torch.ones(5, dtype=torch.bool))).any())
