"""VJPs of one's own, tested alone and within random programs: one is wrong, two are right.

gradharness fuzz examples/vjp_rules.py --max-programs 400
"""

import torch

from gradharness import vjp_of


@vjp_of("softmax")
def wrong_softmax(call, g):
    """Sums over all rows: right for a single one."""
    return call.y * (g - (g * call.y).sum())


@vjp_of("softmax")
def right_softmax(call, g):
    return call.y * (g - (g * call.y).sum(call.parameters["dim"], keepdim=True))


def gaussian(x, width):
    return torch.exp(-((x / width) ** 2))


@vjp_of(gaussian, domains=("real", "positive"))
def right_gaussian(call, g):
    x, width = call.inputs
    slope = -2 * g * call.y * x / width**2
    return slope.sum_to_size(x.shape), (-slope * x / width).sum_to_size(width.shape)
