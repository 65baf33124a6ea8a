"""Linear modules: around torch.nn.Linear, with parameters of its own, and with plain tensors, which is wrong.

    gradharness check examples/linear_module.py

``test_wrong_…`` fails on purpose: a plain tensor is no parameter, so that no optimiser trains it, and nothing saves it.
"""

import torch

from gradharness import gradient_test


class LR(torch.nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.linear = torch.nn.Linear(input_size, output_size)

    def forward(self, x):
        return self.linear(x)


class MyLinear(torch.nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(in_features, out_features))
        self.bias = torch.nn.Parameter(torch.randn(out_features))

    def forward(self, x):
        return x @ self.weights + self.bias


class WrongMyLinear(torch.nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weights = torch.randn(in_features, out_features, requires_grad=True)
        self.bias = torch.nn.Parameter(torch.randn(out_features))

    forward = MyLinear.forward


CHECKS = ("vjp", "state", "accumulation", "module")
test_lr = gradient_test(LR(3, 2), checks=CHECKS, x="n 3")
test_my_linear = gradient_test(MyLinear(3, 2), checks=CHECKS, x="n 3")
test_wrong_my_linear = gradient_test(WrongMyLinear(3, 2), checks=CHECKS, x="n 3")
