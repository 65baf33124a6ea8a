"""Whether kept values are still inputs of a test: whatever is drawn is, and what the specs no longer say is not."""

import pytest
import torch

from gradharness.inputs.domain import declared_domain
from gradharness.inputs.membership import sizes_in, why_outside
from gradharness.inputs.recipe import realize
from gradharness.inputs.sampling import sample
from gradharness.inputs.sizes import SizeRange
from gradharness.inputs.specs import ChoiceSpec, as_spec, index, mask, tensor
from gradharness.inputs.styles import Style

F64 = torch.float64


def domain(**specs):
    return declared_domain({name: as_spec(spec, name) for name, spec in specs.items()})


@pytest.mark.parametrize("dtype", [F64, torch.bfloat16])
@pytest.mark.parametrize("sizes", list(SizeRange))
def test_whatever_is_drawn_is_inside(sizes, dtype):
    drawn_from = domain(
        x="n d",
        low=tensor("n", low=100.0),
        high=tensor("d", high=-3.0),
        both=tensor("*b d", low=0.1, high=0.9),
        wide=tensor("#n d", low=1e-3, high=1e4),
        i=index("n", below="d"),
        j=index("3", below=7, low=2),
        m=mask("n d"),
        pair=(tensor("n"), {"w": tensor("d 2")}),
        c=tensor("n", dtype=torch.complex128),
        s=tensor("n n", kind="spd"),
    )
    for recipe in sample(drawn_from, sizes, 30, 3, broadcast=True, styles=tuple(Style)):
        values = realize(drawn_from, recipe, dtype=dtype).values
        assert why_outside(drawn_from, values) == ""


X = torch.ones(2, 3, dtype=F64)


@pytest.mark.parametrize(
    ("spec", "value", "reason"),
    [
        ("n d", X, ""),
        ("n 3", X, ""),
        ("n 4", X, "x: it had the shape [2, 3], in which 4 is not 3"),
        ("n n", X, "x: it had the shape [2, 3], in which n is not 2"),
        ("n", X, "x: it had the shape [2, 3]"),
        ("*b d", X, ""),
        ("*b c d e", X, "x: it had the shape [2, 3]"),
        (tensor("n d", low=0.5), X, ""),
        (tensor("n d", low=2.0), X, "x: it had the value 1, below 2"),
        (tensor("n d", high=0.5), X, "x: it had the value 1, above 0.5"),
        ("n d", X.long(), "x: it was a tensor of integer values, and is one of float values now"),
        ("n d", X.to(torch.complex128), "x: it was a tensor of complex values, and is one of float values now"),
        (mask("n d"), X, "x: it was a tensor of float values, and is one of bool values now"),
        ("n d", [X], "x: it was no tensor"),
        ([tensor("n d")], X, "x[0]: it was no tensor"),
        ([tensor("n d")], [X], ""),
    ],
)
def test_a_tensor_is_inside_only_if_its_spec_says_so(spec, value, reason):
    told = why_outside(domain(leaf="k", x=spec), (torch.ones(1, dtype=F64), value))
    assert told == reason


@pytest.mark.parametrize(
    ("spec", "value", "reason"),
    [
        (3, 3, ""),
        (3, 4, "flag was 4, and is 3 now"),
        (True, 1, "flag was 1, and is True now"),
        (float("nan"), float("nan"), ""),
        (ChoiceSpec((1, 2)), 2, ""),
        (ChoiceSpec((1, 2)), 3, "flag was 3, which is none of its choices"),
    ],
)
def test_a_plain_value_is_inside_only_if_it_is_one_of_today(spec, value, reason):
    assert why_outside(domain(x="n", flag=spec), (torch.ones(1, dtype=F64), value)) == reason


def test_sizes_are_read_off_the_tensors():
    assert sizes_in(domain(x="n d", y="#n k"), (X, torch.ones(1, 4, dtype=F64))) == {"n": 2, "d": 3, "k": 4}
