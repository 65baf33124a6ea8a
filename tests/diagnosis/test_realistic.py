"""Faults that people make in backwards of real layers: the first finding names them, and leads to the line."""

import math

import pytest
import torch
import torch.nn.functional as F

from gradharness.model.verdict import Fault
from tests.engine.searching import looker, search
from tests.faults.planting import function, randn

INDEX = torch.tensor([1, 4, 1, 0, 4])
LENGTHS = torch.tensor([4, 2, 3])
MASK = torch.tensor(
    [[True, True, False, True, True], [False, True, True, True, False], [True, True, True, False, True]]
)


def beside(make, *rest):
    """Inputs that are drawn, and some that stay as they are."""
    return lambda: (*make(), *rest)


def found(forward, backward, inputs, reference=None):
    """What the check ``vjp`` says first of a Function with this backward."""
    at = looker(function(forward, backward), reference=reference, examples=inputs())
    failure = search(at, examples=4, shrinks=0).run()
    assert failure is not None
    return failure.explanation


def normalised(x):
    mean = x.mean(-1, keepdim=True)
    rstd = (x.var(-1, keepdim=True, unbiased=False) + 1e-5).rsqrt()
    return (x - mean) * rstd, rstd


def layer_norm(x, w):
    return normalised(x)[0] * w


def layer_norm_backward(*, centred=True, projected=1.0, dim=-1, unbiased=False):
    def backward(x, w, g):
        normal, rstd = normalised(x)
        if unbiased:
            rstd = (x.var(-1, keepdim=True, unbiased=True) + 1e-5).rsqrt()
            normal = (x - x.mean(-1, keepdim=True)) * rstd
        h = g * w
        dx = h - h.mean(dim, keepdim=True) if centred else h
        dx = dx - projected * normal * (h * normal).mean(dim, keepdim=True)
        return rstd * dx, (g * normalised(x)[0]).sum(0)

    return backward


@pytest.mark.parametrize(
    ("wrong", "fault", "words"),
    [
        ({"centred": False}, Fault.MISSING_TERM, "`mean`"),
        ({"projected": 0.0}, Fault.MISSING_TERM, "`rsqrt`"),
        ({"projected": -1.0}, Fault.SIGN, "`rsqrt`"),
        ({"projected": 2.0}, Fault.CONSTANT_FACTOR, "2 times"),
        ({"dim": 0}, Fault.WRONG_AXIS, "dimension 0 where dimension 1 is due"),
    ],
)
def test_a_layer_norm(wrong, fault, words):
    finding = found(layer_norm, layer_norm_backward(**wrong), randn((6, 5), (5,)))
    assert finding.fault is fault, finding.message
    assert words in finding.message
    assert "test_realistic.py" in finding.message


def test_a_fused_layer_norm_of_the_reference_has_its_terms():
    reference = lambda x, w: F.layer_norm(x, x.shape[-1:], w)  # noqa: E731
    finding = found(layer_norm, layer_norm_backward(centred=False), randn((6, 5), (5,)), reference)
    assert finding.fault is Fault.MISSING_TERM
    assert "centring" in finding.message


def softmax(x):
    return x.softmax(-1)


@pytest.mark.parametrize(
    ("backward", "fault", "words"),
    [
        (lambda y, g: y * g, Fault.MISSING_TERM, "projection"),
        (lambda y, g: y * (g + (g * y).sum(-1, keepdim=True)), Fault.SIGN, "projection"),
        (lambda y, g: y * (g - (g * y).sum(0, keepdim=True)), Fault.WRONG_AXIS, "`(g * y).sum(0, keepdim=True)`"),
        (lambda y, g: y * (g - (g * y).mean(-1, keepdim=True)), Fault.CONSTANT_FACTOR, "1/the size of x"),
        (lambda y, g: y * (g - g.sum(-1, keepdim=True)), Fault.MISSING_FACTOR, "lacks the factor the output"),
    ],
)
def test_a_softmax(backward, fault, words):
    finding = found(softmax, lambda x, g: backward(x.softmax(-1), g), randn((4, 5)))
    assert finding.fault is fault, finding.message
    assert words in finding.message


def attention(q, k, v):
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def attention_backward(*, delta=True, turned=True):
    def backward(q, k, v, g):
        scale = 1 / math.sqrt(q.shape[-1])
        p = torch.softmax(q @ k.mT * scale, -1)
        dp = g @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale if delta else p * dp * scale
        return ds @ k, (ds.mT if turned else ds) @ q, p.mT @ g

    return backward


@pytest.mark.parametrize(
    ("wrong", "fault", "words"),
    [({"delta": False}, Fault.MISSING_TERM, "projection"), ({"turned": False}, Fault.TRANSPOSED, "@ q`")],
)
def test_an_attention(wrong, fault, words):
    finding = found(attention, attention_backward(**wrong), randn((5, 4), (5, 4), (5, 4)))
    assert finding.fault is fault, finding.message
    assert words in finding.message


def assigned(w, index, g):
    gradient = torch.zeros_like(w)
    gradient[index] = g
    return gradient, None


def averaged(w, index, g):
    counts = torch.bincount(index, minlength=len(w)).clamp(min=1)
    return torch.zeros_like(w).index_add(0, index, g) / counts[:, None], None


@pytest.mark.parametrize(("backward", "words"), [(assigned, "last copy wins"), (averaged, "not added up")])
def test_an_embedding(backward, words):
    finding = found(lambda w, i: w[i], backward, beside(randn((6, 3)), INDEX))
    assert finding.fault is Fault.DUPLICATES, finding.message
    assert words in finding.message
    assert found(
        lambda w, i: w[i], lambda w, i, g: (0.5 * assigned(w, i, g)[0], None), beside(randn((6, 3)), INDEX)
    ).fault


def pooled(x, lengths):
    valid = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.dtype)[..., None]
    return (x * valid).sum(1) / lengths[:, None]


@pytest.mark.parametrize(
    ("forward", "backward", "inputs", "words"),
    [
        (
            pooled,
            lambda x, lengths, g: ((g / lengths[:, None])[:, None].expand(x.shape), None),
            beside(randn((3, 4, 2)), LENGTHS),
            "is y or beyond",
        ),
        (lambda x, m: x.sin() * m, lambda x, m, g: (g * x.cos(), None), beside(randn((3, 5)), MASK), "y is False"),
        (lambda x, y: x.maximum(y), lambda x, y, g: (g, g * (y > x)), randn((4, 5), (4, 5)), "x < "),
    ],
    ids=["lengths", "mask", "order"],
)
def test_what_leaks_to_where_it_does_not_belong(forward, backward, inputs, words):
    finding = found(forward, backward, inputs)
    assert finding.fault is Fault.WRONG_REGION, finding.message
    assert words in finding.message


def affine(x, w, b):
    return torch.tanh(x @ w + b)


@pytest.mark.parametrize(
    ("backward", "fault", "words"),
    [
        (lambda x, w, d: (d.detach() @ w.T, x.T @ d, d[0]), Fault.MISSING_REDUCTION, "first place"),
        (lambda x, w, d: (d @ w.T, x.T @ d, d.sum().expand(d.shape[1])), Fault.EXTRA_REDUCTION, "all dimensions"),
        (lambda x, w, d: (d @ w.T, x.T @ d, d.mean(0)), Fault.CONSTANT_FACTOR, "1/the batch size"),
    ],
    ids=["first row", "all summed", "mean"],
)
def test_a_bias(backward, fault, words):
    def whole(x, w, b, g):
        return backward(x, w, g * (1 - torch.tanh(x @ w + b) ** 2))

    finding = found(affine, whole, randn((4, 3), (3, 5), (5,)))
    assert finding.fault is fault, finding.message
    assert words in finding.message


def test_a_step_of_the_chain_rule_that_is_left_out():
    finding = found(affine, lambda x, w, b, g: (g @ w.T, x.T @ g, g.sum(0)), randn((4, 3), (3, 5), (5,)))
    assert finding.fault is Fault.MISSING_FACTOR
    assert "lacks the derivative of `tanh`" in finding.message


@pytest.mark.parametrize(
    ("forward", "backward", "fault", "words"),
    [
        (
            lambda x: x.sigmoid(),
            lambda x, g: g * torch.sigmoid(x),
            Fault.MISSING_FACTOR,
            "lacks the factor (1 - the output)",
        ),
        (lambda x: torch.sin(x * x), lambda x, g: g * torch.cos(x * x), Fault.MISSING_FACTOR, "lacks the factor 2·x"),
        (lambda x: x.tanh(), lambda x, g: g * (1 - x * x), Fault.WRONG_OPERAND, "takes x where the output is due"),
        (lambda x: F.silu(x) + 0, lambda x, g: g * torch.sigmoid(x), Fault.MISSING_TERM, "x·sigmoid'(x)"),
        (lambda x: x.cumsum(-1), lambda x, g: g.cumsum(-1), Fault.WRONG_ELEMENTS, "in the wrong direction"),
        (lambda x: x + torch.tanh(x), lambda x, g: g * (1 - torch.tanh(x) ** 2), Fault.MISSING_TERM, "`add`"),
        (lambda x: x.sin(), lambda x, g: g * x.bfloat16().cos().double(), Fault.LOW_INTERNALS, "`x.bfloat16()`"),
        (
            lambda x: F.gelu(x) + 0,
            lambda x, g: torch.ops.aten.gelu_backward(g, x, approximate="tanh"),
            Fault.WRONG_FORMULA,
            "tanh",
        ),
    ],
    ids=["factor", "inner", "operand", "term", "direction", "residual", "rounding", "another function"],
)
def test_an_elementwise_function(forward, backward, fault, words):
    finding = found(forward, backward, randn((4, 5)))
    assert finding.fault is fault, finding.message
    assert words in finding.message


def test_two_faults_at_once_are_unknown():
    finding = found(lambda x: x.sin(), lambda x, g: g * (1.3 * x.cos() + 0.1 * x.abs().sqrt()), randn((4, 5)))
    assert finding.fault is Fault.UNKNOWN, finding.message
