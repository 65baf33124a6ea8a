"""Hypothesis ``moved``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import moved
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, TRUTHS, correct, evidence, randn, sample, seen


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (lambda t: t.flip(1), "reversed along dimension 1"),
        (lambda t: t.roll(1, 0), "shifted by one place along dimension 0"),
        (lambda t: t.roll(-1, 1), "shifted by minus one place along dimension 1"),
    ],
)
def test_right_numbers_in_the_wrong_place_are_told_by_the_move(move, words):
    truths = [randn(4, 5, seed=1), randn(3, 3, seed=2)]
    explanation = moved.explain(seen(move, truths=truths))
    assert words in explanation.message
    assert explanation.holds(correct(torch.ones(1, 1, dtype=F64)))
    assert not explanation.holds(correct(randn(2, 2)))


def test_other_numbers_were_not_moved():
    assert moved.explain(seen(lambda t: 2 * t)) is None
    assert moved.explain(evidence(sample(TRUTHS[0], TRUTHS[1]))) is None


@pytest.mark.parametrize(
    ("arrange", "words"),
    [
        (lambda t: t.transpose(1, 2).reshape(t.shape), "dimensions 1 and 2 have to be exchanged"),
        (lambda t: t.unflatten(2, (2, 2)).transpose(1, 2).reshape(t.shape), "a part of dimension 2 (split by 2)"),
        (lambda t: t.unflatten(1, (2, 3)).transpose(1, 2).reshape(t.shape), "dimension 1 is taken for blocks"),
    ],
)
def test_numbers_in_another_order_are_told_by_what_has_to_be_exchanged(arrange, words):
    truths = [randn(2, 6, 4, seed=1), randn(3, 6, 4, seed=2)]
    explanation = moved.explain(seen(arrange, truths=truths))
    assert explanation.fault is Fault.TRANSPOSED
    assert words in explanation.message
    assert not explanation.holds(correct(randn(2, 6, 4)))


def delayed(t, step):
    return torch.cat([randn(*t[:step].shape, seed=9), t[:-step]])


def test_a_shift_is_told_whatever_stands_at_the_ends():
    explanation = moved.explain(seen(lambda t: delayed(t, 2), truths=[randn(6, 3, seed=1), randn(5, 2, seed=2)]))
    assert explanation.fault is Fault.WRONG_ELEMENTS
    assert "shifted by two places along dimension 0: one in the wrong direction" in explanation.message


def test_where_all_elements_are_alike_a_shift_explains_nothing():
    assert moved.explain(seen(lambda t: delayed(t, 1), truths=[torch.ones(6, 3, dtype=F64)] * 2)) is None
