"""Ops that models are made of: convolutions, norms, losses, sorting, linear algebra, several outputs."""

import pytest
import torch

from gradharness.programs.ops import all_ops, find_op
from tests.programs.differences import agree, by_differences, pulled, reached
from tests.programs.drawing import randn

# ---------------------------------------------------------------------------------------------- convolution and pooling


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 0, 2, 1), (3, 1, 2, 2), (2, 0, 1, 4)]
)
def test_conv2d_by_stride_padding_dilation_and_groups(stride, padding, dilation, groups):
    parameters = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    shapes = [(2, 4, 4, 3), (4, 4 // groups, 2, 2)]
    assert parameters in reached("conv2d", shapes) or groups == 4
    agree("conv2d", shapes, **parameters)


def test_conv1d_whose_stride_leaves_a_tail_unseen():
    parameters = {"stride": 2, "padding": 0, "dilation": 1, "groups": 1}
    agree("conv1d", [(1, 2, 6), (3, 2, 3), (3,)], **parameters)
    x, w, bias = randn((1, 2, 6), 0), randn((3, 2, 3), 1), randn((3,), 2)
    gradient = pulled("conv1d", [x, w, bias], [randn((1, 3, 2), 3)], **parameters)[0]
    assert gradient[..., -1].eq(0).all()


def test_choices_of_a_convolution_reach_every_setting():
    seen = reached("conv2d", [(2, 4, 5, 5), (4, 2, 2, 2)])
    for name, values in {"stride": {1, 2, 3}, "padding": {0, 1}, "dilation": {1, 2}, "groups": {2}}.items():
        assert {p[name] for p in seen} == values, name


@pytest.mark.parametrize("name", ["conv_line", "conv_image", "conv_channels", "conv_transpose1d"])
def test_a_convolution_of_any_operands_uses_only_the_first_elements(name):
    shapes = [(2, 3, 4), (5, 4)]
    settings = reached(name, shapes)
    assert len(settings) > 5
    for parameters in {str(p): p for p in settings}.values():
        agree(name, shapes, **parameters)


@pytest.mark.parametrize("include", [True, False])
def test_padding_counts_in_a_mean_only_where_it_says_so(include):
    parameters = {"kernel_size": 2, "stride": 2, "padding": 1, "count_include_pad": include}
    (gradient,) = pulled("avg_pool1d", [torch.zeros(1, 3)], [torch.tensor([[4.0, 8.0]])], **parameters)
    assert gradient.tolist() == [[2 if include else 4, 4, 4]]
    agree("avg_pool2d", [(3, 4)], **parameters)


def test_windows_that_overlap_give_their_common_maximum_both_cotangents():
    x, g = torch.tensor([[1.0, 5.0, 2.0, 3.0]]), torch.tensor([[1.0, 10.0, 100.0]])
    (gradient,) = pulled("max_pool1d", [x], [g], kernel_size=2, stride=1, padding=0)
    assert gradient.tolist() == [[0, 11, 0, 100]]


def test_a_tie_in_a_window_goes_to_its_first_element_as_in_torch():
    x = torch.ones(1, 3, 3, dtype=torch.float64)
    g = randn((1, 2, 2), 0)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.nn.functional.max_pool2d(leaf, 2, 1), leaf, g)
    assert torch.equal(pulled("max_pool2d", [x], [g], kernel_size=2, stride=1, padding=0)[0], expected)


def test_adaptive_windows_overlap_where_sizes_do_not_divide():
    (gradient,) = pulled("adaptive_avg_pool1d", [torch.zeros(5)], [torch.tensor([[6.0, 60.0, 600.0]])], output_size=3)
    assert gradient.tolist() == [3, 23, 20, 320, 300]


# ---------------------------------------------------------------------------------------------------------------- norms


def test_the_statistics_of_a_batch_take_their_part_of_the_gradient():
    """The gradient is orthogonal to a shift of a channel, and with eps 0 to a scaling of it."""
    x, weight, bias = randn((4, 3, 5), 0), randn((3,), 1), randn((3,), 2)
    gradient = pulled("batch_norm", [x, weight, bias], [randn((4, 3, 5), 3)], eps=1e-12)[0]
    centred = x - x.mean((0, 2), keepdim=True)
    assert gradient.sum((0, 2)).abs().max() < 1e-9
    assert (gradient * centred).sum((0, 2)).abs().max() < 1e-9
    assert gradient.abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "shapes", "parameters"),
    [
        ("batch_norm", [(3, 2, 2), (2,), (5,)], {"eps": 0.1}),
        ("group_norm", [(2, 4, 2), (4,), (4,)], {"groups": 2, "eps": 0.1}),
        ("layer_norm", [(2, 2, 3), (2, 3), (2, 3)], {"eps": 0.5}),
        ("rms_norm", [(2, 3), (3,)], {"eps": 0.1}),
        ("instance_norm", [(2, 2, 3)], {"eps": 0.1}),
        ("normalize", [(3, 2)], {"dim": -2}),
        ("cosine_similarity", [(2, 1, 3), (2, 3)], {"dim": 2}),
        ("attention", [(2, 3, 2), (2, 4, 2), (2, 4, 3)], {"is_causal": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_norms_and_attention_by_differences(name, shapes, parameters):
    agree(name, shapes, bar=3e-4, **parameters)


def test_a_weight_with_a_stride_is_read_as_it_is():
    weight = randn((2, 6), 1)[:, ::2]
    values = [randn((2, 3, 1), 0), weight, randn((2, 3), 2)]
    contiguous = [values[0], weight.contiguous(), values[2]]
    g = randn((2, 3, 1), 3)
    leaves = [x.detach().requires_grad_() for x in values]
    expected = torch.autograd.grad(find_op("batch_norm").run(leaves, {"eps": 0.1})[0], leaves, g)
    for got, other, right in zip(
        pulled("batch_norm", values, [g], eps=0.1),
        pulled("batch_norm", contiguous, [g], eps=0.1),
        expected,
        strict=True,
    ):
        assert torch.equal(got, other)
        assert torch.allclose(got, right, rtol=1e-12, atol=1e-14)


# --------------------------------------------------------------------------------------------------- softmax and losses


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_softmax_minus_target(smoothing):
    x = randn((2, 3), 0)
    g = torch.tensor(6.0, dtype=x.dtype)
    (gradient,) = pulled("cross_entropy", [x], [g], target=[2, 0], reduction="mean", label_smoothing=smoothing)
    wanted = torch.full((2, 3), smoothing / 3, dtype=x.dtype)
    wanted[0, 2] += 1 - smoothing
    wanted[1, 0] += 1 - smoothing
    assert torch.allclose(gradient, 3 * (x.softmax(-1) - wanted), rtol=1e-13)


@pytest.mark.parametrize(("reduction", "share"), [("mean", 1 / 6), ("sum", 1)])
def test_a_reduction_scales_the_gradient_of_both_operands(reduction, share):
    a, b = randn((2, 3), 0), randn((3,), 1)
    first, second = pulled("mse_loss", [a, b], [torch.tensor(1.0, dtype=a.dtype)], reduction=reduction)
    assert torch.allclose(first, 2 * share * (a - b))
    assert torch.allclose(second, -2 * share * (a - b).sum(0))


def test_a_huber_loss_is_bounded_by_its_delta_and_a_smooth_one_by_one():
    a, b, g = torch.tensor([3.0, 0.25]), torch.zeros(2), torch.ones(2)
    assert pulled("huber_loss", [a, b], [g], reduction="none", delta=0.5)[0].tolist() == [0.5, 0.25]
    assert pulled("smooth_l1_loss", [a, b], [g], reduction="none", beta=0.5)[0].tolist() == [1, 0.5]


# --------------------------------------------------------------------------------------------------- running and sorted


@pytest.mark.parametrize("zeros", [[], [1], [0, 2]])
def test_a_running_product_with_zeros(zeros):
    x, g = randn((4,), 0), randn((4,), 1)
    x[zeros] = 0
    expected = [sum(g[i] * x[: i + 1][torch.arange(i + 1) != j].prod() for i in range(j, 4)) for j in range(4)]
    assert torch.allclose(pulled("cumprod", [x], [g], dim=0)[0], torch.stack(expected), rtol=1e-13)


def test_a_running_logarithm_of_sums_holds_for_large_values():
    x, g = torch.tensor([1000.0, -1000.0, 1000.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    expected = torch.tensor([2.5, 0, 0.5], dtype=x.dtype)
    assert torch.allclose(pulled("logcumsumexp", [x], [g], dim=0)[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "weights", "expected"),
    [
        ("sort", {"dim": 0, "descending": False}, [1, 2, 4], [4, 1, 2]),
        ("sort", {"dim": -1, "descending": True}, [1, 2, 4], [1, 4, 2]),
        ("topk", {"k": 2, "dim": 0, "largest": True}, [1, 2], [1, 0, 2]),
        ("topk", {"k": 2, "dim": 0, "largest": False}, [1, 2], [0, 1, 2]),
        ("kthvalue", {"k": 2, "dim": 0, "keepdim": False}, 3, [0, 0, 3]),
        ("median_along", {"dim": 0, "keepdim": True}, [3], [0, 0, 3]),
        ("max_along", {"dim": -1, "keepdim": False}, 3, [3, 0, 0]),
        ("min_along", {"dim": -1, "keepdim": True}, [3], [0, 3, 0]),
        ("cummax", {"dim": 0}, [1, 2, 4], [7, 0, 0]),
        ("cummin", {"dim": 0}, [1, 2, 4], [1, 6, 0]),
    ],
    ids=str,
)
def test_cotangents_go_to_the_places_that_values_are_from(name, parameters, weights, expected):
    x = torch.tensor([3.0, 1.0, 2.0])
    g = torch.tensor(weights, dtype=x.dtype)
    for of_places in (torch.zeros(g.shape), torch.full(g.shape, torch.nan)):
        (gradient,) = pulled(name, [x], [g, of_places], **parameters)
        assert gradient.tolist() == expected


def test_discrete_outputs_are_the_ones_that_torch_marks_so():
    for op in all_ops():
        if op.discrete and op.name != "slogdet":
            outputs = op.run([randn((3, 3), 0)], reached(op.name, [(3, 3)], 1)[0])
            assert [y.is_floating_point() for y in outputs] == [True] * (len(outputs) - op.discrete) + [False], op.name


# --------------------------------------------------------------------------------------------------------------- linalg


@pytest.mark.parametrize("name", ["inv", "det", "cholesky", "logdet"])
def test_every_element_of_a_matrix_counts(name):
    """Differences move elements one by one, so that a matrix taken as symmetric shows."""
    x = randn((3, 3), 0) / 4 + 3 * torch.eye(3, dtype=torch.float64)
    x = (x + x.mT) / 2 if name in ("cholesky", "logdet") else x
    g = randn(find_op(name).run([x], {})[0].shape, 1)
    (expected,) = by_differences(name, [x], [g])
    assert torch.allclose(pulled(name, [x], [g])[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit", [False, True])
def test_a_triangle_that_is_not_read_takes_no_gradient(unit):
    x = randn((3, 3), 0) / 4 + 2 * torch.eye(3, dtype=torch.float64)
    g = randn((3, 2), 2)
    parameters = {"left": True, "unitriangular": unit, "upper": False}
    gradient, _ = pulled("solve_triangular", [x, randn((3, 2), 1)], [g], **parameters)
    assert gradient.triu(0 if unit else 1).eq(0).all()
    assert gradient.tril(-1).ne(0).sum() == 3


# ------------------------------------------------------------------------------------------------------ several outputs


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("split", {"sizes": 2, "dim": -1}),
        ("split", {"sizes": [1, 4], "dim": 1}),
        ("chunk", {"chunks": 3, "dim": 1}),
        ("tensor_split", {"places": [1, -1], "dim": -1}),
        ("unbind", {"dim": 1}),
    ],
    ids=str,
)
def test_parts_come_back_in_their_order(name, parameters):
    x = torch.arange(10.0).reshape(2, 5)
    outputs = find_op(name).run([x], parameters)
    assert len(outputs) > 1
    assert torch.equal(pulled(name, [x], outputs, **parameters)[0], x)


@pytest.mark.parametrize(("correction", "keepdim"), [(0, False), (1, True)])
def test_variance_and_mean_add_up(correction, keepdim):
    agree("var_mean", [(3, 4)], dim=-1, correction=correction, keepdim=keepdim)


def test_equal_extremes_share():
    x, g = torch.tensor([1.0, 1.0, 4.0]), torch.tensor(8.0)
    assert pulled("aminmax", [x], [g, 2 * g], dim=0, keepdim=False)[0].tolist() == [4, 4, 16]
