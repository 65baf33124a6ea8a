"""Models as programs: their graph by torch.fx, with every hand-written backward a step, and back again."""

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

from gradharness.errors import UsageError
from gradharness.inputs.programs import draw_program, program_cotangents, traced
from gradharness.programs import graph
from gradharness.programs.agreement import disagreement
from gradharness.programs.catalogue import catalogue
from gradharness.programs.models import from_module
from gradharness.programs.opaque import OpaqueOp
from gradharness.programs.placed import misplaced
from gradharness.programs.program import Program


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class SquareInTwo(Function):
    """With a setup_context of its own, and called through a name that was bound long ago."""

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


square_in_two = SquareInTwo.apply


class WritesCotangent(Square):
    @staticmethod
    def backward(ctx, g):
        return g.mul_(2 * ctx.saved_tensors[0])


class OneBuffer(Square):
    """All calls share what is saved."""

    @staticmethod
    def forward(ctx, x):
        OneBuffer.saved = x.clone()
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * OneBuffer.saved


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Conv1d(1, 2, 3, padding=1)
        self.clip = nn.ReLU(inplace=True)
        self.table = nn.Embedding(5, 4)

    def forward(self, x, index, *, scale=3):
        h = self.clip(self.lift(x))
        h = Square.apply(h) + square_in_two(x.sin()) + self.table(index)
        y = self.norm(h).softmax(-1)
        a, b = y.chunk(2, -1)
        parts = {"mixed": self.mix(y[:, None, :]), "extreme": torch.cat([a, b], 1).max(1).values}
        return parts, y.view(-1, 2).mean(dim=1, keepdim=True) * scale + x.shape[0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model().double()


@pytest.fixture
def example():
    return torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 1, 4])


def names(trace):
    return [step.op.name for step in trace.steps]


def test_a_model_becomes_steps(model, example):
    trace = Program.from_module(model, example)
    expected = model(*example)
    got = trace.run(trace.leaves)
    assert torch.equal(got[0], expected[0]["mixed"])
    assert torch.equal(got[1], expected[0]["extreme"])
    assert torch.equal(got[2], expected[1])
    by_hand = {step.op.name for step in trace.steps if not isinstance(step.op, OpaqueOp)}
    assert {"relu", "sin", "softmax", "chunk", "max_along", "mean"} <= by_hand
    assert {"Square.apply", "SquareInTwo.apply", "linear", "conv1d"} <= set(names(trace)) - by_hand


def test_inputs_and_parameters_are_differentiated(model, example):
    trace = from_module(model, example)
    actives = [leaf.active for leaf in trace.program.leaves]
    assert actives == [True, False] + [True] * 7  # not the index
    cotangents = program_cotangents(trace)
    gradients = graph.backward(trace, cotangents)
    x = example[0].clone().requires_grad_()
    parts, last = model(x, example[1])
    torch.autograd.backward([parts["mixed"], parts["extreme"], last], list(cotangents))
    assert torch.allclose(gradients[0], x.grad)
    assert {round(float(g.abs().sum()), 9) for g in gradients[2:]} == {
        round(float(p.grad.abs().sum()), 9) for p in model.parameters()
    }


def test_the_tape_agrees_with_autograd_of_a_right_model(model, example):
    trace = from_module(model, example)
    assert disagreement(trace, program_cotangents(trace)) is None
    assert misplaced(trace, program_cotangents(trace)) is None


def test_a_wrong_rule_is_found_in_a_model_and_named(model, example):
    ops = catalogue().replaced("softmax", lambda call, g: g * call.y)
    trace = from_module(model, example, ops=ops)
    found = disagreement(trace, program_cotangents(trace))
    assert found is not None
    assert found.guilty.op == "softmax"


@pytest.mark.parametrize("function", [WritesCotangent, OneBuffer])
def test_a_backward_that_is_wrong_only_where_it_stands_is_named(function):
    def model(x, y):
        h = x @ y
        return function.apply(h) + (h + function.apply(h * 2)) * Square.apply(y).sum()

    trace = from_module(model, (torch.randn(3, 3), torch.randn(3, 3)))
    found = misplaced(trace, program_cotangents(trace))
    assert found is not None
    assert found.name == f"{function.__name__}.apply"
    assert found.excess > 1


def test_its_twin_is_silent():
    trace = from_module(lambda x: Square.apply(x) + (x + Square.apply(x * 2)), torch.randn(3))
    assert names(trace).count("Square.apply") == 2
    assert misplaced(trace, program_cotangents(trace)) is None


def test_one_parameter_in_two_places_is_one_leaf():
    tied = nn.Linear(3, 3, bias=False)
    trace = from_module(nn.Sequential(tied, nn.Tanh(), tied), torch.randn(2, 3))
    assert len(trace.program.leaves) == 2


def test_what_the_model_writes_in_place_is_followed():
    def model(x):
        y = x * 2
        y.add_(1)
        return y.sin() + torch.nn.functional.relu_(y * 1)

    trace = from_module(model, torch.randn(3))
    assert disagreement(trace, program_cotangents(trace)) is None


def test_buffers_stay_as_they_were():
    norm = nn.Sequential(nn.BatchNorm1d(3))
    before = {name: b.clone() for name, b in norm.named_buffers()}
    trace = from_module(norm, torch.randn(4, 3))
    assert all(torch.equal(b, before[name]) for name, b in norm.named_buffers())
    assert [leaf.active for leaf in trace.program.leaves].count(True) == 3


def test_modules_with_control_flow_stay_whole():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0].tanh()

    trace = from_module(Attends(), torch.randn(2, 3, 4))
    assert names(trace) == ["attention", "tanh"]
    assert len(trace.program.leaves) == 1 + 4
    assert disagreement(trace, program_cotangents(trace)) is None


def test_settings_of_a_call_belong_to_the_graph():
    def model(x, power, flag):
        return x**power if flag else -x

    trace = from_module(model, (torch.rand(3), 2, True))
    assert len(trace.program.leaves) == 1
    assert torch.equal(trace.run((torch.full((3,), 3.0),))[0], torch.full((3,), 9.0))


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        (lambda x: x if x.sum() > 0 else -x, torch.randn(3), "cannot follow the model"),
        (F.dropout, torch.ones(99), r"draws random numbers \(call .eval\(\)\)"),
        (lambda x: x / (1 // 0), torch.randn(3), "the model raises ZeroDivisionError"),
        (lambda x: x, (torch.randn(3), torch.randn(3)), "the model raises TypeError"),
        (lambda xs: xs[0] + xs[1], ([torch.randn(3), torch.randn(3)],), "each tensor as an argument of its own"),
    ],
)
def test_what_is_no_graph_is_said_so(model, example, words):
    with pytest.raises(UsageError, match=words):
        from_module(model, example)


def test_a_model_goes_back_to_fx(model, example):
    trace = from_module(model, example)
    module = trace.to_fx()
    assert isinstance(module, torch.fx.GraphModule)
    assert "softmax" in module.code
    assert "Square_apply" in module.code
    assert all(torch.equal(a, b) for a, b in zip(module(*trace.leaves), trace.run(trace.leaves), strict=True))


def test_drawn_programs_go_to_fx():
    for seed in range(60):
        trace, _ = traced(draw_program(seed))
        got = trace.to_fx()(*[x.clone() for x in trace.leaves])
        expected = trace.run([x.clone() for x in trace.leaves])
        assert all(torch.allclose(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True)), seed
