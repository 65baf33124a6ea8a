"""Each check rejects what it is for and accepts its twin, on one case at a time."""

from dataclasses import replace

import pytest
import torch

from gradharness.checks import all_checks, find_check
from gradharness.checks.contract import examine as contract
from gradharness.checks.linearity import examine as linearity
from gradharness.checks.value import examine as value
from gradharness.checks.vjp import examine as vjp
from gradharness.errors import OracleUnavailable, UnknownNameError
from gradharness.model.verdict import Fault, Verdict
from gradharness.oracles.autograd import Autograd
from gradharness.subjects import as_subject, manual, pair
from gradharness.subjects.function import FunctionSubject
from tests.diagnosis.making import F64, case, randn, setting
from tests.faults.planting import function

X = randn(3, 4)


def exp(x):
    return x.exp()


def at(forward, backward, *leaves, reference=None, **rest):
    """Setting and case of a pair."""
    where = setting(forward, backward)
    if reference is not None:
        source = as_subject(reference)
        where = replace(where, reference=source, trusted=Autograd("autograd of the reference", source))
    where = replace(where, **rest)
    return where, case(where, *(leaves or (X,)))


def right(x, g):
    return g * x.exp()


def test_the_catalogue_knows_its_checks_by_name():
    names = "value vjp linearity contract purity layout mask state accumulation determinism leak double_backward"
    names += " transforms complex extremes precision shape program training module"
    assert [c.name for c in all_checks()] == names.split()
    assert find_check("shape").name == "shape"
    with pytest.raises(UnknownNameError, match="did you mean 'linearity'"):
        find_check("linearty")


# --- value --------------------------------------------------------------------------------------------------------


def test_value_accepts_the_reference_and_rejects_another_function():
    assert value(*at(exp, right)).verdict is Verdict.PASS
    same = value(*at(exp, right, reference=torch.exp))
    assert same.verdict is Verdict.PASS
    assert same.resolution < 1e-5
    other = value(*at(exp, right, reference=lambda x: 1.01 * x.exp()))
    assert other.verdict is Verdict.FAIL
    assert other.discrepancies[0].fault is Fault.WRONG_FORWARD
    assert "differs from the reference's" in other.discrepancies[0].detail


def test_value_tells_other_shapes_and_other_numbers_of_outputs():
    narrow = value(*at(exp, right, reference=lambda x: x.exp()[:1]))
    assert "shape (3, 4), the reference one of shape (1, 4)" in narrow.discrepancies[0].detail
    two = value(*at(exp, right, reference=lambda x: (x.exp(), x)))
    assert "1 outputs, the reference 2" in two.discrepancies[0].detail


def test_value_has_nothing_to_say_where_the_reference_raises_or_nothing_is_there():
    def picky(x):
        raise ValueError("no")

    assert value(*at(exp, right, reference=picky)).verdict is Verdict.SKIPPED
    empty = torch.zeros(0, 3, dtype=F64)
    assert value(*at(exp, right, empty, reference=torch.exp)).verdict is Verdict.SKIPPED


def test_value_compares_integers_and_complex_numbers_too():
    def both(x):
        return x.exp(), (10 * x).round().long()

    assert value(*at(both, right, reference=both)).verdict is Verdict.PASS
    assert value(*at(both, right, reference=lambda x: (x.exp(), (11 * x).round().long()))).verdict is Verdict.FAIL


def test_value_allows_what_the_references_own_conditioning_brings_about():
    big = 1e9 + randn(3, 4)
    where, here = at(lambda x: (x - 1e9) + 0, right, big, reference=lambda x: x - 1e9)
    here = replace(here, outputs=tuple(y + 2e-7 for y in here.outputs))
    where = replace(where, subject=pair(lambda x: (x - 1e9) + 2e-7, right))
    assert value(where, here).verdict is Verdict.PASS


def test_value_sees_a_forward_that_depends_on_whether_gradients_are_recorded():
    where, here = at(exp, right)
    changed = replace(here, outputs=tuple(1.01 * y for y in here.outputs))
    assert "when gradients are recorded" in value(where, changed).discrepancies[0].detail
    more = replace(here, outputs=here.outputs * 2, output_labels=("a", "b"))
    assert "gives 2 outputs with grad and 1 without" in value(where, more).discrepancies[0].detail


# --- vjp ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", [None, torch.exp])
def test_vjp_accepts_the_right_gradient_and_rejects_a_wrong_one(reference):
    assert vjp(*at(exp, right, reference=reference)).verdict is Verdict.PASS
    wrong = vjp(*at(exp, lambda x, g: 1.001 * right(x, g), reference=reference))
    assert wrong.verdict is Verdict.FAIL
    assert wrong.discrepancies[0].label == "x"
    assert wrong.discrepancies[0].excess > 10


def test_vjp_tells_a_gradient_of_another_shape():
    found = vjp(*at(exp, lambda x, g: right(x, g).sum(0))).discrepancies[0]
    assert (found.oracle, found.expected) == ("the primal's shape", None)


def test_vjp_has_nothing_to_say_of_empty_or_vanishing_gradients():
    assert vjp(*at(exp, right, torch.zeros(0, 2, dtype=F64))).verdict is Verdict.SKIPPED
    flat = vjp(*at(lambda x: 0 * x, lambda x, g: 0 * g))
    assert (flat.verdict, flat.reason) == (Verdict.SKIPPED, "every gradient is zero here")


def test_vjp_without_any_oracle_is_undecided():
    observation = vjp(*at(exp, right, own=None, differences=None))
    assert observation.verdict is Verdict.UNDECIDED
    assert "needs a reference" in observation.reason


def test_vjp_without_the_own_forward_decides_by_differences():
    assert vjp(*at(exp, right, own=None)).verdict is Verdict.PASS
    assert vjp(*at(exp, lambda x, g: 2 * g, own=None)).verdict is Verdict.FAIL


def test_vjp_goes_on_with_differences_where_the_reference_raises():
    def picky(x):
        raise ValueError("no")

    assert vjp(*at(exp, right, reference=picky)).verdict is Verdict.PASS
    assert "no" in vjp(*at(exp, right, reference=picky, differences=None)).reason


def test_vjp_is_undecided_where_differences_have_no_answer(monkeypatch):
    where, here = at(exp, right, own=None)

    def unavailable(*_arguments, **_options):
        raise OracleUnavailable("not here")

    monkeypatch.setattr(type(where.differences), "slope", unavailable)
    assert vjp(where, here).reason == "not here"


def test_vjp_is_undecided_on_a_kink():
    where, here = at(lambda x: x.abs().sum(), lambda x, g: g * x.sign(), torch.zeros(3, dtype=F64), own=None)
    observation = vjp(where, here)
    assert observation.verdict is Verdict.UNDECIDED
    assert observation.reason


def test_vjp_uses_no_own_forward_that_differences_refute():
    detached = Autograd("own", FunctionSubject("own", lambda x: x.exp() + x.detach() * x))
    assert vjp(*at(exp, right, own=detached)).verdict is Verdict.PASS


def test_vjp_does_not_apply_to_a_surrogate_without_a_reference():
    where = at(exp, right)[0]
    check = find_check("vjp")
    assert check.applies(where) is None
    assert "needs" not in (check.applies(replace(where, surrogate=True, reference=as_subject(torch.exp))) or "")
    assert "reference" in check.applies(replace(where, surrogate=True))


# --- linearity ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backward", "words"),
    [
        (lambda x, g: g.relu() * x, "G(-w) is not -G(w)"),
        (lambda x, g: x, "does not change when the cotangent is scaled by -1"),
        (lambda x, g: g * g.abs() * x, "G(2w) is not 2·G(w)"),
        (lambda x, g: g.clamp(-20, 20) * x, "G(64w) is not 64·G(w)"),
        (lambda x, g: g * (g[0, 0] / g[0, 1]) * x, "G(v + w) is not G(v) + G(w)"),
        (lambda x, g: g * x / (g.abs() < 60), "not finite for a larger cotangent"),
    ],
)
def test_linearity_tells_which_law_is_broken(backward, words):
    observation = linearity(*at(exp, backward))
    assert observation.verdict is Verdict.FAIL
    assert words in observation.discrepancies[0].detail


@pytest.mark.parametrize("backward", [right, lambda x, g: 5 * g, lambda x, g: 0 * g, lambda x, g: None])
def test_linearity_accepts_whatever_is_linear(backward):
    assert linearity(*at(exp, backward)).verdict is Verdict.PASS


def test_linearity_sees_a_gradient_for_no_cotangent():
    def offset(x, g):
        return g * x if g.any() else torch.ones_like(x)

    found = linearity(*at(exp, offset)).discrepancies[0]
    assert found.detail == "the gradient for a cotangent of zeros is not zero"


def test_linearity_sees_outputs_that_disturb_each_other():
    def two(x):
        return x.sin(), x.exp()

    def jealous(x, g, h):
        return g * x.cos() + (h * x.exp() if not g.any() else 0)

    found = linearity(*at(two, jealous)).discrepancies[0]
    assert "do not give the sum" in found.detail
    assert linearity(*at(two, lambda x, g, h: g * x.cos() + h * x.exp())).verdict is Verdict.PASS


def test_linearity_leaves_shapes_to_others_and_empty_cases_alone():
    def ragged(x, g):
        return g[: 1 + int(g[0, 0] > 0)]

    assert linearity(*at(exp, ragged)).verdict in (Verdict.PASS, Verdict.FAIL)
    assert linearity(*at(exp, right, torch.zeros(0, dtype=F64))).verdict is Verdict.SKIPPED


def test_linearity_needs_a_cotangent_to_vary():
    class Fit:
        pass

    where = at(exp, right)[0]
    check = find_check("linearity")
    assert check.applies(where) is None
    fixed = manual(Fit, gradients=dict, loss=lambda y, t: y)
    assert "no cotangent" in check.applies(replace(where, subject=fixed))


# --- contract -----------------------------------------------------------------------------------------------------


def product(x, y):
    return x * y


def contracted(backward, made=pair):
    where = replace(setting(), subject=as_subject(made(product, backward)))
    return contract(where, case(where, X, X[:1]))


@pytest.mark.parametrize(
    ("returned", "fault"),
    [
        (lambda g: (g, g), Fault.MISSING_REDUCTION),
        (lambda g: (g, g[:2, :3]), Fault.WRONG_SHAPE),
        (lambda g: (g, g[0, :2]), Fault.WRONG_SHAPE),
        (lambda g: (g, g[:1].float()), Fault.WRONG_DTYPE),
        (lambda g: (g, g[:1].long()), Fault.WRONG_DTYPE),
        (lambda g: (g, "x" * 50), Fault.WRONG_TYPE),
        (lambda g: (g, g[:1].to("meta")), Fault.WRONG_DEVICE),
    ],
)
def test_contract_names_what_a_pair_returns(returned, fault):
    observation = contracted(lambda x, y, g: returned(g))
    assert observation.verdict is Verdict.FAIL
    assert [d.fault for d in observation.discrepancies] == [fault]


@pytest.mark.parametrize(
    "returned", [lambda g: (g, g[:1]), lambda g: (g, None), lambda g: (g, g), lambda g: (g, g[:1], None)]
)
def test_contract_accepts_what_autograd_makes_right(returned):
    assert contracted(lambda x, y, g: returned(g), function).verdict is Verdict.PASS


@pytest.mark.parametrize("returned", [lambda g: (g,), lambda g: (g, g[:1], g)])
def test_contract_counts_the_gradients_of_a_function(returned):
    found = contracted(lambda x, y, g: returned(g), function).discrepancies[0]
    assert found.fault is Fault.WRONG_COUNT


def test_a_wider_gradient_is_worth_a_warning_only():
    where = replace(setting(), subject=pair(product, lambda x, y, g: (g, g[:1].double())))
    observation = contract(where, case(where, X.float(), X[:1].float()))
    assert observation.verdict is Verdict.PASS
    assert observation.warnings[0].fault is Fault.WRONG_DTYPE


def test_a_gradient_that_nobody_asked_for_is_worth_a_warning():
    where = replace(setting(), subject=as_subject(function(product, lambda x, y, g: (g, g[:1]))))
    only_x = replace(where, subject=as_subject(lambda x: where.subject.function(x, X[:1])))
    observation = contract(only_x, case(only_x, X))
    assert observation.verdict is Verdict.PASS
    assert observation.warnings[0].fault is Fault.UNEXPECTED_GRADIENT
