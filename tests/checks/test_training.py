"""Check ``training``: each planted fault is named, and its twin passes."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from gradharness import Fault, Verdict, check, manual, tensor
from gradharness.checks import Setting, find_check
from gradharness.engine.looking import Looker
from gradharness.engine.question import ask
from gradharness.errors import UsageError
from gradharness.inputs.sampling import sample
from gradharness.inputs.sizes import SizeRange
from gradharness.subjects.training_loop import training
from tests.checks import training_classes as classes
from tests.checks import training_loops as loops


@dataclass(frozen=True)
class Planted:
    """A fault in use: the wrong code, its twin, and what has to be said."""

    name: str
    wrong: object
    right: object
    fault: Fault
    says: str


def descent(**options):
    return lambda params: torch.optim.SGD(params, lr=0.01, **options)


def of_class(cls, optimizer=None, **options):
    return manual(
        cls,
        state=("W", "b"),
        gradients=lambda one: one.grads,
        loss=classes.squared_error,
        optimizer=optimizer or descent(),
        **options,
    )


def of_loop(loop, optimizer=None, model=loops.Net, **options):
    return training(loop, model=model, loss=torch.nn.functional.mse_loss, optimizer=optimizer or descent(), **options)


def pair_of_classes(name, wrong, right, fault, says, optimizer=None):
    return Planted(name, of_class(wrong, optimizer), of_class(right, optimizer), fault, says)


def pair_of_loops(name, wrong, right, fault, says, optimizer=None, **options):
    return Planted(name, of_loop(wrong, optimizer, **options), of_loop(right, optimizer, **options), fault, says)


def adam(**options):
    return lambda params: torch.optim.Adam(params, lr=0.01, **options)


def adamw(params):
    return torch.optim.AdamW(params, lr=0.01, weight_decay=0.1)


def rmsprop(params):
    return torch.optim.RMSprop(params, lr=0.01)


F = Fault
C, L = classes, loops
PLANTED = [
    pair_of_classes("2·lr", C.Twice, C.Linear, F.WRONG_UPDATE, "2·lr"),
    pair_of_classes("lr squared", C.Squared, C.Linear, F.WRONG_UPDATE, "squared"),
    pair_of_classes("lr missing", C.NoRate, C.Linear, F.WRONG_UPDATE, "learning rate is missing"),
    pair_of_classes("sign", C.Climbing, C.Linear, F.WRONG_UPDATE, "sign of the update"),
    pair_of_classes("stale", C.Adding, C.Linear, F.STALE_GRADIENT, "sum of all gradients so far"),
    pair_of_classes("late", C.Late, C.Linear, F.STALE_GRADIENT, "step before"),
    pair_of_classes("sum for mean", C.Summing, C.Linear, F.WRONG_AVERAGE, "x.shape[0] times as large"),
    pair_of_classes("mean of mean", C.TwiceMean, C.Linear, F.WRONG_AVERAGE, "divided by x.shape[0] once too often"),
    pair_of_classes("factor", C.Half, C.Linear, F.WRONG_GRADIENT, "0.5 times the right one"),
    pair_of_classes("formula", C.WrongFormula, C.Linear, F.WRONG_GRADIENT, "the gradient of W that backward leaves"),
    pair_of_classes("copy", C.Copying, C.Linear, F.LOST_UPDATE, "the update of W is lost"),
    pair_of_classes("broadcast", C.Growing, C.Linear, F.RESHAPED_WEIGHT, "changes the shape of b"),
    pair_of_classes("alias", C.Listed, C.ListedInPlace, F.REPLACED_WEIGHT, "weights[0] still holds the old"),
    pair_of_classes("view", C.Flat, C.FlatInPlace, F.REPLACED_WEIGHT, "flat still holds the old"),
    pair_of_classes("parameter", C.Unregistered, C.Registered, F.REPLACED_WEIGHT, "registered parameter"),
    pair_of_classes("default", C.DecayingDefault, C.SharedDefault, F.SHARED_STATE, "mutable default argument"),
    pair_of_classes("class tensor", C.ClassBuffer, C.Linear, F.SHARED_STATE, "attribute of the class"),
    pair_of_classes("global", C.Global, C.Momentum, F.SHARED_STATE, "second fresh object", descent(momentum=0.9)),
    pair_of_classes("class counter", C.ClassCounter, C.Adam, F.SHARED_STATE, "second fresh object", adam()),
    pair_of_classes("order", C.OneByOne, C.Linear, F.UPDATE_ORDER, "gradient of b is taken after W"),
    pair_of_classes("momentum", C.Linear, C.Momentum, F.WRONG_UPDATE, "buffer is not kept", descent(momentum=0.9)),
    pair_of_classes("dampened", C.Dampened, C.Momentum, F.WRONG_UPDATE, "dampened", descent(momentum=0.9)),
    pair_of_classes(
        "nesterov",
        C.Momentum,
        C.Nesterov,
        F.WRONG_UPDATE,
        "look ahead is missing",
        descent(momentum=0.9, nesterov=True),
    ),
    pair_of_classes("decay", C.Linear, C.Decayed, F.WRONG_UPDATE, "decay is missing", descent(weight_decay=0.1)),
    pair_of_classes("bias correction", C.Uncorrected, C.Adam, F.WRONG_UPDATE, "bias correction is missing", adam()),
    pair_of_classes("eps", C.EpsInside, C.Adam, F.WRONG_UPDATE, "eps is inside", adam()),
    pair_of_classes("coupled", C.Coupled, C.AdamW, F.WRONG_UPDATE, "decay is coupled", adamw),
    pair_of_classes("rmsprop eps", C.RMSpropInside, C.RMSprop, F.WRONG_UPDATE, "eps is inside", rmsprop),
    pair_of_loops("zero_grad", L.forgets_zero_grad, L.plain, F.STALE_GRADIENT, "zero_grad"),
    pair_of_loops("zero_grad early", L.clears_before_the_step, L.plain, F.LOST_UPDATE, "cleared before the step"),
    pair_of_loops("other lr", L.other_rate, L.plain, F.WRONG_UPDATE, "0.5 times"),
    pair_of_loops("sum loss", L.summed_loss, L.plain, F.WRONG_AVERAGE, "target.numel() times as large"),
    pair_of_loops("hand 2", L.by_hand_without_two, L.by_hand, F.WRONG_UPDATE, "0.5 times"),
    pair_of_loops("hand order", L.by_hand_one_by_one, L.by_hand, F.UPDATE_ORDER, "taken after"),
    pair_of_loops("only weight", L.only_weight, L.plain, F.LOST_UPDATE, "linear.bias is lost"),
    pair_of_loops("new optimiser", L.new_optimizer, L.with_momentum, F.WRONG_UPDATE, "not kept", descent(momentum=0.9)),
    pair_of_loops("other optimiser", L.adam_with_decay, L.with_adamw, F.WRONG_UPDATE, "coupled", adamw),
    pair_of_loops("replaced", L.replaces, L.through_data, F.REPLACED_WEIGHT, "registered parameter"),
    pair_of_loops("copies", L.trains_copies, L.plain, F.LOST_UPDATE, "optimiser holds other tensors"),
    pair_of_loops("schedule", L.decays_rate, L.plain, F.WRONG_UPDATE, "changes from step to step"),
    pair_of_loops(
        "accumulated", L.accumulates_sums, L.accumulates, F.WRONG_AVERAGE, "accumulated batches", accumulate=2
    ),
]

INPUTS_OF_CLASS = {"x": tensor("n d", grad=False), "y": tensor("n", grad=False), "W": "d", "b": ""}
INPUTS_OF_LOOP = {"x": tensor("n 3", grad=False), "target": tensor("n 2", grad=False)}


def inputs_of(subject):
    return INPUTS_OF_CLASS if subject.loop is None else INPUTS_OF_LOOP


def looks(subject, inputs=None, reference=None, count=4, seed=1):
    """What the check sees at a few drawn cases."""
    question = ask(subject, inputs if inputs is not None else inputs_of(subject), reference, surrogate=False)
    setting = Setting.of(question.subject, question.reference, own=question.subject.own_forward(), declared=True)
    looker = Looker(setting, find_check("training"), question.domain)
    recipes = sample(question.domain, SizeRange.ORDINARY, count, seed, styles=find_check("training").styles)
    return [looker.look(recipe).observation for recipe in recipes]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: p.name)
def test_the_fault_is_named(planted):
    found = [o.discrepancies[0] for o in looks(planted.wrong) if o.verdict is Verdict.FAIL]
    assert found
    assert found[0].fault is planted.fault, found[0].detail
    assert planted.says in found[0].detail


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: p.name)
def test_its_twin_passes(planted):
    seen = looks(planted.right)
    assert {o.verdict for o in seen} <= {Verdict.PASS, Verdict.SKIPPED}, seen
    assert not any(o.warnings for o in seen)
    assert any(o.verdict is Verdict.PASS and o.resolution < 1e-4 for o in seen)


SHOWN = {
    "class": (C.Twice, Fault.WRONG_UPDATE),
    "stale": (C.Adding, Fault.STALE_GRADIENT),
    "alias": (C.Listed, Fault.REPLACED_WEIGHT),
    "shape": (C.Growing, Fault.RESHAPED_WEIGHT),
    "default": (C.DecayingDefault, Fault.SHARED_STATE),
    "counter": (C.Global, Fault.SHARED_STATE),
    "loop": (L.forgets_zero_grad, Fault.STALE_GRADIENT),
    "accumulated": (L.accumulates_sums, Fault.WRONG_AVERAGE),
}


def shown(wrong, accumulate):
    """A subject all of whose parts have a name, so that a script can import them."""
    if not isinstance(wrong, type):
        loss = torch.nn.MSELoss()
        return training(wrong, model=L.Net, loss=loss, optimizer=C.sgd, accumulate=accumulate)
    return manual(wrong, state=("W", "b"), gradients=C.left, loss=C.squared_error, optimizer=C.sgd)


@pytest.mark.parametrize("name", SHOWN)
def test_a_script_ends_in_one_while_the_fault_is_there(name, tmp_path):
    """The whole way: drawn, shrunk, told, and shown by a script that needs only torch."""
    wrong, fault = SHOWN[name]
    subject = shown(wrong, 2 if name == "accumulated" else 1)
    finding = check(subject, inputs_of(subject), checks=("training",), seed=1).findings[0]
    assert finding.fault is fault
    script = tmp_path / "reproduce.py"
    script.write_text(finding.reproducer, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, finding.reproducer + done.stdout + done.stderr
    assert "Error" not in done.stderr, done.stderr


# --- what is unusual and right ---------------------------------------------------------------------------------------


def passes(subject, inputs=None, reference=None, count=4):
    seen = looks(subject, inputs, reference, count)
    assert {o.verdict for o in seen} <= {Verdict.PASS, Verdict.SKIPPED}, seen
    return any(o.verdict is Verdict.PASS for o in seen)


def test_a_weight_that_nobody_else_holds_may_be_replaced_with_a_warning():
    seen = looks(of_class(C.Replacing))
    assert all(o.verdict is Verdict.PASS for o in seen)
    assert {w.fault for o in seen for w in o.warnings} == {Fault.REPLACED_WEIGHT}


def test_a_reference_gives_the_gradients_where_there_is_one():
    def reference(x, y, W, b):
        return C.squared_error(x @ W + b, y)

    assert passes(of_class(C.Linear), reference=reference)
    wrong = looks(of_class(C.Adding), reference=reference)
    assert wrong[0].discrepancies[0].fault is Fault.STALE_GRADIENT


def test_a_class_that_takes_cotangents_trains_along_them():
    subject = manual(C.Scale, state=("a",), gradients=vars, optimizer=C.sgd)
    inputs = {"x": tensor("n", low=-1, high=1), "a": tensor("n", low=-1, high=1)}
    assert passes(replace(subject, gradients=lambda one: {"x": one.dx, "a": one.da}), inputs)


def test_a_class_in_numpy_is_held_against_its_own_gradients():
    inputs = dict(INPUTS_OF_CLASS)
    assert passes(of_class(C.InNumpy), inputs)
    wrong = looks(of_class(C.InNumpyTwice), inputs)
    assert "2·lr" in wrong[0].discrepancies[0].detail


def test_dropout_is_followed_with_the_same_masks():
    subject = of_loop(L.plain, model=L.Dropping)
    report = check(subject, INPUTS_OF_LOOP, seed=1)
    assert report.verdict is Verdict.PASS


def test_adam_that_divides_noise_by_its_size_is_undecided_and_not_wrong():
    """The gradient of b is zero but for round-off, which the two ways of computing it do not share."""
    adam_of = training(L.noisy_by_hand, model=L.Cancelling, loss=L.cancelled, optimizer=adam())
    inputs = {"x": tensor("3 3", low=-2, high=2, grad=False), "target": tensor("3 3", low=-2, high=2, grad=False)}
    seen = looks(adam_of, inputs)
    assert Verdict.FAIL not in {o.verdict for o in seen}, [o.discrepancies for o in seen]


def test_a_long_training_is_followed_to_its_end():
    assert passes(of_loop(L.plain, steps=200), count=1)
    late = looks(of_loop(L.wrong_at_150, steps=160), count=1)[0]
    assert late.discrepancies[0].detail.startswith("step 150 is the first that departs")


def test_the_shared_default_keeps_its_value_for_the_next_object():
    before = C.DecayingDefault().lr.item()
    looks(of_class(C.DecayingDefault))
    assert C.DecayingDefault().lr.item() == before


def test_every_pass_over_the_batches_counts():
    assert passes(of_loop(L.two_epochs))


# --- what cannot be followed -----------------------------------------------------------------------------------------


def test_a_loop_that_reads_ahead_is_undecided():
    seen = looks(of_loop(L.reads_ahead))
    assert {o.verdict for o in seen} == {Verdict.UNDECIDED}
    assert "one batch" in seen[0].reason


def test_a_loop_or_an_update_that_raises_is_a_finding():
    report = check(of_loop(L.breaks), INPUTS_OF_LOOP, seed=1)
    assert report.findings[0].fault is Fault.BACKWARD_RAISES
    assert "no such attribute" in report.findings[0].message
    report = check(of_class(C.Breaking), INPUTS_OF_CLASS, checks=("training",), seed=1)
    assert "no update today" in report.findings[0].message


def test_a_subject_without_an_update_is_skipped():
    subject = manual(C.Linear, state=("W", "b"), gradients=C.left, loss=C.squared_error)
    report = check(subject, INPUTS_OF_CLASS, checks=("training", "vjp"), seed=1)
    reasons = {r.check: r.reason for r in report.results}
    assert "optimizer=" in reasons["training"]
    assert report.verdict is Verdict.PASS


WRONG_CALLS = {
    "an optimiser that is none": (lambda p: 3, "returns int: return a torch.optim.Optimizer"),
    "an optimiser that raises": (lambda p: torch.optim.SGD(p, lr=-1), "raises ValueError"),
    "one with a closure": (torch.optim.LBFGS, "LBFGS"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_an_optimizer_that_cannot_be_followed_is_refused(name):
    optimizer, text = WRONG_CALLS[name]
    with pytest.raises(UsageError, match=re.escape(text)):
        check(of_class(C.Linear, optimizer), INPUTS_OF_CLASS, checks=("training",), seed=1)


def test_what_no_cause_explains_is_unknown_with_the_ratio():
    found = looks(of_class(C.Squashing))[0].discrepancies[0]
    assert found.fault is Fault.UNKNOWN
    assert re.search(r"at best it is [\d.]+ times the right one, which leaves \d+% of it unexplained", found.detail)


def test_at_a_kink_any_slope_is_right():
    """Its own weights are zero, where relu has two slopes, and the class takes the other one."""
    seen = looks(of_class(C.ReluByHand), {"x": tensor("n 2", grad=False), "y": tensor("n", grad=False)})
    assert Verdict.FAIL not in {o.verdict for o in seen}
    assert any("kink" in o.reason for o in seen)


# --- two layers ------------------------------------------------------------------------------------------------------

DEEP = {
    C.UpdatesOnTheWay: (Fault.UPDATE_ORDER, "the gradient of W1 and b1 is taken after W2 has been updated"),
    C.FasterFirstLayer: (Fault.WRONG_UPDATE, "the update is that of 2·lr (W1)"),
    C.ForgetsTheSlope: (Fault.WRONG_GRADIENT, "the gradient of W1 and b1 that backward leaves is wrong"),
    C.Perceptron: (None, ""),
}


@pytest.mark.parametrize("cls", DEEP)
def test_of_two_layers_those_that_depart_are_named(cls):
    fault, says = DEEP[cls]
    subject = manual(
        cls,
        state=("W1", "b1", "W2"),
        gradients=C.left,
        loss=C.squared_error,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.05),
    )
    inputs = {name: INPUTS_OF_CLASS[name] for name in ("x", "y")} | {"W1": "d k", "b1": "k", "W2": "k"}
    if fault is None:
        assert passes(subject, inputs)
        return
    found = [o.discrepancies[0] for o in looks(subject, inputs) if o.verdict is Verdict.FAIL]
    assert found[0].fault is fault, found[0].detail
    assert says in found[0].detail
