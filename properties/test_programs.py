"""Programs of catalogue ops: three ways agree, gradients of several uses add up, and are linear in the cotangent."""

from dataclasses import replace

import pytest
import torch

from gradharness.errors import OracleUnavailable
from gradharness.inputs.programs import draw_program, traced
from gradharness.model.verdict import Verdict
from gradharness.programs import graph, tape
from gradharness.programs.agreement import excess, noise_floor
from gradharness.programs.catalogue import Catalogue, catalogue, replaced
from gradharness.programs.op import Op
from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.resolution import resolve
from properties import programs
from properties.programs import UP_TO_25, by_differences

SHIFTED = Op(name="x + 3", forward=lambda x: x + 3, vjp=lambda c, g: g, code="{0} + 3", formula="sum rule")
SQUARED = Op(name="3 y²", forward=lambda y: 3 * y**2, vjp=lambda c, g: g * 6 * c.x, code="3 * {0}**2", formula="powers")
MEAN = Op(
    name="mean",
    forward=lambda z: z.mean(),
    vjp=lambda c, g: g.expand(c.x.shape) / c.x.numel(),
    code="{0}.mean()",
    formula="linear",
)
WORKED = Catalogue((SHIFTED, SQUARED, MEAN))


@pytest.mark.parametrize("seed", range(3))
def test_programs_of_up_to_25_ops_agree_three_ways(seed):
    tally = programs.run(100, seed)
    assert tally.wrong == []
    assert tally.valid == tally.programs == 100
    assert tally.undecided_share <= 0.02
    assert tally.measured >= 8
    assert tally.unmeasured <= 0.3 * tally.measured


def test_a_wrong_rule_is_counted_as_one():
    name = "sin"
    ops = replaced(name, lambda call, g: -g * call.x.cos().conj())
    tally = programs.run(6, 0, ops)
    assert tally.wrong
    assert all(name in what or "finite differences" in what for _, what in tally.wrong)


def test_finite_differences_notice_a_wrong_tape_by_themselves():
    ops = Catalogue((SHIFTED, SQUARED, MEAN)).replaced("3 y²", lambda c, g: g * 5 * c.x)
    program = Program((Leaf((3,)),), (Node("x + 3"), Node("3 y²"), Node("mean")))
    assert by_differences(*traced(program, ops)) is Verdict.FAIL
    assert by_differences(*traced(program, WORKED)) is Verdict.PASS


@pytest.mark.parametrize("seed", range(40))
def test_gradients_of_a_program_run_twice_add_up(seed):
    """Every leaf feeds two copies of the program: the gradients are twice what they were."""
    once, cotangents = traced(draw_program(seed, UP_TO_25))
    alone = tape.backward(once, cotangents)
    doubled = doubling(once)
    both = tape.backward(doubled, [*cotangents, *cotangents])
    floor = noise_floor([*cotangents, *alone])
    for g, h in zip(alone, both, strict=True):
        assert excess(h, None if g is None else 2 * g, floor) <= 1


def doubling(trace):
    """The same leaves, and all steps twice."""
    first, count = len(trace.leaves), len(trace.values)

    def moved(i):
        return i if i < first else i + count - first

    steps = [
        replace(s, operands=tuple(map(moved, s.operands)), results=tuple(map(moved, s.results))) for s in trace.steps
    ]
    return replace(
        trace,
        steps=(*trace.steps, *steps),
        values=(*trace.values, *trace.values[first:]),
        needed=(*trace.needed, *trace.needed[first:]),
        outputs=(*trace.outputs, *map(moved, trace.outputs)),
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_tape_is_linear_in_the_cotangents(seed):
    trace, cotangents = traced(draw_program(seed, UP_TO_25))
    others = [w.flip([*range(w.dim())]) * 0.5 for w in cotangents]
    mixed = tape.backward(trace, [2 * v - w for v, w in zip(cotangents, others, strict=True)])
    parts = zip(tape.backward(trace, cotangents), tape.backward(trace, others), strict=True)
    floor = 4 * noise_floor([*cotangents, *mixed])
    for got, (g, h) in zip(mixed, parts, strict=True):
        assert excess(got, None if g is None else 2 * g - h, floor) <= 1


def test_the_worked_example():
    """x = ones(3, 3), y = x + 3, z = 3 y², o = mean(z): do/dx = 6 y / 9 = 24 / 9 everywhere, which is 8 / 3."""
    program = Program((Leaf((3, 3)),), (Node("x + 3"), Node("3 y²"), Node("mean")))
    trace = resolve(program, [torch.ones(3, 3, dtype=torch.float64)], WORKED)
    # 48 and 48 are above the limit of values: recorded scales undo themselves in the cotangent.
    scale = 1.0
    for step in trace.steps:
        scale *= step.parameters.get("factor", 1.0)
    one = torch.tensor(1.0 / scale, dtype=torch.float64)
    assert trace.ops == ("x + 3", "3 y²", "mean")
    assert float(trace.values[trace.outputs[0]]) / scale == 48.0
    for way in (tape.backward, graph.backward):
        (gradient,) = way(trace, [one])
        assert torch.allclose(gradient, torch.full((3, 3), 8 / 3, dtype=torch.float64), rtol=1e-15, atol=0)
    assert by_differences(trace, (one,)) is Verdict.PASS


def test_pytorchs_defect_is_still_there_and_is_not_laid_at_our_door():
    """clamp(x, a, a) is a: where x < a the gradient for a is one, and PyTorch says zero."""
    a = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.clamp(torch.zeros(1, dtype=torch.float64), a, a), a)
    assert float(gradient) == 0.0, "PyTorch has mended it: the entry can go"
    program = Program((Leaf((1,)), Leaf((1,))), (Node("clamp_between", (1, 0, 0)),))
    for values, known in (((0.0, 1.0), True), ((1.0, 0.0), False)):
        trace = resolve(program, [torch.tensor([v], dtype=torch.float64) for v in values], catalogue())
        assert bool(programs.torchs_defect(trace)) is known


def test_a_program_that_autograd_refuses_is_undecided():
    bad = Op(name="bad", forward=_refuses, vjp=lambda c, g: g, code="bad({0})", formula="")
    trace, cotangents = traced(Program((Leaf((2,)),), (Node("bad"),)), Catalogue((bad,)))
    with pytest.raises(OracleUnavailable, match="not today"):
        graph.backward(trace, cotangents)
    assert programs.run(2, 0, Catalogue((bad,))).undecided == 2


class _Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("not today")


def _refuses(x):
    return _Refusing.apply(x)
