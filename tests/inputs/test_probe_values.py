"""Ranges, structure and plain values found from examples by running the forward."""

import pytest
import torch
from torch.nn import functional

from gradharness.errors import UsageError
from gradharness.inputs.probe import own_sizes
from gradharness.inputs.recipe import realize
from gradharness.inputs.specs import ChoiceSpec, ConstantSpec
from gradharness.inputs.styles import Kind, Style
from tests.inputs.probing import Forward, infer, leaf, mean_pool, normal, segment_max, shapes


def test_integers_are_tied_to_the_size_that_bounds_them():
    gather = infer(lambda x, i: x[i], x=normal(6, 3), i=torch.tensor([1, 5, 0, 4]))
    assert leaf(gather, "i").below == leaf(gather, "x").shape[0].name
    assert all(rule.minimum == 0 for rule in gather.dims)
    few = infer(lambda x, i: x[i], x=normal(6, 3), i=torch.tensor([1, 2, 1, 0]))
    assert leaf(few, "i").below == leaf(few, "x").shape[0].name
    segments = infer(segment_max, x=normal(7), index=torch.tensor([0, 1, 0, 2, 1, 0, 2]), n=3)
    assert (leaf(segments, "index").below, leaf(segments, "index").cover) == ("n", True)
    lengths = leaf(infer(mean_pool, x=normal(3, 4, 2), lengths=torch.tensor([4, 2, 3])), "lengths")
    assert (lengths.low, lengths.below, lengths.inclusive) == (1, "d", True)


def test_ignored_class_stays_special():
    target = torch.tensor([0, 3, -100, 1, 1])
    domain = infer(functional.cross_entropy, x=normal(5, 4), t=target)
    assert leaf(domain, "t").special == (-100,)
    assert leaf(domain, "t").below == leaf(domain, "x").shape[1].name


def test_free_integers_keep_their_range():
    spec = leaf(infer(lambda x, k: x * k, x=normal(4), k=torch.tensor([-3, 2, 5, 0])), "k")
    assert (spec.low, spec.below) == (-3, 6)


def test_offsets_stay_sorted():
    domain = infer(
        lambda w, i, o: functional.embedding_bag(i, w, o),
        w=normal(6, 3),
        i=torch.tensor([1, 2, 0, 5, 3, 1, 1]),
        o=torch.tensor([0, 2, 4]),
    )
    assert leaf(domain, "o").sorted
    assert leaf(domain, "i").below == leaf(domain, "w").shape[0].name


def test_duplicates_are_drawn_unless_rejected():
    def distinct(x, i):
        assert len(set(i.tolist())) == len(i)
        return x[i]

    assert leaf(infer(distinct, x=normal(6, 3), i=torch.tensor([1, 5, 0])), "i").unique
    assert not leaf(infer(lambda x, i: x[i], x=normal(6, 3), i=torch.tensor([1, 5, 0])), "i").unique


@pytest.mark.parametrize(
    ("function", "value", "region"),
    [
        (torch.sin, normal(4, 5), (None, None)),
        (torch.log, normal(4, 5).exp(), (0.0, None)),
        (torch.logit, normal(4, 5).sigmoid(), (0.0, 1.0)),
        (lambda x: torch.log(-x), -normal(4, 5).exp(), (None, 0.0)),
        (torch.acos, normal(4, 5).tanh(), (-1.0, 1.0)),
        (torch.sin, normal(4).exp(), (None, None)),
        (torch.log, normal(4).exp(), (0.0, None)),
    ],
)
def test_region_of_the_values(function, value, region):
    spec = leaf(infer(function, x=value), "x")
    low, high = region
    assert (spec.low is None, spec.high is None) == (low is None and high is None, low is None and high is None)
    assert low is None or spec.low >= low
    assert high is None or spec.high <= high


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (normal(3, 3) @ normal(3, 3).T + torch.eye(3), Kind.SPD),
        (torch.eye(3, dtype=torch.float64), Kind.SPD),
        (normal(3, 3) + normal(3, 3).T - 9 * torch.eye(3), Kind.SYMMETRIC),
        (normal(3, 3).tril(), Kind.LOWER),
        (normal(3, 4).softmax(-1), Kind.UNIT_SUM),
        (torch.ones(3, 3), Kind.PLAIN),
        (torch.zeros(3, 3), Kind.PLAIN),
        (normal(3, 3), Kind.PLAIN),
        (normal(1, 1), Kind.PLAIN),
    ],
)
def test_structure_of_the_values(value, kind):
    assert leaf(infer(torch.sin, x=value), "x").kind is kind


def test_special_values_fall_back_to_the_neighbourhood_of_the_example():
    def picky(x):
        return x if bool(((x - centre).abs() < 0.3).all()) else 1 / 0

    centre = normal(3, 4)
    domain = infer(lambda x: picky(x) if x.shape == centre.shape else 1 / 0, x=centre)
    assert leaf(domain, "x").kind is Kind.NEAR


def test_styles_that_the_forward_rejects_are_not_drawn():
    domain = infer(lambda x: x if bool((x.abs() < 8).all()) else 1 / 0, x=normal(3, 4))
    assert Style.NORMAL in domain.styles
    assert Style.OFFSET not in domain.styles


def test_plain_arguments_take_the_values_that_are_accepted():
    def function(x, dim, keepdim, p, mode, nothing):
        assert mode == "sum"
        assert nothing is None
        assert 0 <= p < 1
        return x.sum(dim, keepdim=keepdim) * p

    domain = infer(function, x=normal(3, 4), dim=-1, keepdim=True, p=0.5, mode="sum", nothing=None)
    specs = dict(zip(domain.names, domain.specs, strict=True))
    assert set(specs["dim"].values) == {-1, 0, 1, -2}
    assert specs["dim"].values[0] == -1
    assert specs["keepdim"] == ChoiceSpec((True, False))
    assert specs["p"].values[:2] == (0.5, 0.25)
    assert all(0 <= p < 1 for p in specs["p"].values)
    assert specs["mode"] == ConstantSpec("sum")
    assert specs["nothing"] == ConstantSpec(None)


def test_gradient_is_asked_where_the_example_asks():
    some = infer(torch.mul, a=normal(3).requires_grad_(), b=normal(3))
    assert some.differentiable == ("a",)
    assert infer(torch.mul, a=normal(3), b=normal(3)).differentiable == ("a", "b")
    nested = infer(lambda xs: xs[0] * xs[1], xs=(normal(3), normal(3).requires_grad_()))
    assert nested.differentiable == ("xs[1]",)


def test_no_differentiable_input():
    with pytest.raises(UsageError, match="no differentiable input among i"):
        infer(lambda i: i, i=torch.tensor([1, 2]))


def test_forward_that_rejects_everything_gives_the_example_alone():
    domain = infer(lambda x: 1 / 0, x=normal(3, 4))
    assert shapes(domain) == {"x": "3 4"}
    assert any("fixed at 3" in line for line in domain.describe())


def test_domain_says_what_it_found():
    domain = infer(torch.linalg.cross, a=normal(5, 3), b=normal(5, 3))
    assert domain.describe() == (
        "a: float[n, 3] real (from the example)",
        "b: float[n, 3] real (from the example)",
        "n: any size",
        "a: axis 1 is fixed at 3 (the forward rejects other sizes)",
        "b: axis 1 is fixed at 3 (the forward rejects other sizes)",
    )


def test_least_size_of_a_convolution_is_found():
    domain = infer(functional.conv1d, x=normal(1, 2, 32), w=normal(3, 2, 3))
    rules = {rule.name: rule for rule in domain.dims}
    assert rules[leaf(domain, "x").shape[2].name].minimum == 3


def test_empty_example_grows():
    domain = infer(torch.sin, x=normal(0, 3))
    assert shapes(domain) == {"x": "n d"}


def test_many_tensors_stay_within_the_budget():
    domain = infer(lambda *xs: sum(xs), **{f"x{i}": normal(4, 4, 4) for i in range(12)})
    assert set(shapes(domain).values()) == {"n d k"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_examples_of_any_precision(dtype):
    assert shapes(infer(torch.mul, a=normal(3, 4).to(dtype), b=normal(4).to(dtype))) == {"a": "n d", "b": "d"}


def test_permutation_grows_with_its_tensor():
    def permuted(x, p):
        assert sorted(p.tolist()) == list(range(len(x)))
        return x[p]

    domain = infer(permuted, x=normal(4, 3), p=torch.tensor([2, 0, 3, 1]))
    assert shapes(domain) == {"x": "n d", "p": "n"}
    assert leaf(domain, "p").unique
    accepts = Forward(permuted)
    assert all(accepts(realize(domain, own_sizes(domain, seed=seed)).values) for seed in range(5))


def test_probing_leaves_the_example_alone():
    x = normal(3, 4).requires_grad_()
    before = x.detach().clone()
    infer(lambda x: x.mul_(2), x=x)
    assert torch.equal(x, before)
    i = torch.tensor([1, 2, 1])
    infer(lambda x, i: x[i.mul_(1).clamp_(max=5)].sum() + 0 * i.zero_().sum(), x=normal(4), i=i)
    assert i.tolist() == [1, 2, 1]


def test_sizes_that_cannot_change_at_once_leave_one_fixed():
    domain = infer(lambda a, b: a.sum() + b.sum() if len(a) == 4 or len(b) == 6 else 1 / 0, a=normal(4), b=normal(6))
    assert sorted(shapes(domain).values()) == ["6", "n"]


def test_range_of_sizes_and_values_is_told():
    domain = infer(mean_pool, x=normal(3, 4, 2), lengths=torch.tensor([4, 2, 3]))
    assert "lengths: integers[n] in 1 .. d (from the example)" in domain.describe()
    domain = infer(segment_max, x=normal(7), index=torch.tensor([0, 1, 0, 2, 1, 0, 2]), n=3)
    assert "index: integers[d] in 0 .. n-1, all of them (from the example)" in domain.describe()
    assert "n: one of 3, 2, 1 (from the example)" in domain.describe()
    domain = infer(lambda x: functional.group_norm(-x.log(), 2), x=normal(2, 4, 3).exp())
    assert any("above" in line or "between" in line for line in domain.describe())
    assert any("multiples of 2" in line for line in domain.describe())
    domain = infer(lambda x: (-x).log(), x=-normal(3, 4).exp() * 1000)
    assert "between -" in domain.describe()[0]
    assert "real, around" in infer(torch.sin, x=1000 * normal(3, 4)).describe()[0]


def test_empty_integers_and_unusual_examples():
    assert leaf(infer(lambda x, i: x[i], x=normal(3, 2), i=torch.zeros(0, dtype=torch.int64)), "i").below == 1
    nan = normal(3, 4)
    nan[0, 0] = float("nan")
    assert leaf(infer(torch.nan_to_num, x=nan), "x").kind is Kind.PLAIN
    assert leaf(infer(torch.nan_to_num, x=torch.full((3,), float("inf"))), "x").low is None


def test_budget_bounds_the_calls():
    def crowd(*xs):
        return torch.stack(xs).sum(0)

    domain = infer(crowd, **{f"x{i}": normal(3, 3, 3, 3, 3) for i in range(20)})
    assert all(len(shape.split()) == 5 for shape in shapes(domain).values())


def test_tensors_in_a_list_are_narrowed_one_by_one():
    domain = infer(lambda xs: xs[0].acos() + xs[1], xs=[normal(3, 4).tanh(), normal(3, 4)])
    assert leaf(domain, "xs[0]").low >= -1
    assert leaf(domain, "xs[1]").low is None
