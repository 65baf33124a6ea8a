"""Kinds of tensors that a user names: their values, their directions, and what is refused."""

import json

import pytest
import torch

from gradharness import Verdict, check, index, tensor
from gradharness.errors import SpecError
from gradharness.inputs.domain import declared_domain
from gradharness.inputs.kinds import KINDS
from gradharness.inputs.recipe import Recipe, directions, realize
from gradharness.inputs.styles import Style
from tests.faults.planting import function


def eye(x):
    return torch.eye(x.shape[-1], dtype=x.dtype)


def ones(x):
    return torch.ones(x.shape[:-1], dtype=x.dtype)


HOLDS = {
    "spd": lambda x: torch.equal(x, x.mT) and bool(torch.linalg.cholesky(x).isfinite().all()),
    "symmetric": lambda x: torch.equal(x, x.mT),
    "lower": lambda x: torch.equal(x, x.tril()) and bool((x.diagonal(dim1=-2, dim2=-1) >= 0.5).all()),
    "orthogonal": lambda x: torch.allclose(x @ x.mT, eye(x).expand_as(x), atol=1e-12),
    "invertible": lambda x: bool((torch.linalg.svdvals(x) > 0.49).all() and (torch.linalg.svdvals(x) < 2.01).all()),
    "sorted": lambda x: bool((x.diff(dim=-1) >= 0).all()),
    "simplex": lambda x: bool((x > 0).all()) and torch.allclose(x.sum(-1), ones(x)),
    "unit": lambda x: torch.allclose(x.norm(dim=-1), ones(x)),
}
SQUARE = ("spd", "symmetric", "lower", "orthogonal", "invertible")


def drawn(spec, seed, style, n=4, batches=()):
    domain = declared_domain({"x": spec})
    recipe = Recipe(sizes=(("n", n),), batches=batches, seed=seed, style=style)
    recipe = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    primals = realize(domain, recipe)
    return primals.leaves[0], directions(domain, recipe, primals)[0][0]


def test_every_kind_is_tested():
    assert set(HOLDS) == set(KINDS)


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("kind", KINDS)
def test_values_have_their_structure_at_every_size(kind, style):
    spec = tensor("n n", kind=kind)
    for n in (1, 2, 5):
        assert HOLDS[kind](drawn(spec, n, style, n)[0])
    assert drawn(spec, 0, style, 0)[0].shape == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_have_their_structure(kind):
    x, _ = drawn(tensor("*b n n", kind=kind), 3, Style.NORMAL, batches=(("b", (2, 3)),))
    assert x.shape == (2, 3, 4, 4)
    assert HOLDS[kind](x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_gives_the_same_values_again(kind):
    spec = tensor("n n", kind=kind)
    assert torch.equal(drawn(spec, 9, Style.NORMAL)[0], drawn(spec, 9, Style.NORMAL)[0])
    assert not torch.equal(drawn(spec, 9, Style.NORMAL)[0], drawn(spec, 10, Style.NORMAL)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_directions_stay_where_functions_are_defined(kind):
    _, v = drawn(tensor("n n", kind=kind), 5, Style.NORMAL)
    assert torch.equal(v, v.mT) is (kind in ("spd", "symmetric"))
    assert torch.equal(v, v.tril()) is (kind == "lower")


@pytest.mark.parametrize("kind", ["sorted", "simplex", "unit"])
def test_kinds_of_rows_need_no_square(kind):
    x, v = drawn(tensor("n 7", kind=kind), 1, Style.NORMAL)
    assert HOLDS[kind](x)
    assert v.shape == (4, 7)


def test_zeros_have_a_unit_vector_too():
    assert all(HOLDS["unit"](drawn(tensor("n n", kind="unit"), seed, Style.ZEROS)[0]) for seed in range(20))


def test_sorted_values_may_have_a_range():
    x, _ = drawn(tensor("n", kind="sorted", low=2, high=3), 0, Style.NORMAL, 9)
    assert HOLDS["sorted"](x)
    assert 2 < x.min() < x.max() < 3


@pytest.mark.parametrize("kind", SQUARE)
@pytest.mark.parametrize("shape", ["n", "n m", "3 4", "n *b", "#n #n", "_ _", ""])
def test_matrices_have_to_be_square(kind, shape):
    with pytest.raises(SpecError, match="two equal last dims"):
        tensor(shape, kind=kind)


@pytest.mark.parametrize("shape", ["3 3", "n n", "b n n", "*b 2 2", "... n n"])
def test_square_shapes_are_accepted(shape):
    assert tensor(shape, kind="spd").kind is KINDS["spd"]


@pytest.mark.parametrize("shape", ["", "*b", "n ...", "#n"])
def test_rows_have_to_have_a_last_dim(shape):
    with pytest.raises(SpecError, match="needs a last dim"):
        tensor(shape, kind="simplex")


@pytest.mark.parametrize("word", ["binary", "near", "plain", 3, "SPD"])
def test_an_unknown_kind_is_refused_with_all_kinds(word):
    with pytest.raises(SpecError, match="kinds: spd, symmetric, lower, orthogonal, invertible, sorted, simplex, unit"):
        tensor("n n", kind=word)


def test_a_misspelt_kind_is_named():
    with pytest.raises(SpecError, match="did you mean 'symmetric'"):
        tensor("n n", kind="symetric")


def test_a_kind_excludes_ranges_and_complex_values():
    with pytest.raises(SpecError, match="a range of its own"):
        tensor("n n", kind="spd", low=0)
    with pytest.raises(SpecError, match="real values"):
        tensor("n n", kind="spd", dtype=torch.complex128)


def places(shape, seed, sizes, **rules):
    domain = declared_domain({"x": tensor("n"), "i": index(shape, unique=True, **rules)})
    return realize(domain, Recipe(sizes=tuple(sizes.items()), seed=seed, style=Style.NORMAL)).values[1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", ["k", "k 2", "k m"])
def test_unique_integers_come_once(shape, seed):
    i = places(shape, seed, {"n": 7, "k": 5, "m": 3}, below="n")
    assert len(set(i.flatten().tolist())) == i.numel() > 0
    assert 0 <= i.min() <= i.max() < 7


def test_unique_integers_use_the_whole_range():
    assert sorted(places("n", 0, {"n": 6}, below="n").tolist()) == list(range(6))
    assert places("k", 0, {"n": 6, "k": 9}, below=4, low=1).shape == (3,)
    assert places("5", 0, {"n": 2}, below="n").shape == (5,)


def test_too_many_unique_integers_are_refused():
    with pytest.raises(SpecError, match="holds no 5 unique integers"):
        index("5", below=4, unique=True)
    with pytest.raises(SpecError, match="need a count of dims"):
        index("*b", below=4, unique=True)


def logdet(a):
    return torch.logdet(a)


LOGDET = function(logdet, lambda a, g: g * torch.linalg.inv(a).mT)
TWICE = function(logdet, lambda a, g: 2 * g * torch.linalg.inv(a).mT)
SCATTER = function(
    lambda x, i, s: x.index_copy(0, i, s),
    lambda x, i, s, g: (g.index_fill(0, i, 0), None, g[i]),
)


@pytest.mark.parametrize("checks", [("vjp", "linearity", "value")])
def test_a_subject_is_judged_on_its_kind(checks):
    specs = {"a": tensor("n n", kind="spd")}
    assert check(LOGDET, specs, checks=checks, seed=0).verdict is Verdict.PASS
    assert check(TWICE, specs, checks=checks, seed=0).verdict is Verdict.FAIL


def test_a_subject_is_judged_on_unique_places():
    specs = {"x": "n d", "i": index("k", below="n", unique=True), "s": "k d"}
    assert check(SCATTER, specs, checks=("vjp", "linearity"), seed=0).verdict is Verdict.PASS
