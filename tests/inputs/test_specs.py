"""What users may write for an argument, and what they are told where it cannot be."""

import sys

import pytest
import torch
from hypothesis import strategies as st

from gradharness.errors import SpecError, UsageError
from gradharness.inputs.domain import declared_domain
from gradharness.inputs.shapes import parse_shape, shape_text
from gradharness.inputs.specs import (
    ConstantSpec,
    ExampleSpec,
    IndexSpec,
    MaskSpec,
    StrategySpec,
    TensorSpec,
    TreeSpec,
    as_spec,
    index,
    mask,
    specs_from_signature,
    tensor,
)


@pytest.mark.parametrize(
    "text", ["", "n", "n d", "n 3", "*batch d", "... d", "#n d", "batch_1 head_dim 64", "_ _", "0 n", "n *rest"]
)
def test_shape_is_read_and_written_back(text):
    assert shape_text(parse_shape(text)) == text


def test_whitespace_between_dims_does_not_matter():
    assert parse_shape("  n \t d\n") == parse_shape("n d")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n  d,", "'d,' in shape 'n  d,' is no dim"),
        ("n-1", "'n-1' in shape 'n-1' is no dim"),
        ("3d", "'3d' in shape '3d' is no dim"),
        ("-1", "'-1' in shape '-1' is no dim"),
        ("n*d", "'n*d'"),
        ("*", "'*' in shape"),
        ("#3", "'#3'"),
        ("²", "'²'"),
        ("(n, d)", "'(n,'"),
        ("*a *b", "more than one variadic part"),
        ("... *b", "more than one variadic part"),
        (3, "must be text such as 'n d', not 3"),
        (("n", "d"), "must be text"),
    ],
)
def test_malformed_shape_is_refused_in_one_line(text, said):
    with pytest.raises(SpecError) as caught:
        tensor(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tensor("n", low=1, high=1), "low=1 is not below high=1"),
        (lambda: tensor("n", low=float("nan")), "no finite number"),
        (lambda: tensor("n", high=float("inf")), "leave it out"),
        (lambda: tensor("n", low="0"), "no finite number"),
        (lambda: tensor("n", dtype=torch.int64), "use index(...) or mask(...)"),
        (lambda: tensor("n", dtype=torch.complex64, low=0), "no order"),
        (lambda: index("n", below=0), "no integer is in 0 .. -1"),
        (lambda: index("n", below="v w"), "must name one dim"),
        (lambda: index("n", below=1.5), "name of a dim or an integer"),
        (lambda: mask("n!"), "'n!'"),
        (lambda: as_spec("n d!", "weight"), "weight: 'd!'"),
    ],
)
def test_impossible_spec_is_refused(make, said):
    with pytest.raises(SpecError, match=said.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")):
        make()


def test_as_spec_takes_whatever_a_user_may_write():
    assert as_spec("n d", "x") == tensor("n d")
    assert as_spec(mask("n"), "m") == mask("n")
    assert isinstance(as_spec(st.integers(), "k"), StrategySpec)
    assert as_spec(1.0, "k") == ConstantSpec(1.0)
    assert as_spec(None, "k") == ConstantSpec(None)
    assert as_spec([1, 2], "k") == ConstantSpec([1, 2])
    assert isinstance(as_spec(torch.ones(2), "x"), ExampleSpec)
    many = as_spec([tensor("n"), "m"], "xs")
    assert isinstance(many, TreeSpec)
    assert [path for path, _ in many.leaves] == [(0,), (1,)]


def test_jaxtyping_annotations_are_specs():
    jaxtyping = pytest.importorskip("jaxtyping")
    a = torch.Tensor
    assert as_spec(jaxtyping.Float[a, "n d"], "x") == tensor("n d")
    assert as_spec(jaxtyping.Float[a, ""], "x") == tensor("")
    assert as_spec(jaxtyping.Float32[a, "*b 3"], "x") == tensor("*b 3", dtype=torch.float32)
    assert as_spec(jaxtyping.Complex[a, "n=4 #m"], "x") == tensor("4 #m", dtype=torch.complex128)
    assert as_spec(jaxtyping.Bool[a, "..."], "x") == mask("...")
    assert isinstance(as_spec(jaxtyping.Int[a, "n"], "x"), IndexSpec)
    assert as_spec(jaxtyping.Int32[a, "n"], "x").dtype is torch.int32
    assert isinstance(as_spec(jaxtyping.Shaped[a, "n"], "x"), TensorSpec)
    with pytest.raises(SpecError, match="'n-1'"):
        as_spec(jaxtyping.Float[a, "n-1"], "x")


def test_jaxtyping_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxtyping", raising=False)
    assert as_spec(int, "x") == ConstantSpec(int)
    assert "jaxtyping" not in sys.modules


def function(x, weight, bias=None, *, eps=1e-5):
    return x, weight, bias, eps


def test_signature_gives_one_spec_per_argument_in_its_order():
    specs = specs_from_signature(function, {"weight": "k d", "x": "n d"})
    assert list(specs) == ["x", "weight", "bias", "eps"]
    assert specs["bias"] == ConstantSpec(None)
    assert specs["eps"] == ConstantSpec(1e-5)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"x": "n d"}, "argument 'weight' has no spec"),
        ({"x": "n", "wieght": "n"}, "no argument 'wieght': did you mean 'weight'"),
        ({"zzz": "n"}, "its arguments: x, weight, bias, eps"),
        ({"x": "n,", "weight": "n"}, "x: 'n,'"),
    ],
)
def test_signature_and_keywords_that_do_not_fit(keywords, said):
    with pytest.raises(SpecError, match=said):
        specs_from_signature(function, keywords)


def test_signature_with_annotations_needs_no_keywords():
    jaxtyping = pytest.importorskip("jaxtyping")

    def annotated(x, flag=True):
        return x, flag

    annotated.__annotations__ = {"x": 'jaxtyping.Float[torch.Tensor, "n d"]'}
    annotated.__globals__.setdefault("jaxtyping", jaxtyping)
    assert specs_from_signature(annotated, {})["x"] == tensor("n d")
    annotated.__annotations__ = {"x": "NotToBeFound"}
    with pytest.raises(SpecError, match="argument 'x' has no spec"):
        specs_from_signature(annotated, {})


def test_declared_domain_tells_what_it_draws():
    domain = declared_domain(
        {
            "x": tensor("n d", low=0),
            "idx": index("k", below="n"),
            "m": mask("n d"),
            "p": StrategySpec(st.floats(0, 1)),
            "reduction": ConstantSpec("mean"),
            "t": tensor("n", grad=False),
        }
    )
    assert domain.differentiable == ("x",)
    assert domain.describe() == (
        "x: float[n, d] above 0 (declared)",
        "idx: integers[k] in 0 .. n-1 (declared)",
        "m: bool[n, d] (declared)",
        "p: drawn from floats(min_value=0, max_value=1) (declared)",
        "reduction: always 'mean' (declared)",
        "t: float[n] real, no gradient (declared)",
        "n: any size, d: any size, k: any size",
    )


def test_blank_dims_are_all_different():
    domain = declared_domain({"x": tensor("_ _")})
    assert len(domain.dims) == 2


@pytest.mark.parametrize(
    ("specs", "error", "said"),
    [
        ({"m": mask("n")}, UsageError, "no differentiable input among m"),
        ({}, UsageError, "no arguments at all"),
        ({"x": tensor("n", grad=False)}, UsageError, "no differentiable input"),
        ({"x": tensor("rows d"), "i": index("n", below="row")}, SpecError, "did you mean 'rows'"),
        ({"x": tensor("*b d"), "y": tensor("b")}, SpecError, "'b' is both one dim and any number"),
    ],
)
def test_domain_that_cannot_be(specs, error, said):
    with pytest.raises(error, match=said):
        declared_domain(specs)


def test_mask_spec_is_plain():
    assert mask("n d") == MaskSpec(shape=parse_shape("n d"))
