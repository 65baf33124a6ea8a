"""The interpreter: every list of nodes is a valid program, and what makes it fit is recorded."""

import pytest
import torch

from gradharness.errors import UnknownNameError, UsageError
from gradharness.inputs.programs import Knobs, draw_program, leaf_values, traced
from gradharness.programs.catalogue import Catalogue, catalogue
from gradharness.programs.op import Domain, Op
from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.resolution import LARGEST, offending, resolve

ADD = Op(name="add", forward=torch.add, vjp=lambda c, g: (g, g), code="{0} + {1}", formula="sum rule", arity=2)
TRIPLE = Op(name="triple", forward=lambda x: 3 * x, vjp=lambda c, g: 3 * g, code="3 * {0}", formula="product rule")
HALVES = Op(
    name="halves",
    forward=lambda x: (x / 2, x * 0.25),
    vjp=lambda c, g, h: g / 2 + h / 4,
    code="({0} / 2, {0} * 0.25)",
    formula="product rule",
    outputs=2,
)
SQUARE_ONLY = Op(
    name="square only",
    forward=lambda x: x.mT,
    vjp=lambda c, g: g.mT,
    code="{0}.mT",
    formula="linear",
    parameters=lambda shapes, choice: {} if len(shapes[0]) == 2 and shapes[0][0] == shapes[0][1] else None,
)
LOG = Op(
    name="log",
    forward=torch.log,
    vjp=lambda c, g: g / c.x,
    code="torch.log({0})",
    formula="",
    domains=(Domain.POSITIVE,),
)
TANH_ = Op(
    name="tanh_",
    forward=lambda x: x.tanh_(),
    vjp=lambda c, g: g * (1 - c.y * c.y),
    code="{0}.tanh_()",
    formula="elementary calculus",
    in_place=True,
)
SMALL = Catalogue((SQUARE_ONLY, TRIPLE, ADD, HALVES, LOG, TANH_))


def settle(nodes, *shapes, ops=SMALL, complex=False):
    program = Program(tuple(Leaf(s, complex=complex) for s in shapes), tuple(nodes))
    return resolve(program, leaf_values(program), ops)


def names(trace):
    return [step.op.name for step in trace.steps]


def test_an_op_that_does_not_take_the_shape_gives_way_to_the_next_one():
    assert names(settle([Node("square only")], (2, 2))) == ["square only"]
    assert settle([Node("square only")], (2, 3)).ops == ("triple",)


def test_the_settled_program_names_what_was_taken():
    trace = settle([Node("square only", (7,), 3)], (2, 3))
    assert trace.program.nodes == (Node("triple", (0,), 3),)


def test_a_ring_of_ops_that_take_nothing_leaves_the_node_out():
    trace = settle([Node("square only")], (3,), ops=Catalogue((SQUARE_ONLY,)))
    assert trace.steps == ()
    assert trace.outputs == ()


def test_operands_count_from_the_newest_value_modulo_what_there_is():
    trace = settle([Node("tanh_"), Node("add", (0, 4))], (2,), (2,))
    assert trace.steps[-1].operands == (trace.steps[1].results[0], 0 + 1)


def test_shapes_that_do_not_broadcast_are_averaged_by_a_step_of_its_own():
    trace = settle([Node("add", (0, 1))], (2, 4), (3, 4))
    assert names(trace)[0] == "(mean)"
    assert trace.steps[0].parameters == {"dim": (-2,)}
    assert trace.values[trace.outputs[0]].shape == (3, 4)


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        ([(2, 3), (3,)], [(), ()]),
        ([(2, 3), (4,)], [(), (-1,)]),
        ([(2, 1), (4, 3), (5, 3)], [(), (-2,), (-2,)]),
        ([(), (2,)], [(), ()]),
    ],
)
def test_offending_axes(shapes, axes):
    assert offending(shapes) == axes


def test_a_domain_is_brought_about_by_a_recorded_step():
    trace = settle([Node("log")], (3,))
    assert names(trace) == ["(positive)", "log"]
    assert [step.prepares for step in trace.steps] == [True, False]


def test_values_above_four_are_scaled_by_a_power_of_two_on_record():
    program = Program((Leaf((2,)),), (Node("triple"),))
    trace = resolve(program, [torch.tensor([4.0, -1.0])], SMALL)
    assert names(trace) == ["triple", "(scale)"]
    assert trace.steps[1].parameters == {"factor": 0.25}
    assert trace.run([torch.tensor([8.0, 0.0])])[0].tolist() == [6.0, 0.0]


def test_an_in_place_op_gets_a_copy_of_its_own():
    trace = settle([Node("tanh_"), Node("add", (0, 1))], (2,))
    assert names(trace)[0] == "(clone)"
    assert torch.equal(trace.leaves[0], leaf_values(trace.program)[0])
    assert trace.values[1] is trace.values[2]


def test_unused_values_are_the_outputs_so_that_every_op_is_live():
    trace = settle([Node("triple"), Node("tanh_", (1,)), Node("log", (0,))], (2,))
    assert len(trace.outputs) == 2


def test_beside_a_used_result_the_others_are_no_outputs():
    assert len(settle([Node("halves")], (2,)).outputs) == 2
    assert len(settle([Node("halves"), Node("log", (0,))], (2,)).outputs) == 1


def test_a_real_op_takes_the_real_part_of_a_complex_operand():
    assert names(settle([Node("log")], (2,), complex=True))[0] == "(real)"


def test_results_that_are_not_finite_give_way():
    bad = Op(name="bad", forward=lambda x: x / 0, vjp=lambda c, g: g, code="{0} / 0", formula="")
    assert settle([Node("bad")], (2,), ops=Catalogue((bad, TRIPLE))).ops == ("triple",)


def test_an_unknown_op_is_named():
    with pytest.raises(UnknownNameError, match="triple"):
        settle([Node("tripel")], (2,))


def test_a_program_needs_a_leaf():
    with pytest.raises(UsageError, match="leaves is empty"):
        Program((), ())


def test_literals_replay():
    program = draw_program(5, Knobs(complex=2))
    assert Program.from_literal(program.literal()) == program
    as_json = [[[list(s), k] for s, k in program.literal()[0]], [list(n) for n in program.literal()[1]], program.seed]
    assert Program.from_literal(as_json) == program


@pytest.mark.parametrize("literal", [(), ([], 1, 2), ([((2,), "rael")], [], 0), ([((2,), "")], [("sin",)], 0)])
def test_what_is_no_literal_is_refused(literal):
    with pytest.raises(UsageError):
        Program.from_literal(literal)


@pytest.mark.parametrize("seed", range(30))
def test_any_program_resolves_finite_and_tame_and_replays_as_settled(seed):
    trace, _ = traced(draw_program(seed, Knobs(least=2, most=25)))
    assert trace.ops
    produced = [trace.values[i] for step in trace.steps if not step.prepares for i in step.results]
    assert all(bool(y.isfinite().all()) for y in produced)
    assert all(float(trace.values[i].abs().max()) <= LARGEST for i in trace.outputs)
    again = resolve(trace.program, trace.leaves, catalogue())
    assert again.program == trace.program
    assert again.ops == trace.ops
    for y, z in zip(trace.run(trace.leaves), again.run(again.leaves), strict=True):
        assert torch.allclose(y, z, rtol=1e-12, atol=1e-14)
