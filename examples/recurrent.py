"""A recurrent network by hand: the hidden state is carried from step to step, and the gradients add up over the steps.

    gradharness check examples/recurrent.py

This is where accumulating is right. ``test_wrong_…`` fails on purpose: it keeps the last step's gradient alone.
"""

import torch

from gradharness import gradient_test, manual, tensor


class RNN:
    """h = tanh(x U + h W), for every x of a sequence."""

    def __init__(self, d=2, k=2):
        self.U, self.W = torch.zeros(d, k), torch.zeros(k, k)

    def forward(self, xs, h):
        self.xs, self.hs = xs, [h]
        for x in xs:
            self.hs.append(torch.tanh(x @ self.U + self.hs[-1] @ self.W))
        return self.hs[-1]

    def backward(self, dh):
        self.dU, self.dW = torch.zeros_like(self.U), torch.zeros_like(self.W)
        for x, before, h in reversed(list(zip(self.xs, self.hs, self.hs[1:], strict=False))):
            dz = dh * (1 - h**2)
            self.add(x.T @ dz, before.T @ dz)
            dh = dz @ self.W.T
        self.dh = dh

    def add(self, dU, dW):
        self.dU += dU
        self.dW += dW


class WrongRNN(RNN):
    def add(self, dU, dW):
        self.dU, self.dW = dU, dW


INPUTS = {
    "xs": tensor("t n d", low=-1, high=1, grad=False),
    "h": tensor("n k", low=-1, high=1),
    "U": tensor("d k", low=-1, high=1),
    "W": tensor("k k", low=-1, high=1),
}


def recurrent(build):
    return manual(build, state=("U", "W"), gradients=lambda one: {"h": one.dh, "U": one.dU, "W": one.dW})


test_rnn = gradient_test(recurrent(RNN), inputs=INPUTS)
test_wrong_rnn = gradient_test(recurrent(WrongRNN), inputs=INPUTS)
