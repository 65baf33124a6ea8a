"""A logistic regression whose backward is written by hand: once as a course teaches it, once repaired.

    gradharness check examples/logistic_regression.py

``CourseLR`` works for exactly one shape, one feature and one sample, so that a test with that shape passes.
"""

import torch

from gradharness import gradient_test, manual, tensor


class CourseLR(torch.nn.Module):
    """Takes x as (features, samples) in backward, and as something else in forward."""

    def __init__(self, dim=1):
        super().__init__()
        self.W = torch.zeros(dim, 1)
        self.b = torch.tensor(0.0)
        self.grad = {"dw": torch.zeros(dim, 1), "db": torch.tensor(0.0)}

    def sigmoid(self, z):
        return 1 / (1 + torch.exp(-z))

    def forward(self, x):
        return self.sigmoid(x @ self.W.T + self.b)

    def backward(self, x, y_hat, y):
        self.grad["dw"] = (1 / x.shape[1]) * (x @ (y_hat - y).T)
        self.grad["db"] = (1 / x.shape[1]) * torch.sum(y_hat - y)


class RepairedLR(CourseLR):
    """Takes x as (features, samples) everywhere."""

    def forward(self, x):
        return self.sigmoid(self.W.T @ x + self.b)


def binary_cross_entropy(y_hat, y):
    """The loss whose gradient both classes claim to compute: the mean over the samples."""
    return -(y * torch.log(y_hat) + (1 - y) * torch.log(1 - y_hat)).mean()


def reference(x, y, W, b):
    """The same loss for autograd."""
    return binary_cross_entropy(torch.sigmoid(W.T @ x + b), y)


def logistic_regression(build):
    """Says where the class keeps its weights, where it leaves their gradients, and of which loss these are."""
    return manual(
        build,
        state=("W", "b"),
        gradients=lambda model: {"W": model.grad["dw"], "b": model.grad["db"]},
        loss=binary_cross_entropy,
    )


# Small values keep the sigmoid away from 0 and 1, where the logarithm of either loses its digits.
DOMAIN = {
    "x": tensor("d n", low=-1, high=1, grad=False),
    "y": tensor("1 n", low=0, high=1, grad=False),
    "W": tensor("d 1", low=-0.5, high=0.5),
    "b": tensor("", low=-1, high=1),
}

test_course_lr = gradient_test(logistic_regression(CourseLR), inputs=DOMAIN, reference=reference)
test_repaired_lr = gradient_test(logistic_regression(RepairedLR), inputs=DOMAIN, reference=reference)
