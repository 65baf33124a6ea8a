"""A recipe is plain data, and gives the same bits again."""

import json

import pytest
import torch
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from gradharness.errors import UsageError
from gradharness.inputs.domain import declared_domain
from gradharness.inputs.probe import infer_domain
from gradharness.inputs.recipe import Directions, Recipe, cotangents, directions, example_recipe, realize
from gradharness.inputs.sizes import EDGE_SIZES, MAX_ELEMENTS, SizeRange
from gradharness.inputs.specs import (
    ChoiceSpec,
    IndexSpec,
    MaskSpec,
    StrategySpec,
    TensorSpec,
    as_spec,
    index,
    mask,
    tensor,
)
from gradharness.inputs.strategies import recipes
from gradharness.inputs.styles import ORDINARY_STYLES, CotangentStyle, Kind, Style

LINEAR = declared_domain({"x": tensor("n d"), "w": tensor("k d"), "b": tensor("#k")})
RICH = declared_domain(
    {
        "x": tensor("*batch n d", low=0.1),
        "u": tensor("n", low=0, high=1),
        "z": tensor("d", dtype=torch.complex128),
        "i": index("n", below="d"),
        "m": mask("n d"),
        "xs": as_spec([tensor("n 3"), {"y": tensor("d", high=-1)}], "xs"),
        "p": StrategySpec(st.sampled_from([1, 2.5, "text", None, [1, 2]])),
        "k": as_spec(7, "k"),
    }
)
DOMAINS = pytest.mark.parametrize("domain", [LINEAR, RICH], ids=["linear", "rich"])


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return all(same(a[key], b[key]) for key in a)
    return a == b


@DOMAINS
@pytest.mark.parametrize("sizes", SizeRange)
def test_recipe_survives_json_and_gives_the_same_bits(domain, sizes):
    @settings(max_examples=50, database=None, deadline=None)
    @given(recipes(domain, sizes))
    def test(recipe):
        again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        assert again == recipe
        primals = realize(domain, recipe)
        assert same(primals.values, realize(domain, again).values)
        assert same(cotangents(recipe, primals.leaves), cotangents(again, primals.leaves))
        assert same(directions(domain, recipe, primals)[3], directions(domain, again, primals)[3])

    test()


@settings(max_examples=100, database=None, deadline=None)
@given(recipes(RICH))
def test_values_stay_in_their_region(recipe):
    primals = realize(RICH, recipe)
    by_name = dict(zip(primals.names, primals.values, strict=True))
    sizes = dict(recipe.sizes)
    assert (by_name["x"] > 0.1).all()
    assert ((by_name["u"] > 0) & (by_name["u"] < 1)).all()
    assert by_name["z"].dtype is torch.complex128
    assert ((by_name["i"] >= 0) & (by_name["i"] < sizes["d"])).all()
    assert by_name["m"].dtype is torch.bool
    assert (by_name["xs"][1]["y"] < -1).all()
    assert by_name["xs"][0].shape == (sizes["n"], 3)
    assert by_name["x"].shape == (*dict(recipe.batches)["batch"], sizes["n"], sizes["d"])
    assert primals.labels == ("x", "u", "z", "xs[0]", "xs[1]['y']")


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize(("low", "high"), [(None, None), (0, None), (None, 5), (-1, 2), (0.01, 100), (-50, -0.1)])
def test_every_style_is_short_finite_and_in_range(style, low, high):
    domain = declared_domain({"x": tensor("n d", low=low, high=high)})
    for seed in range(5):
        x = realize(domain, Recipe(sizes=(("n", 7), ("d", 6)), seed=seed, style=style)).leaves[0]
        assert torch.isfinite(x).all()
        assert low is None or bool((x > low).all())
        assert high is None or bool((x < high).all())
        assert style is Style.MINUTE or torch.equal(x, x.float().double())


def test_styles_do_what_they_say():
    def draw(style):
        return realize(LINEAR, Recipe(sizes=(("n", 40), ("d", 8), ("k", 1)), seed=3, style=style)).leaves[0]

    assert set(draw(Style.SIMPLE).abs().unique().tolist()) == {0.5, 1, 1.5, 2}
    assert torch.equal(draw(Style.INTEGERS), draw(Style.INTEGERS).round())
    assert (draw(Style.ZEROS) == 0).any()
    assert draw(Style.TIES).unique().numel() < 320
    assert 29 < draw(Style.OFFSET).mean() < 31
    assert draw(Style.LARGE).std() > 10
    assert draw(Style.TINY).abs().max() < 0.01
    assert draw(Style.MIXED).abs().max() >= 10


def test_other_sizes_of_one_tensor_leave_the_others_alone():
    small, large = (Recipe(sizes=(("n", n), ("d", 3), ("k", 2)), seed=5, style=Style.NORMAL) for n in (2, 9))
    assert torch.equal(realize(LINEAR, small).leaves[1], realize(LINEAR, large).leaves[1])


def test_one_tensor_may_have_a_style_of_its_own():
    sizes = (("n", 5), ("d", 3), ("k", 2))
    plain = realize(LINEAR, Recipe(sizes=sizes, style=Style.NORMAL))
    other = realize(LINEAR, Recipe(sizes=sizes, style=Style.NORMAL, styles=(("w", Style.LARGE),)))
    assert torch.equal(plain.leaves[0], other.leaves[0])
    assert torch.equal(16 * plain.leaves[1], other.leaves[1])


def test_broadcast_axis_is_one():
    recipe = Recipe(sizes=(("n", 5), ("d", 3), ("k", 2)), broadcast=("b:0",))
    assert [tuple(t.shape) for t in realize(LINEAR, recipe).leaves] == [(5, 3), (2, 3), (1,)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_of_the_run(dtype):
    fixed = declared_domain({"x": tensor("n"), "y": tensor("n", dtype=torch.float32), "i": index("n", below=3)})
    values = realize(fixed, Recipe(sizes=(("n", 3),)), dtype=dtype).values
    assert [v.dtype for v in values] == [dtype, torch.float32, torch.int64]


@pytest.mark.parametrize("kind", [Kind.SPD, Kind.SYMMETRIC, Kind.LOWER, Kind.UNIT_SUM, Kind.SORTED, Kind.BINARY])
@pytest.mark.parametrize("style", Style)
def test_structure_is_kept_at_every_size(kind, style):
    shape = tensor("n n").shape
    domain = declared_domain({"x": TensorSpec(shape=shape, kind=kind)})
    for n in (1, 2, 5):
        recipe = Recipe(sizes=(("n", n),), seed=n, style=style)
        x = realize(domain, recipe).leaves[0]
        v = directions(domain, recipe, realize(domain, recipe))[0][0]
        if kind in (Kind.SPD, Kind.SYMMETRIC):
            assert torch.equal(x, x.mT)
            assert torch.equal(v, v.mT)
        if kind is Kind.SPD:
            assert torch.isfinite(torch.linalg.cholesky(x)).all()
        if kind is Kind.LOWER:
            assert torch.equal(x, x.tril())
            assert torch.equal(v, v.tril())
        if kind is Kind.UNIT_SUM:
            assert torch.allclose(x.sum(-1), torch.ones(n, dtype=x.dtype))
        if kind is Kind.SORTED:
            assert (x.diff(dim=-1) >= 0).all()
        if kind is Kind.BINARY:
            assert ((x == 0) | (x == 1)).all()


def test_integers_keep_their_structure():
    shape = tensor("n").shape

    def draw(seed=1, **rules):
        spec = IndexSpec(shape=shape, **{"below": 6, **rules})
        domain = declared_domain({"x": tensor("n"), "i": spec})
        return realize(domain, Recipe(sizes=(("n", 6),), seed=seed, style=Style.NORMAL)).values[1]

    assert sorted(draw(unique=True).tolist()) == list(range(6))
    assert set(draw(below=3, cover=True).tolist()) == {0, 1, 2}
    offsets = draw(below="n", inclusive=True, sorted=True)
    assert offsets[0] == 0
    assert offsets[-1] == 6
    assert (offsets.diff() >= 0).all()
    assert any((draw(seed, special=(-100,)) == -100).any() for seed in range(4))
    assert draw(dtype=torch.int32).dtype is torch.int32


def test_every_row_of_a_nonempty_mask_has_a_true():
    domain = declared_domain({"x": tensor("n"), "m": MaskSpec(shape=tensor("n 2").shape, nonempty=True)})
    for seed in range(10):
        assert realize(domain, Recipe(sizes=(("n", 9),), seed=seed, style=Style.ZEROS)).values[1].any(-1).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from(ORDINARY_STYLES))
@settings(max_examples=60, deadline=None, database=None)
def test_directions_are_signed_and_never_small(seed, style):
    recipe = Recipe(sizes=(("n", 6), ("d", 5), ("k", 1)), seed=seed, style=style)
    primals = realize(LINEAR, recipe)
    drawn = directions(LINEAR, recipe, primals)
    assert len(drawn) >= 16
    for tangents in drawn[:2]:
        for leaf, v in zip(primals.leaves, tangents, strict=True):
            assert v.shape == leaf.shape
            assert v.dtype == leaf.dtype
            assert v.abs().max() <= 3.01 * v.abs().min()
            assert torch.equal(v, v.float().double())
            sigma = leaf.std(correction=0)
            assert v.abs().min() >= 0.3 * sigma
            assert v.abs().min() > 0
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[-1][0], drawn[15][0])


def test_directions_are_a_sequence():
    recipe = Recipe()
    drawn = Directions(recipe, [torch.zeros(3), torch.ones(2, dtype=torch.complex64)], count=20)
    assert len(list(drawn)) == 20
    assert drawn[0][1].dtype is torch.complex64
    assert (drawn[0][1].real != 0).all()
    assert (drawn[0][1].imag != 0).all()
    with pytest.raises(IndexError):
        drawn[20]


def test_cotangents_do_what_they_say():
    like = [torch.zeros(8, 8, dtype=torch.float64), torch.zeros((), dtype=torch.complex128), torch.zeros(0)]

    def draw(style, stream=0):
        return cotangents(Recipe(cotangent=style, seed=2), like, stream)

    assert (draw(CotangentStyle.ONES)[0] == 1).all()
    assert draw(CotangentStyle.NORMAL)[0].abs().min() >= 0.5
    assert draw(CotangentStyle.LARGE)[0].abs().min() >= 32
    assert draw(CotangentStyle.SMALL)[0].abs().max() <= 2.0**-9
    assert draw(CotangentStyle.ONE_HOT)[0].sum() == 1
    assert 0 < (draw(CotangentStyle.SPARSE)[0] != 0).sum() < 32
    assert draw(CotangentStyle.NORMAL)[1].imag != 0
    assert not torch.equal(draw(CotangentStyle.NORMAL)[0], draw(CotangentStyle.NORMAL, 1)[0])
    assert draw(CotangentStyle.ONES, 1)[0].unique().numel() > 10


def test_shrinking_reaches_the_simplest_recipe():
    quiet = settings(database=None, suppress_health_check=list(HealthCheck), max_examples=500, deadline=None)
    simplest = find(recipes(LINEAR), lambda _: True, settings=quiet)
    assert simplest == Recipe(sizes=(("n", 1), ("d", 1), ("k", 1)))
    tall = find(recipes(LINEAR), lambda r: dict(r.sizes)["n"] >= 3, settings=quiet)
    assert tall == Recipe(sizes=(("n", 3), ("d", 1), ("k", 1)))
    edge = find(recipes(LINEAR, SizeRange.EDGE), lambda r: dict(r.sizes)["d"] >= 129, settings=quiet)
    # Which edge size is left depends on where Hypothesis happens to start.
    assert {**dict(edge.sizes), "d": 0} == {"n": 1, "d": 0, "k": 1}
    assert dict(edge.sizes)["d"] in EDGE_SIZES


def test_edge_sizes_come_one_at_a_time_and_stay_affordable():
    domain = declared_domain({"x": tensor("a b c d e"), "i": index("a", below="e")})
    seen = set()

    @settings(max_examples=300, database=None, deadline=None)
    @given(recipes(domain, SizeRange.EDGE))
    def test(recipe):
        sizes = dict(recipe.sizes)
        assert sum(size > 4 or size == 0 for size in sizes.values()) <= 1
        assert sizes["e"] > 0
        total = 1
        for size in sizes.values():
            total *= size
        assert total <= MAX_ELEMENTS
        seen.update(sizes.values())

    test()
    assert seen <= set(EDGE_SIZES) | {4}
    assert len(seen) > 10


def test_possible_broadcasts_are_drawn_on_request_only():
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    domain = infer_domain(("x", "y"), (x, y), lambda a: _works(lambda: a[0] + a[1]))
    assert "y:0" in domain.broadcastable
    quiet = settings(database=None, deadline=None)
    assert find(recipes(domain, broadcast=True), lambda r: "y:0" in r.broadcast, settings=quiet).broadcast == ("y:0",)

    @settings(max_examples=30, database=None, deadline=None)
    @given(recipes(domain))
    def never(recipe):
        assert recipe.broadcast == ()

    never()


def _works(function):
    try:
        function()
    except RuntimeError:
        return False
    return True


def test_example_keeps_its_layout():
    base = torch.arange(24.0).reshape(4, 6)
    examples = (base.T, base[::2, 1:4], base[0].expand(3, 6))
    domain = infer_domain(("a", "b", "c"), examples, lambda _: False)
    for dtype in (torch.float64, torch.float32):
        for got, own in zip(realize(domain, example_recipe(domain), dtype=dtype).values, examples, strict=True):
            assert got.stride() == own.stride()
            assert torch.equal(got, own.to(dtype))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "expected an object, not int"),
        ({"size": {}}, "unknown field 'size'"),
        ({"sizes": [1]}, "sizes must be an object"),
        ({"sizes": {"n": -1}}, "sizes.n must be a whole number"),
        ({"sizes": {"n": True}}, "sizes.n must be a whole number"),
        ({"batches": {"b": 3}}, "batches.b must be a list"),
        ({"seed": "0"}, "seed must be a whole number"),
        ({"style": "wild"}, "style must be one of simple"),
        ({"cotangent": 1}, "cotangent must hold text"),
        ({"example": 1}, "example must be true or false"),
        ({"broadcast": "b:0"}, "broadcast must be a list"),
        ({"styles": {"x": "wild"}}, "styles.x must be one of"),
        ({"arguments": {"f": {"repr": "<lambda>"}}}, "'f' was <lambda>, which JSON cannot hold"),
    ],
)
def test_corrupt_recipe_is_refused(data, said):
    with pytest.raises(UsageError, match=said):
        Recipe.from_json(data)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(), "no size for dim 'n' of x"),
        (Recipe(example=True), "no example inputs"),
    ],
)
def test_recipe_of_another_domain_is_refused(recipe, said):
    with pytest.raises(UsageError, match=said):
        realize(LINEAR, recipe)


def test_value_that_json_cannot_hold_is_kept_in_memory():
    domain = declared_domain({"x": tensor("n"), "f": StrategySpec(st.just(torch.relu))})
    recipe = find(recipes(domain), lambda _: True, settings=settings(database=None))
    assert realize(domain, recipe).values[1] is torch.relu
    assert "repr" in recipe.to_json()["arguments"]["f"]


def test_choice_that_does_not_exist_is_refused():
    domain = declared_domain({"x": tensor("n"), "k": ChoiceSpec((1, 2))})
    sizes = (("n", 2),)
    assert realize(domain, Recipe(sizes=sizes, arguments=(("k", 1),))).values[1] == 2
    with pytest.raises(UsageError, match="argument 'k' has 2 choices, not number 2"):
        realize(domain, Recipe(sizes=sizes, arguments=(("k", 2),)))
    with pytest.raises(UsageError, match="no value for argument 'p'"):
        realize(declared_domain({"x": tensor("n"), "p": StrategySpec(st.none())}), Recipe(sizes=sizes))


def test_declared_tensors_and_constants_come_as_they_are():
    fixed = torch.ones(3, requires_grad=True)
    domain = declared_domain({"x": as_spec(fixed, "x"), "k": as_spec([1, 2], "k"), "m": as_spec(torch.ones(2), "m")})
    primals = realize(domain, Recipe(), dtype=torch.float64)
    assert domain.differentiable == ("x",)
    assert primals.values[0].dtype is torch.float64
    assert primals.values[1] == [1, 2]
    assert domain.describe()[0] == "x: always the given float32[3] (declared)"
