"""Arithmetic on dimensions, and the two adjoints that nearly every VJP uses."""

import pytest
import torch

from gradharness.programs.op import Shape, unbroadcast
from gradharness.programs.ops.dims import broadcasts_to, dim_sets, positive_dims, size_along, spread
from tests.programs.drawing import randn


@pytest.mark.parametrize(
    ("shape", "wide"),
    [((), ()), ((), (2, 3)), ((3,), (2, 3)), ((1,), (2, 3)), ((2, 1), (2, 3)), ((1, 1), (1, 1)), ((1, 3), (0, 3)),
     ((4, 1, 2), (5, 4, 3, 2)), ((2, 3), (2, 3)), ((1,), ()), ((1, 1), (1, 1, 1))],
)  # fmt: skip
def test_unbroadcast_is_the_adjoint_of_a_broadcast(shape: Shape, wide: Shape) -> None:
    x = randn(shape, 0)
    expanded = x + torch.zeros(wide, dtype=x.dtype)
    g = randn(expanded.shape, 1)
    back = unbroadcast(g, shape)
    assert back.shape == shape
    torch.testing.assert_close((back * x).sum(), (g * expanded).sum(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((), None), ((), 0), ((), -1), ((3,), 0), ((2, 3), -1), ((2, 3), (1, 0)), ((2, 3, 4), (-1, 0)), ((2, 3, 4), ()),
     ((2, 1, 4), 1), ((0, 3), 0), ((2, 3), None)],
)  # fmt: skip
def test_spread_is_the_adjoint_of_a_sum(shape: Shape, dim: int | tuple[int, ...] | None, keepdim: bool) -> None:
    x = randn(shape, 0)
    reduced = x.sum(dim=dim, keepdim=keepdim)
    g = randn(reduced.shape, 1)
    back = spread(g, shape, dim)
    assert back.shape == shape
    torch.testing.assert_close((back * x).sum(), (g * reduced).sum(), rtol=1e-13, atol=1e-13)


def test_dimensions_are_counted_from_zero() -> None:
    assert positive_dims(-1, 3) == (2,)
    assert positive_dims((0, -2), 3) == (0, 1)
    assert positive_dims(None, 2) == positive_dims((), 2) == positive_dims([], 2) == (0, 1)
    assert positive_dims(-1, 0) == ()


def test_the_size_along_dimensions_is_a_product() -> None:
    assert size_along((2, 3, 4), (0, -1)) == 8
    assert size_along((2, 3, 4), None) == 24
    assert size_along((), 0) == 1
    assert size_along((0, 3), 1) == 3


def test_several_dimensions_are_named_in_both_orders_and_from_both_ends() -> None:
    assert dim_sets(1) == ()
    assert dim_sets(2) == ((0, 1), (-1, 0))
    assert {(0, 1), (0, 2), (0, 1, 2), (-1, -2), (-1, -2, 0)} <= set(dim_sets(3))
    assert all(len({dim % 4 for dim in dims}) == len(dims) > 1 for dims in dim_sets(4))


@pytest.mark.parametrize(
    ("shape", "target", "fits"),
    [((), (2, 3), True), ((3,), (2, 3), True), ((2, 1), (2, 3), True), ((2,), (2, 3), False), ((2, 3), (3,), False),
     ((1, 3), (3,), False), ((3,), (1,), False), ((1,), (0,), True)],
)  # fmt: skip
def test_a_shape_broadcasts_to_another_or_not(shape: Shape, target: Shape, fits: bool) -> None:
    assert broadcasts_to(shape, target) is fits
