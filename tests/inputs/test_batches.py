"""Batches of one recipe: others in values and sizes, the same every time."""

import torch

from gradharness import tensor
from gradharness.inputs.batches import Batches
from gradharness.inputs.domain import declared_domain
from gradharness.inputs.recipe import Recipe

DOMAIN = declared_domain({"x": tensor("n d", grad=False), "W": tensor("d")})
RECIPE = Recipe(sizes=(("n", 3), ("d", 2)), seed=7)


def batches():
    return Batches(DOMAIN, RECIPE, torch.float64, "cpu")


def test_the_first_is_the_recipes_own_and_every_one_comes_again():
    first, again = batches(), batches()
    assert first.at(0).values[0].shape == (3, 2)
    for number in (0, 1, 5):
        for a, b in zip(first.at(number, sizes=number).values, again.at(number, sizes=number).values, strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(first.at(1).values[0], first.at(2).values[0])


def test_other_sizes_leave_those_of_the_parameters_alone():
    made = batches()
    shapes = {tuple(made.at(n, ("W",), sizes=n).values[0].shape) for n in range(1, 12)}
    assert len({rows for rows, _ in shapes}) > 1
    assert {columns for _, columns in shapes} == {2}


def test_a_long_training_goes_through_them_again():
    made = batches()
    assert made.at(1) is made.at(17)
