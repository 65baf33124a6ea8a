"""A program as source runs, and gives the same outputs and gradients."""

import pytest
import torch

from gradharness.errors import OracleUnavailable
from gradharness.inputs.programs import Knobs, draw_program, traced
from gradharness.programs import graph
from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.source import source


def test_source_is_a_few_plain_lines():
    trace, cotangents = traced(Program((Leaf((2,)),), (Node("sin"), Node("tanh"))))
    lines = source(trace, cotangents).splitlines()
    assert lines[0] == "import torch"
    assert lines[2].startswith("x0 = torch.tensor([")
    assert lines[2].endswith("dtype=torch.float64).requires_grad_()")
    assert lines[3:6] == ["v0 = torch.sin(x0)", "v1 = torch.tanh(v0)", "outputs = (v1,)"]
    assert lines[6].startswith("gradients = torch.autograd.grad([v1], [x0], [torch.tensor(")


@pytest.mark.parametrize("seed", range(40))
def test_source_gives_the_same(seed):
    """To a few ulp: products of matrices depend on where in memory their operands begin."""
    trace, cotangents = traced(draw_program(seed, Knobs(least=1, most=8, complex=3)))
    try:
        expected = graph.backward(trace, cotangents)
    except OracleUnavailable:
        pytest.skip("torch's own backward refuses this program")
    space: dict[str, object] = {}
    text = source(trace, cotangents if trace.differentiable else None)
    exec(compile(text, "<program>", "exec"), space)
    for y, number in zip(space["outputs"], trace.outputs, strict=True):
        assert torch.allclose(y.detach(), trace.values[number], rtol=1e-12, atol=1e-14)
    if trace.differentiable:
        kept = [g for g, leaf in zip(expected, trace.program.leaves, strict=True) if leaf.active]
        for got, wanted in zip(space["gradients"], kept, strict=True):
            assert (got is None) == (wanted is None)
            assert got is None or torch.allclose(got, wanted, rtol=1e-12, atol=1e-14, equal_nan=True)
