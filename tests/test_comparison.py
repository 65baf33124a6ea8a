"""What is measured between two tensors, and how sizes are taken."""

from __future__ import annotations

import math

import pytest
import torch

from gradharness.comparison import compare, compare_all, inner, projected, root_mean_square, weighted_size

T = torch.tensor


def test_a_difference_is_absolute_and_in_the_wider_dtype():
    found = compare("x", T([1.0, 2.0], dtype=torch.float32), T([1.5, 2.0], dtype=torch.float64))
    assert found.difference.dtype is torch.float64
    assert found.difference.tolist() == [0.5, 0.0]
    assert found.finite
    assert found.rms == pytest.approx(math.sqrt((2.25 + 4) / 2))


def test_no_gradient_counts_as_zero():
    found = compare("x", None, T([1.5, -2.0]))
    assert found.got is None
    assert found.difference.tolist() == [1.5, 2.0]


def test_other_shapes_have_no_difference():
    assert compare("x", T([1.0]), T([1.0, 2.0])).difference is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nothing_is_said_where_the_oracle_is_not_finite(bad):
    found = compare("x", T([1.0, 5.0]), T([bad, 4.0]))
    assert found.difference.tolist() == [0.0, 1.0]
    assert not found.finite
    assert found.rms == pytest.approx(math.sqrt(16 / 2))


def test_a_gradient_that_is_not_finite_stays_so_where_the_oracle_is():
    found = compare("x", T([math.nan, math.inf]), T([1.0, 1.0]))
    assert not bool(found.difference.isfinite().any())


def test_squares_that_overflow_do_not_make_a_size_infinite():
    found = compare("x", None, torch.full((4,), 1e200, dtype=torch.float64))
    assert found.finite
    assert found.rms == pytest.approx(1e200)


def test_all_unknown_has_size_zero():
    assert compare("x", T([1.0]), T([math.nan])).rms == 0.0


def test_root_mean_square_of_nothing_is_zero_and_of_complex_numbers_their_modulus():
    assert root_mean_square(torch.zeros(0)) == 0.0
    assert root_mean_square(T([3 + 4j])) == pytest.approx(5.0)


def test_compare_all_keeps_the_order():
    labels = [c.label for c in compare_all(("a", "b"), (T([1.0]), None), (T([1.0]), T([2.0])))]
    assert labels == ["a", "b"]


def test_projection_is_the_real_inner_product_and_its_size_under_random_signs():
    left, right = (T([1.0, 2.0]), None, T([1 + 2j])), (T([3.0, -1.0]), T([9.0]), T([1j]))
    product, size = projected(left, right)
    assert product == pytest.approx(3 - 2 + 2)
    assert size == pytest.approx(math.sqrt(9 + 4 + 5))
    assert inner(left, right) == product
    assert weighted_size(left, right) == size


def test_products_of_float32_do_not_overflow():
    big = T([3e38, -3e38], dtype=torch.float32)
    assert projected([big], [T([10.0, 10.0])]) == (0.0, pytest.approx(math.sqrt(2) * 3e39, rel=1e-6))
