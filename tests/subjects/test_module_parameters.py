"""A module's parameters are differentiated with its inputs."""

import torch

from gradharness import Verdict, check


class Product(torch.autograd.Function):
    """x @ w.T, with a gradient of w that is as many times too large."""

    @staticmethod
    def forward(ctx, x, w, factor):
        ctx.save_for_backward(x, w)
        ctx.factor = factor
        return x @ w.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.conj(), ctx.factor * (g.mT @ x.conj()), None


class Layer(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 8).reshape(2, 4))

    def forward(self, x):
        return Product.apply(x, self.weight, self.factor)


X = torch.linspace(-1, 1.3, 12, dtype=torch.float64).reshape(3, 4)
ONCE = ("vjp",)


def test_a_wrong_gradient_of_a_parameter_is_found():
    report = check(Layer(0), (X,), checks=ONCE, seed=0)
    assert report.verdict is Verdict.FAIL
    assert "weight" in report.findings[0].message


def test_a_right_one_passes_and_the_module_stays_as_it_was():
    layer = Layer(1)
    before = layer.weight.detach().clone()
    report = check(layer, (X,), checks=ONCE, seed=0)
    assert report.verdict is Verdict.PASS
    assert any("weight" in line for line in report.domain)
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is None


def test_names_of_nested_parameters_are_legible():
    report = check(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()), (X,), checks=ONCE, seed=0)
    assert report.verdict is Verdict.PASS
    assert any("_0_weight" in line for line in report.domain)


def test_beside_a_reference_the_report_says_that_parameters_are_left_out():
    layer = Layer(0)
    report = check(layer, (X.float(),), reference=lambda x: x @ layer.weight.detach().to(x.dtype).mT, checks=ONCE)
    assert any("parameters are not differentiated" in note for note in report.notes)
