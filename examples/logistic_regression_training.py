"""The logistic regression by hand, with its update: trained step for step beside torch.optim.SGD.

    gradharness check examples/logistic_regression_training.py

``test_wrong_…`` fail on purpose: one adds to the gradients of the step before, one divides its learning rate in place,
which is one tensor for all objects, since it is made in a default argument.
"""

import torch

from gradharness import gradient_test, manual, tensor


class LR(torch.nn.Module):
    """Takes x as (features, samples)."""

    def __init__(self, dim=1, lr=torch.scalar_tensor(0.01)):  # noqa: B008
        super().__init__()
        self.W = torch.zeros(dim, 1)
        self.b = torch.tensor(0.0)
        self.grad = {"dw": torch.zeros(dim, 1), "db": torch.tensor(0.0)}
        self.lr = lr

    def forward(self, x):
        return torch.sigmoid(self.W.T @ x + self.b)

    def backward(self, x, y_hat, y):
        self.grad["dw"] = (1 / x.shape[1]) * (x @ (y_hat - y).T)
        self.grad["db"] = (1 / x.shape[1]) * torch.sum(y_hat - y)

    def optimize(self):
        self.W -= self.lr * self.grad["dw"]
        self.b -= self.lr * self.grad["db"]


class AddingLR(LR):
    def backward(self, x, y_hat, y):
        self.grad["dw"] = self.grad["dw"] + (1 / x.shape[1]) * (x @ (y_hat - y).T)
        self.grad["db"] = self.grad["db"] + (1 / x.shape[1]) * torch.sum(y_hat - y)


class DecayingLR(LR):
    def optimize(self):
        super().optimize()
        self.lr /= 1.01


def binary_cross_entropy(y_hat, y):
    return -(y * torch.log(y_hat) + (1 - y) * torch.log(1 - y_hat)).mean()


def trained(build):
    """Besides the gradients: ``optimize()`` is held against torch's SGD with the same learning rate."""
    return manual(
        build,
        state=("W", "b"),
        gradients=lambda model: {"W": model.grad["dw"], "b": model.grad["db"]},
        loss=binary_cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.01),
    )


INPUTS = {
    "x": tensor("d n", low=-1, high=1, grad=False),
    "y": tensor("1 n", low=0, high=1, grad=False),
    "W": tensor("d 1", low=-0.5, high=0.5),
    "b": tensor("", low=-1, high=1),
}
CHECKS = ("vjp", "state", "training")
test_lr = gradient_test(trained(LR), inputs=INPUTS, checks=CHECKS)
test_wrong_adding_lr = gradient_test(trained(AddingLR), inputs=INPUTS, checks=("training",))
test_wrong_decaying_lr = gradient_test(trained(DecayingLR), inputs=INPUTS, checks=("training",))
