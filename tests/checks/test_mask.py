"""Whatever else is asked for, a gradient is the same."""

import re
from types import MappingProxyType

import pytest
import torch
import torch.nn.functional as F

from gradharness import Severity, Verdict, check
from gradharness.checks.subsets import MOST, proper_subsets
from gradharness.model.verdict import Fault
from tests.checks.scripts import status  # noqa: F401 - a fixture
from tests.faults.planting import layer, randn, two_functions

X = randn((3, 4))
XY = randn((3, 3), (3, 3))
THREE = randn((3, 4), (2, 4), (2,))


def examined(subject, inputs=XY, **rest):
    return check(subject, inputs(), checks=("mask",), seed=0, **rest)


def messages(report):
    return [f.message for f in report.findings]


class Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x @ y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        return g @ y.mT if need_x else None, x.mT @ g if need_y else None


class WrongAlone(Matmul):
    @staticmethod
    def backward(ctx, g):
        if not ctx.needs_input_grad[1]:
            return g @ ctx.saved_tensors[1], None
        return Matmul.backward(ctx, g)


class NoneAlone(Matmul):
    @staticmethod
    def backward(ctx, g):
        return (None, None) if not ctx.needs_input_grad[0] else Matmul.backward(ctx, g)


class SavesTooLittle(Matmul):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(*(t for t, needed in zip((y, x), ctx.needs_input_grad, strict=True) if needed))
        return x @ y

    @staticmethod
    def backward(ctx, g):
        y, x = ctx.saved_tensors
        return g @ y.mT, x.mT @ g


class Refuses(Matmul):
    @staticmethod
    def backward(ctx, g):
        if not all(ctx.needs_input_grad):
            raise NotImplementedError("both or none")
        return Matmul.backward(ctx, g)


class DetachesAlone(Matmul):
    @staticmethod
    def forward(ctx, x, y):
        out = Matmul.forward(ctx, x, y)
        if not ctx.needs_input_grad[1]:
            ctx.mark_non_differentiable(out)
        return out


class Wasteful(Matmul):
    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g @ y.mT, x.mT @ g


class Waves(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        first = 0 if g is None else g * x.cos()
        second = 0 if h is None else h * x.sin()
        return first - second


class NoneUnhandled(Waves):
    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        return g * x.cos() - h * x.sin()


class NoneIsOne(Waves):
    @staticmethod
    def backward(ctx, g, h):
        return Waves.backward(ctx, torch.ones_like(ctx.saved_tensors[0]) if g is None else g, h)


class NoneGivesNone(Waves):
    @staticmethod
    def backward(ctx, g, h):
        return None if g is None or h is None else Waves.backward(ctx, g, h)


FAULTS = {
    "wrong alone": (WrongAlone, XY, Fault.WRONG_SUBSET, "the gradient of `x` is wrong when only `x` requires"),
    "None alone": (NoneAlone, XY, Fault.MISSING_GRADIENT, "no gradient comes for `y` (None) when only `y` requires"),
    "raises alone": (SavesTooLittle, XY, Fault.BACKWARD_RAISES, "backward raises when only `x` requires a gradient"),
    "detaches alone": (DetachesAlone, XY, Fault.DISCONNECTED, "no output is connected to `x` when only `x` requires"),
    "None cotangent": (NoneUnhandled, X, Fault.BACKWARD_RAISES, "when only `output[0]` gets a cotangent"),
    "None is one": (NoneIsOne, X, Fault.WRONG_SUBSET, "the gradient is wrong for `x` when only `output[1]` gets"),
    "None gives None": (NoneGivesNone, X, Fault.WRONG_SUBSET, "no gradient comes for `x` when only `output[0]` gets"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_depends_on_the_rest_is_found(name):
    subject, inputs, fault, says = FAULTS[name]
    report = examined(subject, inputs)
    assert report.verdict is Verdict.FAIL
    finding = report.findings[0]
    assert (finding.fault, finding.severity) == (fault, Severity.ERROR)
    assert says in finding.message


@pytest.mark.parametrize(("subject", "inputs"), [(Matmul, XY), (Waves, X)])
def test_the_correct_twins_pass(subject, inputs):
    report = examined(subject, inputs)
    assert report.verdict is Verdict.PASS, report
    assert not report.findings


def test_the_witness_asks_for_the_subset_alone():
    assert examined(WrongAlone).findings[0].witness.active == ("x",)


def test_wasted_work_is_a_warning_with_its_share():
    report = examined(Wasteful)
    assert report.verdict is Verdict.PASS
    (finding,) = report.findings
    assert (finding.fault, finding.severity) == (Fault.UNEXPECTED_GRADIENT, Severity.WARNING)
    assert re.search(
        r"^Wasteful.backward computes a gradient for `[xy]` when only `[xy]` requires one: ", finding.message
    )
    assert "(50 %)" in finding.message


def test_wasted_work_is_told_once_for_all_the_inputs_of_a_backward():
    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w)
            return x @ w + b

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g @ w.mT, x.mT @ g, g.sum(0)

    (finding,) = examined(Linear, randn((3, 4), (4, 2), (2,))).findings
    assert re.search(r"computes gradients for `\w` and `\w` when only `\w` requires one: ", finding.message)


def test_handing_the_cotangent_through_wastes_nothing():
    class Sum(Matmul):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g, g

    assert not messages(examined(Sum))


def test_a_clear_refusal_is_a_warning():
    report = examined(Refuses)
    assert report.verdict is Verdict.PASS
    assert report.findings[0].severity is Severity.WARNING
    assert "backward refuses when only `x` requires a gradient" in report.findings[0].message


class InPlace(torch.autograd.Function):
    """Doubles its input where it stands."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        return x.mul_(2), y * 1

    @staticmethod
    def backward(ctx, g, h):
        return 2 * g if ctx.needs_input_grad[0] else None, h if ctx.needs_input_grad[1] else None


CORRECT = {
    "three inputs": (F.linear, THREE),
    "in place on copies": (lambda x, y: InPlace.apply(x.clone(), y), XY),
    "outputs of their own": (lambda x, y: (x.sin(), y.cos()), XY),
    "a view of an input": (lambda x, y: (x.view(-1), x * y), XY),
    "an input itself": (lambda x, y: (x, x * y), XY),
    "ties and indices": (lambda x, y: (x.sort(-1).values, y.argsort(-1), x + y), XY),
    "one is detached": (lambda x, y: x.detach() * y, XY),
    "kinks": (lambda x, y: torch.maximum(x, y).relu(), XY),
    "random": (lambda x, y: F.dropout(x * y), XY),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_code_passes(name):
    report = examined(*CORRECT[name])
    assert report.verdict is Verdict.PASS, report
    assert not report.findings


def test_another_order_of_arithmetic_is_no_fault():
    class Other(Matmul):
        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            if not all(ctx.needs_input_grad):
                g = (g / 3) * 3
            return Matmul.backward(_Needs(ctx, x, y), g)

    class _Needs:
        def __init__(self, ctx, x, y):
            self.saved_tensors, self.needs_input_grad = (x, y), ctx.needs_input_grad

    assert examined(Other).verdict is Verdict.PASS


def test_where_nothing_can_be_left_out_it_is_skipped():
    assert examined(lambda x: x.sin(), X).results[0].verdict is Verdict.SKIPPED
    for form in (layer, two_functions):
        result = examined(form(lambda x, y: x * y, lambda x, y, g: (g * y, g * x))).results[0]
        assert result.verdict is Verdict.SKIPPED
        assert "autograd has no part in it" in result.reason


def test_subsets_are_all_or_a_sample():
    class Drawn:
        recipe = MappingProxyType({"seed": 7})

    assert set(proper_subsets(3, Drawn)) == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)}
    assert proper_subsets(1, Drawn) == ()
    many = proper_subsets(6, Drawn)
    assert len(many) == len(set(many)) == MOST
    assert many[0] == (1,)
    assert many[MOST // 2] == (0, 2, 3, 4, 5)


MODULE = """
class Two(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, y)
        return x * y, x + y

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        {line}
        g = torch.zeros_like(x) if g is None else g
        h = torch.zeros_like(x) if h is None else h
        return g * y + h if need_x else None, g * x + h if need_y else None

subject = Two.apply
"""
FIXED = MODULE.format(line="pass")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("g = g if need_y or g is None else 2 * g", (1, 0)),
        ("need_x = need_x and need_y", (1, 0)),
        ("g = g * 1", ("raised TypeError", 0)),
        ("h = g if h is None else h", (1, 0)),
        ("need_x = need_y = True", (1, 0)),
    ],
)
def test_the_script_shows_it(status, line, expected):  # noqa: F811 - the fixture
    assert status(MODULE.format(line=line), FIXED, XY, "mask") == expected
