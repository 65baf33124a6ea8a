"""Two convolutions with relu, as a course writes them, in a smaller size; the sibling's relu has a backward by hand.

    gradharness check examples/convolutional_model.py

``test_wrong_…`` fails on purpose: its relu lets the gradient through where it has cut off the value.
"""

import torch
import torch.nn.functional as F

from gradharness import gradient_test


class Model(torch.nn.Module):
    relu = staticmethod(F.relu)

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 3)
        self.conv2 = torch.nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = self.relu(self.conv1(x))
        return self.relu(self.conv2(x))


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


class WrongModel(Model):
    relu = staticmethod(Relu.apply)


# Given a module's class, all of its parameters are drawn and differentiated beside the image.
test_model = gradient_test(Model, checks=("vjp", "module"), x="n 1 6 6")
test_wrong_model = gradient_test(WrongModel, checks=("vjp", "module"), x="n 1 6 6")
