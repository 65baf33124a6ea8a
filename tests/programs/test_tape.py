"""The reverse tape: accumulation, fan-out, views, None, several outputs, subsets of leaves."""

import pytest
import torch

from gradharness.errors import RuleError
from gradharness.inputs.programs import leaf_values
from gradharness.programs import tape
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
TURNED = Op(name="turned", forward=lambda x: x.mT, vjp=lambda c, g: g.mT, code="{0}.mT", formula="linear")
HALF = Op(name="half", forward=lambda x: x / 2, vjp=lambda c, g: g / 2, code="{0} / 2", formula="linear")
PARTS = Op(
    name="parts",
    forward=lambda x: (x[:1], x[1:]),
    vjp=lambda c, g, h: torch.cat([g, h]),
    code="({0}[:1], {0}[1:])",
    formula="linear",
    outputs=2,
)
STOP = Op(name="stop", forward=lambda x: x / 2, vjp=lambda c, g: None, code="{0}.detach() / 2", formula="")
TOPPED = Op(
    name="topped",
    forward=lambda x: tuple(x.max(0)),
    vjp=lambda c, g, _: torch.zeros_like(c.x).scatter(0, c.outputs[1][None], g[None]),
    code="{0}.max(0)",
    formula="",
    outputs=2,
    discrete=1,
)
OPS = Catalogue((ADD, MUL, TURNED, HALF, PARTS, STOP, TOPPED))


def run(nodes, leaves, weights=None, ops=OPS, pull=tape.checked_pull):
    program = Program(tuple(Leaf(s, active=a) for s, a in leaves), tuple(nodes))
    trace = resolve(program, leaf_values(program), ops)
    weights = [torch.ones_like(trace.values[i]) for i in trace.outputs] if weights is None else weights
    return trace, tape.backward(trace, weights, pull)


def test_one_leaf_twice_has_the_sum_of_both_places():
    trace, (gradient,) = run([Node("mul", (0, 0)), Node("half")], [((3,), True)])
    # x * x is at most 16: a recorded scale is part of the program.
    factor = next((s.parameters["factor"] for s in trace.steps if s.op.name == "(scale)"), 1.0)
    assert torch.allclose(gradient, factor * trace.leaves[0])


def test_a_result_used_by_two_ops_has_the_sum_of_what_both_send_back():
    _, (gradient,) = run([Node("half"), Node("half"), Node("turned", (1,))], [((2, 2), True)])
    assert torch.allclose(gradient, torch.full((2, 2), 0.25 + 0.5, dtype=torch.float64))


def test_contributions_are_added_from_the_last_step_to_the_first():
    seen = []

    def pull(number, step, call, weights):
        seen.append(number)
        return tape.checked_pull(number, step, call, weights)

    run([Node("half"), Node("turned"), Node("half", (1,))], [((2, 2), True)], pull=pull)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 3


def test_a_cotangent_that_two_operands_share_is_not_added_into():
    weight = torch.ones(2, dtype=torch.float64)
    nodes = [Node("half", (1,)), Node("add", (0, 1)), Node("add", (0, 2))]
    _, (left, right) = run(nodes, [((2,), True), ((2,), True)], weights=[weight])
    assert weight.tolist() == [1.0, 1.0]
    assert left is not None
    assert right is not None
    assert float((left + right).sum()) == pytest.approx(2 * (1.5 + 1.0))


def test_views_come_back_in_the_shape_of_what_they_are_views_of():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    _, (gradient,) = run([Node("turned")], [((2, 2), True)], weights=[weight])
    assert gradient.tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_an_expanded_cotangent_goes_in_as_it_is():
    strides = []

    def pull(number, step, call, weights):
        strides.append(weights[0].stride())
        return tape.checked_pull(number, step, call, weights)

    run([Node("half")], [((2, 3), True)], weights=[torch.ones(()).double().expand(2, 3)], pull=pull)
    assert strides == [(0, 0)]


def test_an_unused_result_of_several_has_a_cotangent_of_zeros():
    _, (gradient,) = run([Node("parts"), Node("half", (0,))], [((3,), True)])
    assert gradient.tolist() == [0.0, 0.5, 0.5]


def test_indices_are_no_values_and_get_zeros():
    trace, (gradient,) = run([Node("topped")], [((3, 2), True)])
    assert len(trace.outputs) == 1
    assert gradient.sum(0).tolist() == [1.0, 1.0]


def test_none_from_a_vjp_is_no_contribution():
    trace, (gradient,) = run([Node("stop"), Node("add", (0, 1))], [((2,), True)])
    assert trace.ops == ("stop", "add")
    assert gradient.tolist() == [1.0, 1.0]
    assert run([Node("stop")], [((2,), True)])[1] == (None,)


def test_leaves_that_require_no_grad_get_none_and_cost_nothing():
    calls = []

    def pull(number, step, call, weights):
        calls.append(step.op.name)
        return tape.checked_pull(number, step, call, weights)

    nodes = [Node("half", (1,)), Node("turned", (1,))]
    _, gradients = run(nodes, [((2, 2), False), ((2, 2), True)], pull=pull)
    assert calls == ["turned"]
    assert gradients[0] is None
    assert gradients[1] is not None


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda c, g: 1 / 0, "raised ZeroDivisionError"),
        (lambda c, g: (g, g), "gave 2 gradients for 1 operands"),
        (lambda c, g: 2.0, "gave float for operand 0"),
        (lambda c, g: g[0], r"gave a gradient of shape \(\) for operand 0 of shape \(2,\)"),
    ],
)
def test_what_is_no_gradient_is_named(vjp, words):
    with pytest.raises(RuleError, match=words) as caught:
        run([Node("half")], [((2,), True)], ops=OPS.replaced("half", vjp))
    assert (caught.value.op, caught.value.step) == ("half", 0)
