"""Hypothesis ``region``: what it names, and what it must not."""

import pytest
import torch

from gradharness.diagnosis.hypotheses import region
from gradharness.model.verdict import Fault
from tests.diagnosis.making import F64, correct, evidence, measured, randn, sample, setting


def local(mask, shapes=((4, 5), (6, 3)), scale=1.0, right=()):
    """Evidence of a gradient twice as large where ``mask(leaf)``."""
    samples = []
    for i, s in enumerate(shapes):
        leaf, truth = scale * randn(*s, seed=i), randn(*s, seed=i + 50)
        samples.append(sample(truth, torch.where(mask(leaf), 2 * truth, truth), leaf=leaf))
    return evidence(*samples, right=right)


def place(axis):
    return lambda x: torch.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.dim())]).expand_as(x)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (lambda x: x < 0, "where x < 0"),
        (lambda x: x > 0, "where x > 0"),
        (lambda x: x.abs() > 1, "where |x| > "),
        (lambda x: x.abs() < 0.5, "where |x| < "),
        (lambda x: x > 0.6, "where x > "),
        (lambda x: x < -0.6, "where x < -"),
        (lambda x: place(0)(x) == 0, "in dimension 0 is the first"),
        (lambda x: place(0)(x) == len(x) - 1, "in dimension 0 is the last"),
        (lambda x: place(1)(x) % 2 == 1, "in dimension 1 is odd"),
        (lambda x: place(1)(x) % 2 == 0, "in dimension 1 is even"),
        (lambda x: place(0)(x) >= 2, "in dimension 0 is 2 or beyond"),
        (lambda x: torch.arange(x.numel()).reshape(x.shape) >= 8, "flattened x is 8 or beyond"),
    ],
)
def test_a_region_is_told_by_its_condition(mask, words):
    explanation = region.explain(local(mask))
    assert explanation.fault is Fault.WRONG_REGION
    assert words in explanation.message
    assert explanation.holds(local(mask).samples[1])


def test_zeros_are_a_region():
    leaf = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.0, -3.0, 0.0, 1.0]] * 2, dtype=F64)
    truth = randn(2, 8)
    found = evidence(sample(truth, torch.where(leaf == 0, 2 * truth, truth), leaf=leaf))
    assert "x = 0" in region.explain(found).message


def test_a_region_may_belong_to_another_argument():
    where = setting(lambda x, y: x * y, lambda x, y, g: (torch.where(y < 0, 2.0, 1.0) * g * y, g * x))
    found = measured(where, (randn(4, 5), randn(4, 5, seed=1)), (randn(6, 3), randn(6, 3, seed=2)))
    assert region.explain(found).message == "gradient of x is wrong only where y < 0"


def test_a_region_is_told_from_cases_that_pass():
    right = [correct(randn(4, 5, seed=i), leaf=randn(4, 5, seed=i + 7)) for i in range(2)]
    found = local(lambda x: x.abs() > 0, scale=1000.0, right=right)
    assert "|x| > " in region.explain(found).message


@pytest.mark.parametrize(
    ("mask", "shapes"),
    [
        (lambda x: torch.ones_like(x, dtype=torch.bool), ((4, 5), (6, 3))),
        (lambda x: x < 0, ((2, 2),)),
        (lambda x: (40 * x).sin() > 0, ((4, 5), (6, 3))),
        (lambda x: torch.zeros_like(x, dtype=torch.bool), ((4, 5),)),
    ],
    ids=["everywhere", "too few elements", "no simple condition", "nothing wrong"],
)
def test_what_chance_may_bring_about_is_no_region(mask, shapes):
    assert region.explain(local(mask, shapes)) is None


def test_complex_arguments_have_no_regions_of_values():
    where = setting(lambda x: x * 2, lambda x, g: torch.where(x.real < 0, 3.0, 2.0) * g)
    assert region.explain(measured(where, (randn(4, 5, dtype=torch.complex128),))) is None
