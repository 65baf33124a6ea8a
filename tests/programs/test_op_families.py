"""What is special to families of ops: choices, products by equation, and indices, beside closed forms."""

import itertools

import pytest
import torch

from gradharness.programs.ops import all_ops, find_op
from gradharness.programs.ops.choosing import broadcast, distinct, every_dim, grid, indices, mask
from tests.programs.differences import agree, pulled, reached
from tests.programs.drawing import randn

FAMILIES = [
    ("matmul", "mm", "bmm", "mv", "dot", "outer", "einsum", "baddbmm", "addmm", "linear"),
    ("gather", "index_select", "index_add", "scatter_add", "embedding", "index_put", "take_along_dim", "masked_fill"),
    ("conv1d", "conv2d", "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d", "interpolate_nearest"),
    ("layer_norm", "rms_norm", "group_norm", "batch_norm", "normalize", "cosine_similarity"),
    ("softmax", "log_softmax", "softmin", "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "huber_loss", "kl_div"),
    ("cumsum", "cumprod", "logcumsumexp", "cummax", "diff", "sort", "topk", "kthvalue", "median_along", "max_along"),
    ("solve", "inv", "cholesky", "det", "slogdet", "trace", "solve_triangular"),
    ("split", "unbind", "chunk", "tensor_split", "var_mean", "aminmax", "cat_2", "cat_3", "stack_2", "stack_3"),
]


@pytest.mark.parametrize("names", FAMILIES, ids=lambda names: names[0])
def test_the_catalogue_has_the_family(names):
    assert set(names) <= {op.name for op in all_ops()}


# ------------------------------------------------------------------------------------------------------------- choosing


def test_a_grid_reaches_every_combination_and_starts_with_the_first():
    options = {"a": (1, 2, 3), "b": (False, True)}
    assert grid(0, **options) == {"a": 1, "b": False}
    assert {tuple(grid(c, **options).items()) for c in range(6)} == {
        (("a", a), ("b", b)) for a in (1, 2, 3) for b in (False, True)
    }
    assert grid(1_000_003, **options) is not None
    assert grid(3, a=()) is None


def test_every_dim_is_named_from_both_ends():
    assert every_dim(3) == (0, 1, 2, -1, -2, -3)
    assert every_dim(0) == ()


def test_indices_start_in_order_and_come_to_duplicates():
    assert indices(0, 4, 4) == [0, 1, 2, 3]
    drawn = [indices(choice, 4, 4) for choice in range(20)]
    assert any(len(set(index)) < 4 for index in drawn)
    assert all(0 <= i < 4 for index in drawn for i in index)


def test_distinct_indices_are_distinct_for_every_choice():
    drawn = [distinct(choice, 3, 5) for choice in range(40)]
    assert all(len(set(index)) == 3 and set(index) <= set(range(5)) for index in drawn)
    assert len({tuple(index) for index in drawn}) > 5


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_a_mask_lets_something_through_for_every_choice(shape):
    masks = [torch.tensor(mask(choice, shape)) for choice in range(30)]
    assert all(m.shape == shape and m.dtype == torch.bool and m.any() for m in masks)
    assert masks[0].sum() == 1


@pytest.mark.parametrize("shapes", [((2, 1), (3,)), ((), (2, 2)), ((4, 1, 3), (5, 1)), ((1,), (0,)), ((2, 0), (1, 1))])
def test_shapes_broadcast_as_in_torch(shapes):
    assert broadcast(*shapes) == tuple(torch.broadcast_shapes(*shapes))


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 3), (2, 1, 2)), ((0,), (2,))])
def test_shapes_that_do_not_broadcast_are_seen(shapes):
    assert broadcast(*shapes) is None


# ------------------------------------------------------------------------------------------------------------- products

EQUATIONS = [
    ("einsum_of_one", "ii->i", [(3, 3)]),
    ("einsum_of_one", "ii->", [(3, 3)]),
    ("einsum_of_one", "ij->j", [(2, 3)]),
    ("einsum_of_one", "ijk->kij", [(2, 3, 4)]),
    ("einsum_of_one", "...ii->...i", [(2, 3, 3)]),
    ("einsum", "i,j->j", [(2,), (3,)]),
    ("einsum", "ij,jk->", [(2, 3), (3, 2)]),
    ("einsum", "ii,ij->j", [(3, 3), (3, 2)]),
    ("einsum", "ijk,kl->lij", [(2, 3, 2), (2, 4)]),
    ("einsum", "...ij,...jk->...ik", [(2, 1, 2, 3), (3, 3, 2)]),
    ("einsum", "...i,...j->...ij", [(1, 3), (2, 2)]),
    ("einsum_of_three", "bi,oij,bj->bo", [(2, 3), (2, 3, 2), (2, 2)]),
    ("einsum_of_three", "...i,...i,...i->...", [(2, 3), (3,), (1, 3)]),
]


@pytest.mark.parametrize(("name", "equation", "shapes"), EQUATIONS, ids=[equation for _, equation, _ in EQUATIONS])
def test_einsum_by_equation(name, equation, shapes):
    assert {"equation": equation} in reached(name, shapes)
    agree(name, shapes, equation=equation)


@pytest.mark.parametrize("name", ["einsum_of_one", "einsum", "einsum_of_three"])
def test_every_equation_fits_some_shapes(name):
    op = find_op(name)
    sizes = [(3,), (3, 3), (3, 3, 3), (2, 3, 3)]
    groups = itertools.product(sizes, repeat=op.arity)
    seen = {p["equation"] for shapes in groups for p in reached(name, shapes, 20)}
    assert len(seen) >= {"einsum_of_one": 11, "einsum": 16, "einsum_of_three": 5}[name]


@pytest.mark.parametrize(
    "shapes",
    [
        [(3,), (3,)],
        [(3,), (3, 2)],
        [(2, 3), (3,)],
        [(3,), (2, 3, 2)],
        [(2, 2, 3), (3,)],
        [(2, 1, 2, 3), (4, 3, 2)],
        [(1, 2, 3), (2, 3, 1)],
    ],
    ids=str,
)
def test_matmul_of_vectors_and_of_batches(shapes):
    assert reached("matmul", shapes, 1) == [{}]
    agree("matmul", shapes)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("matmul", [(2, 3), (2, 3)]),
        ("matmul", [(), (3,)]),
        ("matmul", [(2, 3, 3), (3, 3, 3)]),
        ("mm", [(2, 3), (3,)]),
        ("bmm", [(1, 2, 3), (2, 3, 2)]),
        ("einsum", [(), ()]),
        ("addmm", [(3, 3), (2, 3), (3, 2)]),
        ("linear", [(2, 3), (4, 3), (3,)]),
        ("conv1d", [(1, 3, 4), (2, 2, 2), (2,)]),
        ("conv2d", [(3, 4), (3, 4)]),
        ("conv2d", [(1, 1, 1, 1), (1, 1, 5, 5)]),
        ("batch_norm", [(1, 3), (3,), (3,)]),
        ("group_norm", [(4, 1), (3,), (3,)]),
        ("layer_norm", [(2, 3), (2,), (2,)]),
        ("solve", [(2, 3), (3, 2)]),
        ("cholesky", [(2, 3)]),
        ("cat_2", [(2, 3), (3, 2)]),
        ("index_put", [(3, 2), (3, 3)]),
        ("select_scatter", [(2, 3), (2, 3)]),
        ("attention", [(2, 3), (2, 2), (2, 3)]),
        ("diff", [(1, 1)]),
        ("sort", [(0, 2)]),
        ("max_pool2d", [(3,)]),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_declined(name, shapes):
    assert not reached(name, shapes, 40)


def test_one_bias_takes_the_sum_over_all_rows_and_leaves_what_it_does_not_use():
    x, weight, bias, g = randn((2, 3, 4), 0), randn((2, 4), 1), randn((2, 2), 2), randn((2, 3, 2), 3)
    gradient = pulled("linear", [x, weight, bias], [g])[2]
    assert torch.allclose(gradient, torch.stack([g.sum((0, 1)), torch.zeros(2, dtype=g.dtype)]))


def test_scales_of_a_sum_and_a_product_go_to_their_own_operands():
    agree("addmm", [(1, 2), (3, 2), (2, 2)], beta=2, alpha=0.5)
    agree("baddbmm", [(2,), (2, 3, 2), (2, 2, 2)], beta=0.5, alpha=-1)
    agree("addmv", [(2, 2), (3, 2), (4,)], beta=2, alpha=0.5)


# ------------------------------------------------------------------------------------------------------------- indexing


def test_a_row_read_twice_takes_both_cotangents():
    g = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    (gradient,) = pulled("embedding", [torch.zeros(4, 2)], [g], index=[1, 3, 1])
    assert gradient.tolist() == [[0, 0], [101, 202], [0, 0], [10, 20]]


@pytest.mark.parametrize("name", ["index_select", "gather", "take_along_dim"])
def test_duplicate_indices_accumulate(name):
    (gradient,) = pulled(name, [torch.zeros(3)], [torch.tensor([1.0, 2.0, 4.0])], dim=0, index=[2, 2, 0])
    assert gradient.tolist() == [4, 0, 3]


def test_what_adds_to_one_place_twice_reads_its_cotangent_twice():
    g = torch.tensor([1.0, 2.0, 4.0])
    for name, parameters in (
        ("index_add", {"dim": -1, "alpha": -2}),
        ("scatter_add", {"dim": -1}),
        ("index_put", {}),
    ):
        first, source = pulled(name, [torch.zeros(3), torch.zeros(4)], [g], index=[2, 0, 2, 1], **parameters)
        assert first.tolist() == [1, 2, 4]
        factor = parameters.get("alpha", 1)
        assert source.tolist() == [4 * factor, 1 * factor, 4 * factor, 2 * factor]


def test_what_is_overwritten_takes_no_gradient():
    g = torch.tensor([1.0, 2.0, 4.0])
    for name in ("scatter", "index_copy"):
        first, source = pulled(name, [torch.zeros(3), torch.zeros(2)], [g], dim=0, index=[2, 0])
        assert (first.tolist(), source.tolist()) == ([0, 2, 0], [4, 1])
    first, source = pulled("select_scatter", [torch.zeros(3), torch.zeros(())], [g], dim=0, index=-1)
    assert (first.tolist(), source.tolist()) == ([1, 2, 0], 4)


@pytest.mark.parametrize(
    "name", ["index_select", "gather", "take_along_dim", "take", "embedding", "index_add", "index_put"]
)
def test_choices_reach_duplicate_indices(name):
    shapes = [(4, 4)] * find_op(name).arity

    def duplicated(index):
        flat = torch.tensor(index).flatten().tolist()
        return len(set(flat)) < len(flat)

    assert any(duplicated(p["index"]) for p in reached(name, shapes, 60))
