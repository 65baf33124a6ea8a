"""What is measured to show a finding: only what is true of it, and never at its expense."""

import math

import pytest
import torch

from gradharness import check, pair
from gradharness.engine import exhibits
from gradharness.engine.exhibits import SIDE, heat_map
from gradharness.model.exhibit import Drawing, HeatMap, LengthCurve, NodeKind, OracleValue, StepCurve
from gradharness.model.verdict import Discrepancy, Verdict


def shown(report, kind):
    return [e for finding in report.findings for e in finding.exhibits if isinstance(e, kind)]


def of(forward, vjp, inputs, checks=("vjp",), **options):
    return check(pair(forward, vjp), inputs, checks=checks, seed=1, **options)


SMOOTH = {
    "tanh": (torch.tanh, lambda x: 1 - x.tanh() ** 2),
    "exp": (torch.exp, torch.exp),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "wave": (lambda x: (7 * x).sin(), lambda x: 7 * (7 * x).cos()),
    "log": (lambda x: (x * x + 1e-2).log(), lambda x: 2 * x / (x * x + 1e-2)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_oracles_and_differences_keep_their_bounds_and_the_subject_is_beyond_them(name):
    forward, derivative = SMOOTH[name]
    report = of(forward, lambda x, w: 1.01 * w * derivative(x), {"x": "n"}, reference=forward)
    (finding,) = report.findings
    witness = finding.witness
    (x,) = [value for _, value in witness.arguments]
    truth = (witness.cotangents[0] * derivative(x))[witness.index].item()
    values = shown(report, OracleValue)
    assert values[0].oracle == "autograd of the reference"
    assert "finite difference" in [v.oracle for v in values]
    for value in values:
        assert abs(value.value - truth) <= value.bound + 1e-15 * abs(truth)
        assert value.bound < abs(witness.got - truth)
    (curve,) = shown(report, StepCurve)
    assert curve.claimed == pytest.approx(1.01 * truth)
    assert curve.expected == pytest.approx(truth)
    assert list(curve.steps) == sorted(curve.steps, reverse=True)
    assert len(curve.steps) == len(curve.values) == len(curve.bounds) > 9
    for step, value, bound in zip(curve.steps, curve.values, curve.bounds, strict=True):
        assert abs(value - truth) <= bound, (step, value, truth, bound)


def test_a_pass_shows_nothing():
    report = of(torch.sin, lambda x, w: w * x.cos(), {"x": "n d"}, checks=("vjp", "linearity", "shape"))
    assert report.verdict is Verdict.PASS
    assert all(not finding.exhibits for finding in report.findings)


def test_the_map_is_of_the_case_as_it_was_drawn():
    report = of(torch.sin, lambda x, w: 2 * w * x.cos(), {"x": "n d"})
    (found,) = shown(report, HeatMap)
    assert found.expected.numel() > report.findings[0].witness.elements
    assert torch.allclose(found.got, 2 * found.expected)
    assert found.shape == tuple(found.expected.shape)


def test_a_failure_that_is_small_from_the_start_is_shown_in_a_larger_case(monkeypatch):
    measured = exhibits.exhibits
    monkeypatch.setattr("gradharness.engine.runner.exhibits", lambda looker, _first, best: measured(looker, best, best))
    report = of(torch.sin, lambda x, w: 2 * w * x.cos(), {"x": "n d"})
    assert report.findings[0].witness.elements == 1
    (found,) = shown(report, HeatMap)
    assert found.expected.numel() > 1
    assert torch.allclose(found.got, 2 * found.expected)


def test_oracles_are_not_asked_of_another_cotangent():
    report = of(torch.sin, lambda x, w: w.abs() * x.cos(), {"x": "n"}, checks=("linearity",))
    assert report.verdict is Verdict.FAIL
    assert shown(report, HeatMap)
    assert not shown(report, OracleValue)
    assert not shown(report, StepCurve)


def test_a_complex_gradient_has_complex_oracles_and_no_step_curve():
    x = torch.tensor([1 + 2j, 0.5 - 1j, -1.5 + 0.5j], requires_grad=True)
    report = of(lambda x: x * x, lambda x, w: 2 * w * x, (x,))
    witness = report.findings[0].witness
    values = shown(report, OracleValue)
    assert {"finite difference"} <= {v.oracle for v in values}
    truth = (witness.cotangents[0] * 2 * witness.arguments[0][1].conj())[witness.index].item()
    assert all(abs(v.value - truth) <= v.bound + 1e-12 for v in values)
    assert not shown(report, StepCurve)
    assert shown(report, HeatMap)[0].part in ("real", "imaginary")


class Summed(torch.autograd.Function):
    """The gradient of w is summed up row by row, in the dtype of its inputs."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        total = torch.zeros_like(w)
        for row in g * x:
            total = total + row
        return g * w, total


def test_a_low_precision_is_shown_over_lengths():
    report = check(Summed, {"x": "n d", "w": "d"}, reference=lambda x, w: x * w, checks=("vjp", "precision"), seed=1)
    (curve,) = shown(report, LengthCurve)
    assert (curve.label, curve.dim) == ("w", "n")
    assert list(curve.lengths) == sorted(set(curve.lengths))
    assert curve.errors[-1] > 5 * curve.errors[0]
    assert curve.errors[-1] > 20 * curve.plain[-1]
    assert not shown(report, StepCurve)


class Overwriting(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.mul_(2 * x)


class Copying(Overwriting):
    @staticmethod
    def backward(ctx, g):
        return Overwriting.backward(ctx, g.clone())


def test_a_program_is_drawn_with_the_guilty_node_in_one_piece():
    report = check(Overwriting, {"x": "n"}, checks=("program",), seed=1)
    (drawing,) = shown(report, Drawing)
    (guilty,) = [n for n in drawing.nodes if n.guilty]
    assert (guilty.label, guilty.kind) == ("Overwriting", NodeKind.SUBJECT)
    leaves = [n.label for n in drawing.nodes if n.kind is NodeKind.LEAF]
    assert "x" in leaves
    assert NodeKind.OUTPUT in {n.kind for n in drawing.nodes}
    number = drawing.nodes.index(guilty)
    assert {drawing.nodes[a].label for a, b in drawing.edges if b == number} == {"x"}
    assert all(drawing.nodes[b].kind is not NodeKind.LEAF for _, b in drawing.edges)
    assert drawing.why


def test_a_right_node_is_not_drawn():
    report = check(Copying, {"x": "n"}, checks=("program",), seed=1)
    assert report.verdict is Verdict.PASS
    assert not report.findings


def test_a_model_is_drawn_with_the_guilty_call_in_it():
    def model(x):
        y = torch.sin(x)
        return y * 2 + Overwriting.apply(y)

    report = check(model, {"x": "n"}, checks=("program",), seed=1)
    (drawing,) = shown(report, Drawing)
    assert [n.label for n in drawing.nodes if n.guilty] == ["Overwriting"]
    assert {"x", "sin", "mul", "add", "output"} <= {n.label for n in drawing.nodes}


def test_a_graph_that_cannot_be_drawn_does_not_cost_the_finding(monkeypatch):
    def broken(_outputs):
        raise AttributeError("a node of another kind")

    monkeypatch.setattr("gradharness.checks.drawn.graph_nodes", broken)
    report = check(Overwriting, {"x": "n"}, checks=("program",), seed=1)
    assert report.verdict is Verdict.FAIL
    assert not shown(report, Drawing)


def test_what_cannot_be_shown_does_not_cost_the_finding(monkeypatch):
    plain = of(torch.sin, lambda x, w: 2 * w * x.cos(), {"x": "n"})

    def broken(*_args):
        raise RuntimeError("nothing to see")

    monkeypatch.setattr(exhibits, "heat_map", broken)
    monkeypatch.setattr(exhibits, "_oracle_values", broken)
    report = of(torch.sin, lambda x, w: 2 * w * x.cos(), {"x": "n"})
    assert [f.message for f in report.findings] == [f.message for f in plain.findings]
    assert plain.findings[0].exhibits
    assert report.findings[0].exhibits == ()


def test_a_forward_that_raises_beside_the_point_is_shown_without_these_steps():
    def forward(x):
        if (x >= 4).any():
            raise ValueError("too large")
        return x.sin()

    x = torch.tensor([3.9375, 1.0], dtype=torch.float64, requires_grad=True)
    report = of(forward, lambda x, w: 2 * w * x.cos(), (x,))
    assert report.verdict is Verdict.FAIL
    for curve in shown(report, StepCurve):
        assert all(math.isfinite(v) for v in curve.values)


def test_a_slow_subject_is_not_called_again_and_again(monkeypatch):
    monkeypatch.setattr(exhibits, "_SECONDS", 0.0)
    report = of(torch.sin, lambda x, w: 2 * w * x.cos(), {"x": "n"})
    assert shown(report, HeatMap)
    assert not shown(report, OracleValue)


def test_a_finding_costs_some_sixty_calls(monkeypatch):
    calls = {"all": 0, "measuring": 0}
    measured = exhibits.exhibits

    def forward(x):
        calls["all"] += 1
        return x.sin() * x.exp()

    def counting(looker, first, best):
        before = calls["all"]
        found = measured(looker, first, best)
        calls["measuring"] = calls["all"] - before
        return found

    monkeypatch.setattr("gradharness.engine.runner.exhibits", counting)
    of(forward, lambda x, w: w * x.exp(), {"x": "n d"})
    assert 0 < calls["measuring"] <= 60


def test_one_seed_shows_the_same():
    made = [of(torch.sin, lambda x, w: 2 * w * x.cos(), {"x": "n d"}).findings[0].exhibits for _ in range(2)]
    assert str(made[0]) == str(made[1])


# --- maps by themselves ----------------------------------------------------------------------------------------------


def found(expected, place, got=None):
    got = expected.clone() if got is None else got
    got[place] += 1
    return Discrepancy(label="x", expected=expected, got=got, bound=0.01)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((3, 4), (2, 1)),
        ((7,), (6,)),
        ((1000,), (999,)),
        ((5000,), (4321,)),
        ((64, 64), (63, 0)),
        ((200, 3), (199, 2)),
        ((3, 200), (0, 100)),
        ((300, 300), (150, 299)),
        ((2, 5, 6), (1, 4, 0)),
        ((2, 3, 70, 80), (1, 2, 69, 79)),
    ],
)
def test_a_map_holds_the_worst_element_where_it_says(shape, place):
    expected = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    made = heat_map(found(expected, place))
    rows, columns = made.expected.shape
    assert rows <= SIDE
    assert columns <= SIDE
    assert made.shape == shape
    assert made.expected.shape == made.got.shape == made.bound.shape
    assert made.expected[made.worst] == expected[place]
    assert made.got[made.worst] == expected[place] + 1
    assert int((made.got != made.expected).sum()) == 1
    assert made.expected[0, 0] == expected[made.corner]
    assert made.wrapped == (len(shape) == 1 and shape[0] > SIDE)
    kept = made.expected.reshape(-1)[: rows * columns - made.padding]
    assert len(set(kept.tolist())) == len(kept)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (0, 3)])
def test_what_has_no_second_element_is_no_map(shape):
    assert heat_map(Discrepancy(label="x", expected=torch.zeros(shape), got=torch.ones(shape), bound=0.1)) is None


def test_a_direction_alone_is_no_map():
    assert heat_map(Discrepancy(label="x", got=torch.ones(3), bound=0.1)) is None


def test_no_gradient_is_shown_as_zeros():
    made = heat_map(Discrepancy(label="x", expected=torch.ones(3, 2), bound=torch.full((3, 2), 0.1)))
    assert not made.got.any()
    assert made.bound.tolist() == torch.full((3, 2), 0.1).double().tolist()


def test_of_complex_numbers_the_part_is_shown_that_differs():
    expected = torch.tensor([[1 + 1j, 2 + 2j]])
    made = heat_map(Discrepancy(label="x", expected=expected, got=expected.conj(), bound=0.1))
    assert made.part == "imaginary"
    assert made.expected.tolist() == [[1.0, 2.0]]
    assert made.got.tolist() == [[-1.0, -2.0]]
