"""Recipes around a failing one."""

from dataclasses import replace

import torch

from gradharness.engine.neighbours import companions_of, simpler, size_of
from gradharness.inputs.plain import plain_recipe
from gradharness.inputs.recipe import CotangentStyle, Recipe
from gradharness.inputs.styles import Style
from tests.engine.searching import F64, look, looker


def sine(x):
    return x.sin()


AT = looker(sine)


def test_companions_have_other_values_and_other_sizes():
    one = look(AT, style=Style.OFFSET, cotangent=CotangentStyle.ONES, seed=50)
    recipes = list(companions_of(one, AT.domain, seed=3))
    assert {r.seed for r in recipes} == set(range(4, 4 + len(recipes)))
    assert {r.cotangent for r in recipes} == {CotangentStyle.NORMAL}
    assert {Style.OFFSET, Style.NORMAL, Style.LARGE, Style.MIXED} <= {r.style for r in recipes}
    assert len({r.sizes for r in recipes}) >= 3


def test_companions_of_a_large_case_are_fewer():
    small, large = (len(list(companions_of(look(AT, sizes=s), AT.domain, 0))) for s in (SMALL, LARGE))
    assert small > large


SMALL, LARGE = (("n", 1), ("d", 2)), (("n", 30), ("d", 40))


def test_simpler_recipes_shrink_sizes_styles_cotangents_and_seeds():
    recipe = replace(
        plain_recipe(AT.domain, own=False, seed=9),
        sizes=(("n", 7), ("d", 7)),
        style=Style.MIXED,
        styles=(("x", Style.TINY),),
        cotangent=CotangentStyle.SPARSE,
    )
    recipes = list(simpler(recipe, AT.domain))
    assert recipes[0].sizes == (("n", 1), ("d", 1))
    assert replace(recipe, sizes=(("n", 3), ("d", 7))) in recipes
    assert replace(recipe, sizes=(("n", 6), ("d", 6))) in recipes
    assert replace(recipe, styles=()) in recipes
    assert replace(recipe, cotangent=CotangentStyle.NORMAL) in recipes
    assert replace(recipe, style=Style.SIMPLE) in recipes
    assert replace(recipe, seed=0) in recipes
    assert recipe not in recipes
    assert all(dict(r.sizes)["n"] > 0 for r in recipes)


def test_the_simplest_recipe_has_nothing_simpler_of_its_size():
    recipe = Recipe(sizes=(("n", 1), ("d", 1)))
    assert list(simpler(recipe, AT.domain)) == []


def test_batches_are_dropped_and_limits_of_sizes_kept():
    at = looker(sine, x="*b d")
    recipe = replace(plain_recipe(at.domain, own=False), batches=(("b", (2, 3)),))
    assert any(r.batches == (("b", ()),) for r in simpler(recipe, at.domain))
    even = replace(AT.domain, dims=tuple(replace(rule, step=2) for rule in AT.domain.dims))
    sizes = {s for r in simpler(Recipe(sizes=(("n", 8), ("d", 8))), even) for _, s in r.sizes}
    assert sizes <= {2, 4, 6, 8}


def test_an_example_is_replaced_by_drawn_values_of_its_sizes_or_less():
    at = looker(sine, examples=(torch.randn(3, 4, dtype=F64),))
    recipes = list(simpler(Recipe(example=True), at.domain))
    assert not any(r.example for r in recipes)
    assert sorted(dict(recipes[-1].sizes).values()) == [3, 4]


def test_fewer_elements_come_before_simpler_values():
    small = look(AT, sizes=SMALL, style=Style.MIXED)
    assert size_of(small) < size_of(look(AT, sizes=LARGE))
    assert size_of(look(AT, style=Style.SIMPLE)) < size_of(look(AT, style=Style.TIES))
    assert size_of(look(AT, seed=1)) < size_of(look(AT, seed=2))
