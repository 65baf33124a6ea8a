"""Faults that would spoil the oracle, or hang on a plain argument: found by what the harness does around the call."""

import pytest
import torch

from gradharness import Fault, Severity, Verdict, check, manual
from gradharness.engine.question import ask


def randn(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


class ReluPlus(torch.autograd.Function):
    """relu(x) + y; the gradient of y is the cotangent itself."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x)
        return x.relu() + y

    @staticmethod
    def backward(ctx, w):
        return w * (ctx.saved_tensors[0] > 0), w


class WorksInItsCotangent(ReluPlus):
    @staticmethod
    def backward(ctx, w):
        w.mul_(ctx.saved_tensors[0] > 0)
        return w, w


class ClampsItsInput(torch.autograd.Function):
    """Clamps x in the caller's own memory, and differentiates what is left of it."""

    @staticmethod
    def forward(ctx, x):
        x.data.clamp_(min=0)
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, w):
        return 2 * w * ctx.saved_tensors[0]


def relu_plus(x, y):
    return x.relu() + y


@pytest.mark.parametrize("reference", [None, relu_plus])
def test_a_backward_that_works_in_its_cotangent_does_not_spoil_the_oracle(reference):
    inputs = (randn(3, 4), randn(3, 4))
    report = check(WorksInItsCotangent, inputs, reference=reference, seed=1)
    assert {"vjp", "purity"} <= {r.check for r in report.results if r.verdict is Verdict.FAIL}
    assert check(ReluPlus, inputs, reference=reference, seed=1).verdict is Verdict.PASS


def test_a_forward_that_works_in_its_input_does_not_spoil_the_reference():
    example = randn(3, 4)
    before = example.detach().clone()
    report = check(ClampsItsInput, (example,), reference=lambda x: x * x, seed=1)
    assert report.verdict is Verdict.FAIL
    assert torch.equal(example.detach(), before)


class OverwritesItsCotangent(ReluPlus):
    """Returns the right gradients, and leaves the caller's buffer spoiled."""

    @staticmethod
    def backward(ctx, w):
        gradients = w * (ctx.saved_tensors[0] > 0), w.clone()
        w.zero_()
        return gradients


class WorksInItsOwnBuffer(ReluPlus):
    @staticmethod
    def backward(ctx, w):
        buffer = w.clone()
        buffer.mul_(ctx.saved_tensors[0] > 0)
        return buffer, w


def test_writing_into_the_cotangent_is_found_though_the_gradients_are_right():
    inputs = (randn(3, 4), randn(3, 4))
    report = check(OverwritesItsCotangent, inputs, reference=relu_plus, seed=1)
    failed = [r for r in report.results if r.verdict is Verdict.FAIL]
    assert {r.check for r in failed} >= {"purity", "accumulation"}
    assert "vjp" not in {r.check for r in failed}
    assert failed[0].findings[0].fault is Fault.WRITES_INPUT
    assert "cotangent 0" in failed[0].findings[0].message
    assert check(WorksInItsOwnBuffer, inputs, reference=relu_plus, seed=1).verdict is Verdict.PASS


def test_writing_through_data_into_a_primal_is_found():
    report = check(ClampsItsInput, (randn(3, 4),), seed=1, checks=("purity",))
    assert report.findings[0].fault is Fault.WRITES_INPUT
    assert "writes into x" in report.findings[0].message


def test_a_manual_class_that_works_in_its_cotangent_is_warned():
    class InPlace:
        def forward(self, x):
            return 2 * x

        def backward(self, w):
            self.dx = w.mul_(2)

    report = check(manual(InPlace, gradients=lambda o: {"x": o.dx}), (randn(3),), seed=1)
    assert report.verdict is Verdict.PASS
    assert Fault.WRITES_INPUT in {f.fault for f in report.findings}
    assert all(f.severity is Severity.WARNING for f in report.findings)


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        y = torch.softmax(x, dim)
        ctx.save_for_backward(y)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx, w):
        (y,) = ctx.saved_tensors
        return y * (w - (w * y).sum(ctx.dim, keepdim=True)), None


class LastAxisSoftmax(Softmax):
    @staticmethod
    def backward(ctx, w):
        (y,) = ctx.saved_tensors
        return y * (w - (w * y).sum(-1, keepdim=True)), None


def test_a_fault_that_hangs_on_a_flag_names_the_flag():
    report = check(LastAxisSoftmax, (randn(4, 5), -1), reference=torch.softmax, seed=1)
    finding = report.findings[0]
    assert finding.fault is Fault.WRONG_FOR_ARGUMENT
    assert "dim is " in finding.message
    assert check(Softmax, (randn(4, 5), -1), reference=torch.softmax, seed=1).verdict is Verdict.PASS


def scan(a, b):
    rows = [b[0]]
    for i in range(1, len(b)):
        rows.append(a[i] * rows[-1] + b[i])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(torch.mul, True), (torch.matmul, False), (scan, False), (lambda x, y: x.cumsum(0) + y, False)],
)
def test_only_what_works_element_by_element_is_taken_to_broadcast(function, expected):
    question = ask(function, (randn(4, 4), randn(4, 4)), None, surrogate=False)
    assert question.broadcasts is expected


def test_a_count_is_not_tried_below_zero():
    question = ask(lambda x, pad: torch.nn.functional.pad(x, (pad, pad)), (randn(3, 4), 1), None, surrogate=False)
    spec = question.domain.specs[1]
    assert min(spec.values) >= 0
    assert len(spec.values) > 1
