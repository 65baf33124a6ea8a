"""Gradients by hand beside central differences, for one op of the catalogue."""

import itertools

import torch

from gradharness.programs.op import Call
from gradharness.programs.ops import find_op
from tests.programs.drawing import randn


def pulled(name, values, weights, **parameters):
    """The gradients by hand."""
    op = find_op(name)
    return op.pull(Call(tuple(values), op.run(values, parameters), parameters), weights)


def loss(name, values, weights, parameters):
    """The sum of outputs times cotangents; those without a gradient left out."""
    op = find_op(name)
    outputs = op.run(values, parameters)
    return sum(float((y * w).sum()) for y, w in zip(outputs[: len(outputs) - op.discrete], weights, strict=False))


def by_differences(name, values, weights, **parameters):
    """Central differences, element by element; exact for what is linear or quadratic in each element."""
    gradients = []
    for number, x in enumerate(values):
        gradient = torch.zeros(x.shape, dtype=x.dtype)
        for place in itertools.product(*map(range, x.shape)):
            ends = []
            for step in (2.0**-10, -(2.0**-10)):
                moved = x.clone(memory_format=torch.contiguous_format)
                moved[place] += step
                ends.append(loss(name, [*values[:number], moved, *values[number + 1 :]], weights, parameters))
            gradient[place] = (ends[0] - ends[1]) * 2.0**9
        gradients.append(gradient)
    return gradients


def agree(name, shapes, bar=1e-9, **parameters):
    """Whether the gradients by hand are those by differences."""
    values = [randn(shape, number) for number, shape in enumerate(shapes)]
    op = find_op(name)
    outputs = op.run(values, parameters)
    weights = [randn(y.shape, 50 + k) if y.is_floating_point() else torch.zeros(y.shape) for k, y in enumerate(outputs)]
    for got, expected in zip(
        pulled(name, values, weights, **parameters), by_differences(name, values, weights, **parameters), strict=True
    ):
        assert got.shape == expected.shape
        assert torch.allclose(got, expected, rtol=bar, atol=bar), (name, parameters, got, expected)


def reached(name, shapes, count=300):
    """All parameters that the first choices give."""
    op = find_op(name)
    return [p for choice in range(count) if (p := op.parameters(shapes, choice)) is not None]
