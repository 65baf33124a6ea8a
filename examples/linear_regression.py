"""Linear regression of y = 2x + 1 at x = 0 … 10, SGD with lr 0.01, for 1000 epochs: by autograd, and by hand.

    gradharness check examples/linear_regression.py

Every epoch is held against torch.autograd and torch.optim.SGD, on the CPU, and on CUDA where there is a device.
``test_wrong_…`` fails on purpose: without ``zero_grad()``, each epoch adds its gradient to those of all epochs before.
"""

import torch

from gradharness import gradient_test, tensor, training

EPOCHS = 1000
criterion = torch.nn.MSELoss()


class LinearRegression(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.linear(x)


def by_autograd(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for inputs, labels in batches:
        loss = criterion(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def by_hand(model, batches):
    weight, bias = model.linear.weight, model.linear.bias
    with torch.no_grad():
        for inputs, labels in batches:
            error = inputs @ weight.T + bias - labels
            weight -= 0.01 * 2 * error.T @ inputs / len(inputs)
            bias -= 0.01 * 2 * error.mean(0)


def without_zero_grad(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for inputs, labels in batches:
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()


def descent(params):
    return torch.optim.SGD(params, lr=0.01)


# The course's own data, in every epoch; the weights start anywhere.
x = torch.arange(11.0).reshape(-1, 1)
INPUTS = {
    "x": x,
    "target": 2 * x + 1,
    "linear.weight": tensor("1 1", low=-1, high=1),
    "linear.bias": tensor("1", low=-1, high=1),
}


def trained(loop, steps):
    subject = training(loop, model=LinearRegression, loss=criterion, optimizer=descent, steps=steps)
    return gradient_test(subject, inputs=INPUTS, devices=("cpu", "cuda"))


test_by_autograd = trained(by_autograd, EPOCHS)
test_by_hand = trained(by_hand, EPOCHS)
test_wrong_without_zero_grad = trained(without_zero_grad, 5)
