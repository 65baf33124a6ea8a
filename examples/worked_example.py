"""Autograd's worked example with its chain rule by hand: y = x + 3, z = 3y², o the mean of z.

    gradharness check examples/worked_example.py

At x = ones(3, 3) the gradient is (1/9) · 6 · 4 = 8/3 everywhere. ``test_wrong_…`` fails on purpose: it takes the mean
for a sum.
"""

import torch

from gradharness import gradient_test, pair


def forward(x):
    y = x + 3
    z = 3 * y**2
    return z.mean()


def backward(x, do):
    dz = do / x.numel()
    dy = dz * 6 * (x + 3)
    return dy * 1


def wrong_backward(x, do):
    return do * 6 * (x + 3)


X = torch.ones(3, 3)

test_worked_example = gradient_test(pair(forward, backward), inputs=(X,))
test_wrong_worked_example = gradient_test(pair(forward, wrong_backward), inputs=(X,))
