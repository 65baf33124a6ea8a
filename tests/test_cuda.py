"""What only a CUDA device can show. Everything stays on the subject's device, and both devices are judged alike."""

import pytest
import torch

from gradharness import Fault, Verdict, check, manual

pytestmark = pytest.mark.cuda
BOTH = ("cpu", "cuda")


class Cubed(torch.autograd.Function):
    """y = x³."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, w):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * w


class WrongOnCuda(Cubed):
    """Right on the CPU, twice too large on the GPU."""

    @staticmethod
    def backward(ctx, w):
        return Cubed.backward(ctx, w) * (2 if w.is_cuda else 1)


def results(report, device):
    return [r for r in report.results if r.device == device]


@pytest.mark.parametrize("reference", [None, lambda x: x * x * x])
def test_a_right_function_passes_on_both_devices(reference):
    report = check(Cubed, {"x": "n d"}, reference=reference, devices=BOTH, seed=1)
    assert report.verdict is Verdict.PASS
    assert {r.device for r in report.results} == {"cpu", "cuda"}


@pytest.mark.parametrize("reference", [None, lambda x: x * x * x])
def test_a_fault_of_one_device_is_found_there(reference):
    report = check(WrongOnCuda, {"x": "n d"}, reference=reference, devices=BOTH, seed=1)
    assert all(r.verdict is not Verdict.FAIL for r in results(report, "cpu"))
    finding = next(f for r in results(report, "cuda") for f in r.findings)
    assert finding.fault is Fault.CONSTANT_FACTOR


def test_the_subject_sees_tensors_of_its_device_alone():
    seen = set()

    def watched(x):
        seen.add(x.device.type)
        return x.sin()

    check(watched, {"x": "n d"}, reference=torch.sin, devices=("cuda",), seed=1)
    assert seen == {"cuda"}


def test_a_gradient_on_the_wrong_device_is_found():
    class OnCpu(Cubed):
        @staticmethod
        def backward(ctx, w):
            return Cubed.backward(ctx, w).cpu()

    report = check(OnCpu, {"x": "n d"}, devices=("cuda",), checks=("contract",), seed=1)
    assert report.findings[0].fault in (Fault.WRONG_DEVICE, Fault.BACKWARD_RAISES)


def test_a_manual_class_on_cuda():
    class Scale:
        def forward(self, x):
            self.x = x
            return 3 * x

        def backward(self, w):
            self.dx = 3 * w

    subject = manual(Scale, gradients=lambda o: {"x": o.dx})
    assert check(subject, {"x": "n d"}, devices=("cuda",), seed=1).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_low_precision_on_cuda(dtype):
    report = check(Cubed, {"x": "n d"}, reference=lambda x: x * x * x, devices=("cuda",), dtypes=(dtype,), seed=1)
    assert report.verdict is Verdict.PASS


def test_a_device_that_is_not_there_is_skipped():
    number = torch.cuda.device_count()
    report = check(Cubed, {"x": "n d"}, devices=(f"cuda:{number}",), seed=1)
    assert {r.verdict for r in report.results} == {Verdict.SKIPPED}
    assert f"no cuda:{number}" in report.results[0].reason
