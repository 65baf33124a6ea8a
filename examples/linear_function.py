"""Two linear layers as ``torch.autograd.Function``: one is right, one is wrong in a way that gradcheck passes.

gradharness check examples/linear_function.py
"""

import torch
import torch.nn.functional as F

from gradharness import gradient_test


class Linear(torch.autograd.Function):
    """y = x Wᵀ + b, with its backward by hand."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        return grad_output @ weight, grad_output.T @ x, grad_output.sum(0)


class ClippingLinear(Linear):
    """Clips the gradient where it should only pass it on. gradcheck's cotangents are never larger than one."""

    @staticmethod
    def backward(ctx, grad_output):
        return Linear.backward(ctx, grad_output.clamp(-1, 1))


@gradient_test(reference=F.linear, x="n d", weight="k d", bias="k")
def test_linear(x, weight, bias):
    return Linear.apply(x, weight, bias)


@gradient_test(reference=F.linear, x="n d", weight="k d", bias="k")
def test_clipping_linear(x, weight, bias):
    return ClippingLinear.apply(x, weight, bias)
