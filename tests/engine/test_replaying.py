"""A kept case looked at again: to the bit the same, by itself, and first in the next run of its test."""

import msgspec
import pytest
import torch
from hypothesis import strategies as st

from gradharness import gradient_test, manual, tensor
from gradharness.engine.events import CheckFinished, WitnessReplayed
from gradharness.engine.kept import KeptStatus, KeptWitness
from gradharness.engine.known import given
from gradharness.engine.plan import Item
from gradharness.engine.witness_file import read_file
from gradharness.engine.witness_store import WitnessStore
from gradharness.errors import UsageError
from gradharness.inputs.recipe import realize
from gradharness.model.verdict import Fault, Verdict
from tests.engine.keepsakes import fail, keeper

F64 = torch.float64


class Scaled(torch.autograd.Function):
    """x times x, with a gradient that is ``factor`` times the right one."""

    factor = 1.0
    where = None

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        wrong = torch.ones_like(x) if Scaled.where is None else Scaled.where(x).to(x.dtype)
        return g * 2 * x * (1 + (Scaled.factor - 1) * wrong)


@pytest.fixture(autouse=True)
def scaled(monkeypatch):
    def scaled(factor, where=None):
        monkeypatch.setattr(Scaled, "factor", factor)
        monkeypatch.setattr(Scaled, "where", where)

    scaled(1.0)
    return scaled


def square(x):
    return Scaled.apply(x)


def square_test(*, checks=("vjp",), reference=torch.square, **specs):
    return gradient_test(reference=reference, checks=checks, **(specs or {"x": "n d"}))(square)


def run(test, folder, *, seed=1, **options):
    """A run that keeps what fails; its report, and what came of what was kept."""
    at = keeper(folder, "test_ops.py::test_f")
    report = test.run(emit=at, seed=seed, known=at.known, **options)
    return at.told(report), at.replayed


def kept_in(folder):
    return WitnessStore(folder / ".gradharness").read().witnesses


def test_a_failure_is_kept_with_the_very_values_of_its_witness(tmp_path, scaled):
    scaled(2)
    report, _ = run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    (finding,) = report.findings
    assert torch.equal(kept.value(dict(kept.arguments())["x"]), dict(finding.witness.arguments)["x"])
    assert torch.equal(kept.cotangents()[0], finding.witness.cotangents[0])
    assert finding.replay.startswith(f"gradharness replay {kept.id}")


def test_a_replay_tells_wrong_from_fixed_and_draws_nothing_when_it_passes(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    seen = square_test().replay(kept)
    assert seen.replayed.status is KeptStatus.FAILING
    assert seen.report.findings[0].fault is Fault.CONSTANT_FACTOR
    assert seen.report.findings[0].reproducer
    scaled(1)
    seen = square_test().replay(kept)
    assert (seen.replayed.status, seen.report.results[0].examples) == (KeptStatus.FIXED, 1)


def test_what_failed_is_looked_at_before_anything_is_drawn(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    x = kept.value(dict(kept.arguments())["x"])
    test = square_test()
    test.question()
    test.run(seed=9, items=(Item("value", "cpu", "float64"),))
    report, replayed = run(test, tmp_path, seed=9)
    assert report.results[0].examples == 1
    assert torch.equal(dict(report.findings[0].witness.arguments)["x"], x)
    assert [one.status for one in replayed] == [KeptStatus.FAILING]
    assert [w.id for w in kept_in(tmp_path)] == [kept.id]


def test_it_is_fixed_only_when_its_check_passes_and_is_looked_at_ever_after(tmp_path, scaled):
    scaled(2, where=lambda x: x < 0)
    run(square_test(), tmp_path)
    scaled(2, where=lambda x: x > 0)
    _, replayed = run(square_test(), tmp_path)
    first = next(one for one in replayed)
    assert first.status in (KeptStatus.UNDECIDED, KeptStatus.FAILING)
    scaled(1)
    report, replayed = run(square_test(), tmp_path)
    assert report.verdict is Verdict.PASS
    assert {one.status for one in replayed} == {KeptStatus.FIXED}
    assert {w.entry.status for w in kept_in(tmp_path)} == {KeptStatus.FIXED}
    scaled(3)
    report, replayed = run(square_test(), tmp_path)
    assert report.results[0].examples == len(replayed)
    assert KeptStatus.FAILING in {one.status for one in replayed}


def test_another_fault_at_the_kept_case_is_said(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    scaled(0)
    seen = square_test().replay(kept)
    assert seen.replayed.status is KeptStatus.FAILING
    assert seen.report.findings[0].fault is Fault.ZERO_GRADIENT
    assert "it was kept as: constant factor" in seen.report.findings[0].evidence


def test_the_kept_values_are_used_where_the_recipe_draws_others(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    other = msgspec.structs.replace(kept.entry, recipe={**kept.entry.recipe, "seed": 77, "style": "large"})
    x = kept.value(dict(kept.arguments())["x"])
    seen = square_test().replay(KeptWitness(other, kept.tensors))
    assert torch.equal(dict(seen.report.findings[0].witness.arguments)["x"], x)
    assert torch.equal(seen.report.findings[0].witness.cotangents[0], kept.cotangents()[0])


def test_an_undecided_case_is_never_called_fixed(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    scaled(1)
    nowhere = {name: torch.zeros_like(t) for name, t in kept.tensors.items()}  # the gradient of 0 is 0
    seen = square_test(checks=("linearity",)).replay(
        KeptWitness(msgspec.structs.replace(kept.entry, check="vjp", device="cuda"), nowhere)
    )
    if not torch.cuda.is_available():
        assert (seen.replayed.status, seen.replayed.reason) == (KeptStatus.UNDECIDED, "torch sees no CUDA device")


def two(x, y):
    return Scaled.apply(x) + y


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (lambda: gradient_test(x="n", y="n", checks=("vjp",))(two), "its arguments were x, and are x, y now"),
        (lambda: square_test(x=tensor("n d", low=100.0)), "none of the test's any more: x: it had the value"),
        (lambda: square_test(x="n d e"), "none of the test's any more: x: it had the shape"),
    ],
)
def test_a_case_of_another_domain_cannot_run_and_says_why(tmp_path, scaled, test, reason):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    seen = test().replay(kept)
    assert seen.replayed.status is KeptStatus.ERRORING
    assert reason in seen.replayed.reason
    _, replayed = run(test(), tmp_path)
    assert replayed[0].status is KeptStatus.ERRORING
    assert kept.id in [w.id for w in kept_in(tmp_path)]


def test_a_check_that_is_no_more_cannot_run(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    (kept,) = kept_in(tmp_path)
    gone = KeptWitness(msgspec.structs.replace(kept.entry, check="vjpp"), kept.tensors)
    seen = square_test().replay(gone)
    assert seen.replayed.status is KeptStatus.ERRORING
    assert "did you mean 'vjp'" in seen.replayed.reason
    assert seen.report is None


def test_what_a_strict_run_calls_wrong_is_looked_at_by_strict_runs(tmp_path):
    path = fail(keeper(tmp_path), strict=True, arguments=(("x", torch.ones(1, 1, dtype=F64)),))
    _, replayed = run(square_test(), tmp_path)
    assert replayed == []
    _, replayed = run(square_test(), tmp_path, strict=True)
    assert [one.kept.id for one in replayed] == [path.stem]


def test_a_failure_is_on_the_disk_before_the_next_check_begins(tmp_path, scaled):
    scaled(2)
    at = keeper(tmp_path)
    order = []

    def emit(event):
        at(event)
        if isinstance(event, CheckFinished):
            order.append(len(kept_in(tmp_path)))

    square_test(checks=("vjp", "value", "accumulation")).run(emit=emit, seed=1)
    assert order[0] == 1


def test_a_kept_case_comes_before_its_check_is_finished(tmp_path, scaled):
    scaled(2)
    run(square_test(), tmp_path)
    at = keeper(tmp_path)
    events = []
    square_test().run(emit=lambda e: (at(e), events.append(type(e))), known=at.known, seed=2)
    assert events.index(WitnessReplayed) < events.index(CheckFinished)


def test_a_random_subject_is_not_called_fixed_by_luck(tmp_path):
    wrong = gradient_test(x="n", checks=("vjp",))(_Noisy.apply)
    path = fail(keeper(tmp_path), arguments=(("x", torch.ones(3, dtype=F64)),), cotangents=())
    kept = read_file(path)
    _, replayed = run(wrong, tmp_path, seed=kept.entry.seed + 1)
    assert replayed[0].status is KeptStatus.UNDECIDED
    assert "draws random numbers" in replayed[0].reason
    _, replayed = run(wrong, tmp_path, seed=kept.entry.seed)
    assert replayed[0].status is KeptStatus.FIXED


class _Noisy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        keep = (torch.rand(x.shape) < 0.5).to(x.dtype)
        ctx.save_for_backward(keep)
        return x * keep

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


def test_drawn_values_of_a_strategy_and_containers_come_back(tmp_path, scaled):
    scaled(2)

    def subject(xs, power):
        return Scaled.apply(xs[0]) * xs[1]["w"] ** power

    def make():
        return gradient_test(xs=[tensor("n"), {"w": tensor("n", low=1.0)}], power=st.integers(1, 3), checks=("vjp",))(
            subject
        )

    run(make(), tmp_path)
    (kept,) = kept_in(tmp_path)
    assert make().replay(kept).replayed.status is KeptStatus.FAILING
    scaled(1)
    assert make().replay(kept).replayed.status is KeptStatus.FIXED


class LinearRegression:
    factor = 2

    def __init__(self):
        self.w = torch.ones(2, dtype=F64)

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, g):
        self.dw = self.factor * self.x.T @ g


def test_a_manual_class_with_state_comes_back(tmp_path, monkeypatch):
    def make():
        subject = manual(LinearRegression, state=("w",), gradients=lambda m: {"w": m.dw})
        return gradient_test(subject, x="n 2", checks=("vjp",))

    run(make(), tmp_path)
    (kept,) = kept_in(tmp_path)
    assert [name for name, _ in kept.arguments()] == ["x", "w"]
    assert make().replay(kept).replayed.status is KeptStatus.FAILING
    monkeypatch.setattr(LinearRegression, "factor", 1)
    assert make().replay(kept).replayed.status is KeptStatus.FIXED


class Contiguous(torch.autograd.Function):
    """Reads memory as if it were contiguous."""

    right = False

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        (w,) = ctx.saved_tensors
        g = g if Contiguous.right else g.as_strided(g.shape, torch.empty(g.shape).stride())
        return g * w, None


def test_a_fault_of_the_layout_comes_back_though_the_check_makes_its_own_layouts(tmp_path, monkeypatch):
    def make():
        specs = {"x": "n d", "w": tensor("n d", grad=False)}
        return gradient_test(reference=torch.mul, checks=("layout",), **specs)(lambda x, w: Contiguous.apply(x, w) + 0)

    report, _ = run(make(), tmp_path)
    assert report.verdict is Verdict.FAIL
    (kept,) = kept_in(tmp_path)
    assert make().replay(kept).replayed.status is KeptStatus.FAILING
    monkeypatch.setattr(Contiguous, "right", True)
    assert make().replay(kept).replayed.status is KeptStatus.FIXED


def test_an_example_that_is_drawn_anew_in_every_process_is_kept_by_value(tmp_path, scaled):
    scaled(2, where=lambda x: x.abs() > 1e3)
    x = torch.tensor([1e4, 2.0, 3.0], dtype=F64, requires_grad=True)
    run(gradient_test(square, inputs=(x,), checks=("vjp",), reference=torch.square), tmp_path)
    (kept,) = kept_in(tmp_path)
    other = torch.tensor([1.0, 5.0], dtype=F64, requires_grad=True)
    test = gradient_test(square, inputs=(other,), checks=("vjp",), reference=torch.square)
    seen = test.replay(kept)
    assert seen.replayed.status is KeptStatus.FAILING
    assert dict(seen.report.findings[0].witness.arguments)["x"].abs().max() > 1e3


def test_a_recipe_that_asks_for_more_than_the_file_holds_draws_nothing(tmp_path, monkeypatch):
    path = fail(keeper(tmp_path), recipe={"sizes": {"n": 2**24, "d": 2**24}, "seed": 5})
    domain = square_test().question().domain

    def never(*_args, **_options):
        raise AssertionError("it was drawn")

    monkeypatch.setattr("gradharness.engine.known.realize", never)
    case = given(read_file(path), domain, dtype=F64, device="cpu")
    assert case.primals.leaves[0].shape == (1, 2)
    assert dict(case.recipe.sizes) == {"n": 1, "d": 2}
    monkeypatch.undo()
    assert realize(domain, case.recipe).leaves[0].shape == (1, 2)


def test_a_described_value_is_taken_from_the_test_and_else_refused(tmp_path):
    class Mode:
        pass

    def make(spec):
        return gradient_test(x="n d", mode=spec, checks=("vjp",))(lambda x, mode: Scaled.apply(x)).question().domain

    mode = Mode()
    arguments = (("x", torch.ones(1, 2, dtype=F64)), ("mode", mode))
    kept = read_file(fail(keeper(tmp_path), arguments=arguments))
    from gradharness.inputs.specs import ConstantSpec

    case = given(kept, make(ConstantSpec(mode)), dtype=F64, device="cpu")
    assert case.primals.values[1] is mode
    with pytest.raises(UsageError, match=r"its argument mode was Mode .* which a file cannot hold"):
        given(kept, make(st.builds(Mode)), dtype=F64, device="cpu")
