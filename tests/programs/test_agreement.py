"""The tape beside autograd: differences are seen, and the node to blame is named."""

import pytest
import torch

from gradharness.inputs.programs import program_cotangents
from gradharness.programs import graph, tape
from gradharness.programs.agreement import Wrong, disagreement, localise
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.op import Op
from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.resolution import resolve

ADD = Op(name="add", forward=torch.add, vjp=lambda c, g: (g, g), code="{0} + {1}", formula="sum rule", arity=2)
MUL = Op(
    name="mul",
    forward=torch.mul,
    vjp=lambda c, g: (g * c.inputs[1], g * c.x),
    code="{0} * {1}",
    formula="product rule",
    arity=2,
)
SIN = Op(name="sin", forward=torch.sin, vjp=lambda c, g: g * c.x.cos(), code="{0}.sin()", formula="")
TANH = Op(name="tanh", forward=torch.tanh, vjp=lambda c, g: g * (1 - c.y**2), code="{0}.tanh()", formula="")
TANH_ = Op(
    name="tanh_", forward=torch.tanh_, vjp=lambda c, g: g * (1 - c.y**2), code="{0}.tanh_()", formula="", in_place=True
)
RELU = Op(name="relu", forward=torch.relu, vjp=lambda c, g: g * (c.x > 0), code="{0}.relu()", formula="", kinks="at 0")
SAME = Op(name="same", forward=lambda x: x, vjp=lambda c, g: g, code="{0}", formula="")
OPS = Catalogue((ADD, MUL, SIN, TANH, TANH_, RELU, SAME))
CHAIN = (Node("sin"), Node("tanh"), Node("mul", (0, 1)), Node("tanh_"), Node("add", (0, 4)), Node("same"), Node("sin"))


def settle(ops, nodes=CHAIN, values=None, shape=(2, 3)):
    program = Program((Leaf(shape), Leaf(shape)), tuple(nodes))
    g = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, dtype=torch.float64, generator=g) for _ in range(2)] if values is None else values
    trace = resolve(program, values, ops)
    return trace, program_cotangents(trace)


def test_right_rules_agree():
    trace, cotangents = settle(OPS)
    assert disagreement(trace, cotangents) is None
    assert localise(trace, cotangents) is None


def test_cotangents_of_every_value_are_autograds():
    trace, cotangents = settle(OPS)
    expected = graph.cotangents_of(trace, cotangents)
    seen = {}

    def pull(number, step, call, weights):
        seen[step.results[0]] = weights[0].clone()
        return tape.checked_pull(number, step, call, weights)

    tape.backward(trace, cotangents, pull)
    assert len(seen) == len(trace.steps)
    for number, weight in seen.items():
        assert torch.allclose(weight, expected[number])


@pytest.mark.parametrize("name", ["sin", "tanh", "mul", "tanh_", "add", "same"])
def test_a_wrong_factor_is_found_and_its_node_named(name):
    right = OPS.find(name)

    def wrong(call, g):
        gradients = right.pull(call, [g])
        return tuple(1.5 * x for x in gradients)

    trace, cotangents = settle(OPS.replaced(name, wrong))
    found = disagreement(trace, cotangents)
    assert found is not None
    assert found.excess > 1
    assert found.guilty is not None
    assert (found.guilty.op, found.guilty.wrong) == (name, Wrong.GRADIENT)
    assert torch.allclose(found.guilty.got, 1.5 * found.guilty.expected)


def test_the_last_of_two_wrong_nodes_is_named_first():
    ops = OPS.replaced("sin", lambda c, g: g).replaced("mul", lambda c, g: (g, g))
    trace, cotangents = settle(ops)
    assert disagreement(trace, cotangents).guilty.node == 6


def test_who_writes_into_a_shared_cotangent_is_named():
    def writes(call, g):
        return g.mul_(call.x.cos())

    nodes = (Node("sin"), Node("tanh", (1,)), Node("add", (0, 1)))
    trace, cotangents = settle(OPS.replaced("sin", writes), nodes)
    before = [w.clone() for w in cotangents]
    found = localise(trace, cotangents)
    assert (found.op, found.wrong, found.detail) == ("sin", Wrong.WRITES, "writes into its cotangent")
    assert all(torch.equal(w, b) for w, b in zip(cotangents, before, strict=True))


def test_who_writes_into_a_saved_value_is_named_and_the_trace_stays_whole():
    def writes(call, g):
        return g * call.y.mul_(-1).mul_(call.y).add_(1)

    nodes = (Node("tanh"), Node("mul", (0, 0)))
    trace, cotangents = settle(OPS.replaced("tanh", writes), nodes)
    before = [v.clone() for v in trace.values]
    found = disagreement(trace, cotangents)
    assert found is not None
    assert (found.guilty.op, found.guilty.wrong) == ("tanh", Wrong.WRITES)
    assert all(torch.equal(v, b) for v, b in zip(trace.values, before, strict=True))


def test_no_gradient_at_all_is_a_finding():
    trace, cotangents = settle(OPS.replaced("sin", lambda c, g: g[0]))
    found = disagreement(trace, cotangents)
    assert found.guilty.wrong is Wrong.FORM
    assert "shape" in found.guilty.detail


def test_another_convention_at_a_kink_is_undecided_and_beside_it_wrong():
    ops = OPS.replaced("relu", lambda c, g: g * (c.x >= 0))
    zero = [torch.zeros(2, dtype=torch.float64)] * 2
    trace, cotangents = settle(ops, [Node("relu")], zero, (2,))
    found = disagreement(trace, cotangents)
    assert found is not None
    assert found.guilty is None
    trace, cotangents = settle(OPS.replaced("relu", lambda c, g: g), [Node("relu")], shape=(8,))
    assert disagreement(trace, cotangents).guilty.op == "relu"


def test_gradients_that_cancel_are_no_difference():
    def noisy(call, g):
        return g * call.x.cos() + 1e-15 * g.abs().max()

    nodes = (Node("sin"), Node("mul", (0, 0)))
    zero = [torch.full((2,), torch.pi / 2, dtype=torch.float64)] * 2
    trace, cotangents = settle(OPS.replaced("sin", noisy), nodes, zero, (2,))
    assert disagreement(trace, cotangents) is None
