"""What a check has seen and what a subject costs: levels that a baseline records."""

import pytest
import torch

from gradharness import check, pair
from gradharness.checks.training_judging import levels
from gradharness.engine import measuring
from gradharness.engine.measuring import Costs, cost_ratio, costs_of, saved_bytes
from gradharness.model.subject import Primals
from gradharness.subjects import as_subject

X = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3)
SIZE = X.numel() * 8


def at(*values):
    names = tuple("xyz"[: len(values)])
    return Primals(names, values, tuple((i,) for i in range(len(values))))


def views(x):
    return x, x.T, x[0]


def function(saves, keeps=False):
    """Something whose forward saves what ``saves`` makes of its input, or keeps it as an attribute of ctx."""

    class F(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if keeps:
                ctx.kept = saves(x)
            else:
                ctx.save_for_backward(*saves(x))
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    return as_subject(F)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (function(lambda x: ()), 0),
        (function(lambda x: (x,)), 0),
        (function(lambda x: (x.view(-1), x.T)), 0),
        (function(lambda x: (x.exp(),)), SIZE),
        (function(lambda x: views(x.exp())), SIZE),
        (function(lambda x: (x.exp(), x > 0)), SIZE + X.numel()),
        (function(lambda x: x.exp(), keeps=True), SIZE),
        (function(lambda x: {"a": [x.exp(), x]}, keeps=True), SIZE),
        (as_subject(torch.exp), SIZE),
        (as_subject(torch.sin), 0),
    ],
    ids=["none", "input", "views-of-input", "one", "views-of-one", "mask", "attribute", "nested", "exp", "sin"],
)
def test_saved_bytes_are_those_of_storages_that_are_not_inputs(subject, expected):
    assert saved_bytes(subject, at(X)) == expected


def test_nothing_is_saved_where_autograd_has_no_part():
    assert saved_bytes(as_subject(pair(torch.sin, lambda x, g: g * x.cos())), at(X)) is None


class Clock:
    """Stands still but for what it is told that a call takes."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def taking(self, seconds):
        def run(x):
            self.now += seconds() if callable(seconds) else seconds
            return x.sin()

        return as_subject(run)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    return clock


def test_the_cost_is_the_ratio_of_both_times(clock):
    assert cost_ratio(clock.taking(3e-4), clock.taking(2e-4), at(X)) == pytest.approx(1.5)
    assert cost_ratio(clock.taking(2e-4), clock.taking(2e-4), at(X)) == pytest.approx(1.0)


def test_hiccups_and_first_calls_are_forgotten(clock):
    times = iter([9.0, *[3e-4, 5e-3, 3e-4, 3e-4, 1e-3] * 50])
    assert cost_ratio(clock.taking(lambda: next(times)), clock.taking(1e-4), at(X)) == pytest.approx(3.0)


def test_a_slow_subject_is_timed_once(clock):
    calls = []
    assert cost_ratio(clock.taking(lambda: calls.append(1) or 60.0), clock.taking(20.0), at(X)) == pytest.approx(3.0)
    assert len(calls) == 2


def test_a_subject_that_breaks_costs_nothing():
    def broken(x):
        raise ValueError("no")

    assert costs_of("vjp", as_subject(broken), as_subject(torch.sin), at(X)) == Costs()
    assert costs_of("leak", as_subject(broken), None, at(X)) == Costs()
    assert costs_of("vjp", as_subject(torch.sin), None, at(X)) == Costs()
    assert costs_of("value", as_subject(torch.exp), as_subject(torch.exp), at(X)) == Costs()


class Noisy(torch.autograd.Function):
    """The gradient of the sine, off by one part in 1e9: far within the tolerance."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.cos() * (1 + 1e-9)


def results(subject, *checks, **options):
    report = check(subject, {"x": "n"}, checks=checks, seed=0, **options)
    return {r.check: r for r in report.results}


@pytest.mark.parametrize("reference", [torch.sin, None], ids=["reference", "differences"])
def test_the_error_that_was_seen_is_told(reference):
    found = results(Noisy, "vjp", reference=reference)["vjp"]
    assert 0.9e-9 < found.error < 4e-9
    assert found.error < found.resolution


def test_checks_that_measure_none_have_none_and_others_are_exact():
    found = results(Noisy, "value", "contract", "linearity", "shape", "leak", reference=torch.sin)
    assert found["value"].error == 0.0
    assert found["contract"].error is None
    assert found["linearity"].error < 1e-15
    assert found["shape"].error > 0.9e-9
    assert (found["leak"].saved_bytes, found["leak"].cost_ratio, found["value"].saved_bytes) == (0, None, None)


def test_an_error_in_a_low_precision_is_relative_to_float64():
    assert 1e-4 < results(Noisy, "precision")["precision"].error < 0.1


def test_an_update_has_an_error_relative_to_its_size():
    before = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    expected = before + torch.tensor([[0.1, 0.1], [0.2, 0.2]])
    after = expected + torch.tensor([[0.0, 1e-3], [0.0, 4e-3]])
    (level,) = levels((before,), (after,), (expected,), (torch.full_like(before, 1e-2),))
    assert level.error == pytest.approx(4e-3 / 0.2, rel=1e-4)
    assert level.resolution == pytest.approx(1e-2 / 0.2, rel=1e-4)
    (level,) = levels((before,), (before,), (before,), (torch.full_like(before, 1e-2),))
    assert (level.error, level.resolution) == (0.0, float("inf"))


def test_levels_and_calls_are_the_same_for_one_seed():
    def told():
        found = results(Noisy, "vjp", "linearity", "mask", "leak", reference=torch.sin)
        return {name: (r.error, r.resolution, r.calls, r.saved_bytes) for name, r in found.items()}

    assert told() == told()


def test_a_failure_claims_no_level():
    found = results(pair(torch.sin, lambda x, g: 2 * g * x.cos()), "vjp")["vjp"]
    assert (found.error, found.resolution, found.cost_ratio) == (None, None, None)
