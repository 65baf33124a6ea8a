"""One look: what belongs to the subject's domain, and what an exception means."""

import pytest
import torch

from gradharness.engine.looking import is_refusal
from gradharness.model.verdict import Fault, Verdict
from tests.engine.searching import F64, look, looker
from tests.faults.planting import function

X = torch.randn(3, 4, dtype=F64)


def breaks(x):
    return x.reshape(-1, 5)


def refuses(x):
    raise ValueError("not this one")


def asserts(x):
    assert x is None
    return x


def breaks_in_assert(x):
    assert x.reshape(-1, 5) is not None


def plain(x):
    return x.sin()


def raised_by(function):
    try:
        function(X)
    except Exception as error:
        return error
    raise AssertionError


def test_a_raise_on_purpose_is_a_refusal_and_a_broken_operation_is_none():
    assert is_refusal(raised_by(refuses))
    assert is_refusal(raised_by(asserts))
    assert not is_refusal(raised_by(breaks))
    assert not is_refusal(raised_by(torch.nn.Linear(2, 2).double()))
    assert not is_refusal(raised_by(breaks_in_assert))
    assert not is_refusal(ValueError("never raised"))


@pytest.mark.parametrize("forward", [refuses, asserts])
def test_a_refused_point_is_none_of_the_subjects(forward):
    seen = look(looker(forward, reference=plain))
    assert seen.observation is None
    assert seen.reason.startswith("the forward rejects it")
    assert not seen.failed


def test_a_forward_that_breaks_where_the_reference_runs_fails():
    seen = look(looker(breaks, reference=plain))
    assert seen.failed
    found = seen.observation.discrepancies[0]
    assert found.fault is Fault.FORWARD_RAISES
    assert "the reference accepts these inputs" in found.detail


@pytest.mark.parametrize("reference", [None, refuses, lambda x: x / 0], ids=["none", "refuses", "not finite"])
def test_a_forward_that_breaks_is_not_blamed_without_a_reference_that_runs(reference):
    assert look(looker(breaks, reference=reference)).observation is None


def test_inferred_sizes_of_zero_are_not_held_against_a_forward():
    def no_empty(x):
        return x.amax() + x

    at = looker(no_empty, "shape", reference=plain, examples=(X,))
    empty = dict.fromkeys((rule.name for rule in at.domain.dims), 0)
    assert look(at, sizes=tuple(empty.items())).observation is None
    declared = looker(no_empty, "shape", reference=plain)
    assert look(declared, sizes=(("n", 0), ("d", 0))).failed


def test_a_point_where_the_forward_is_not_finite_lies_outside_of_an_inferred_domain():
    def pole(x):
        return x / (x - x)

    assert look(looker(pole)).reason == "the forward is not finite"
    assert look(looker(pole, reference=plain, examples=(X,))).reason == "the forward is not finite"
    assert look(looker(pole, "value", reference=plain, examples=(X,))).failed
    assert look(looker(pole, "value", reference=pole, examples=(X,))).reason == "the forward is not finite"
    assert look(looker(pole, "value", reference=plain)).failed


def test_a_point_that_the_reference_rejects_lies_outside_of_an_inferred_domain():
    assert look(looker(plain, reference=refuses, examples=(X,))).reason == "the reference rejects it: not this one"


def backward(returned):
    return function(lambda x: x * 2, lambda x, g: returned(g))


def test_what_autograd_refuses_is_named():
    assert look(looker(backward(lambda g: (g, g)))).observation.discrepancies[0].fault is Fault.WRONG_COUNT
    assert look(looker(backward(lambda g: g[:1, :1]))).observation.verdict is Verdict.FAIL
    wrong = look(looker(backward(lambda g: g.new_ones(7)))).observation.discrepancies[0]
    assert wrong.fault is Fault.WRONG_SHAPE
    raised = look(looker(backward(lambda g: g.reshape(5, 5)))).observation.discrepancies[0]
    assert raised.fault is Fault.BACKWARD_RAISES
    assert raised.detail.startswith("backward raises RuntimeError")


def test_a_detached_output_is_disconnected_unless_it_is_empty():
    detached = looker(lambda x: x.detach() * 2)
    assert look(detached).observation.discrepancies[0].fault is Fault.DISCONNECTED
    empty = looker(lambda x: x.detach() * 2, "shape")
    assert not look(empty, sizes=(("n", 0), ("d", 2))).failed


def test_an_oracle_without_an_answer_leaves_a_case_undecided(monkeypatch):
    from dataclasses import replace

    from gradharness.errors import OracleUnavailable

    def silent(_setting, _case):
        raise OracleUnavailable("nothing to say")

    at = looker(plain)
    at = replace(at, check=replace(at.check, examine=silent))
    seen = look(at)
    assert (seen.observation.verdict, seen.observation.reason) == (Verdict.UNDECIDED, "nothing to say")
