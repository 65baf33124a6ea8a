"""Faults in what is returned at all, and in the forward."""

import torch

from gradharness.model.verdict import Fault
from tests.faults.planting import Planted, function, planted, randn

X = randn((3, 4))
XY = randn((3, 4), (3, 4))


def product(name, wrong, **rest):
    """A fault of multiplication's backward that the contract check is for."""
    return planted(
        name,
        lambda x, y: x * y,
        lambda x, y, g: (g * y, g * x),
        wrong,
        **{"forms": "function pair", "inputs": XY, "check": "contract", **rest},
    )


def _other_forward(x):
    return x.exp() if torch.is_grad_enabled() else 1.001 * x.exp()


class Recorded(torch.autograd.Function):
    """Its forward is another where gradients are recorded."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp() * (1.001 if ctx.needs_input_grad[0] else 1.0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 1.001 * g * x.exp()


EXP = function(lambda x: x.exp(), lambda x, g: g * x.exp())

FAULTS = [
    *product(
        "float32 for float64",
        lambda x, y, g: ((g * y).float(), g * x),
        fault=Fault.WRONG_DTYPE,
        says=("float32",),
    ),
    *product(
        "None for a needed input",
        lambda x, y, g: (g * y, None),
        forms="function manual pair",
        check="vjp",
        fault=Fault.MISSING_GRADIENT,
        says=("for y",),
    ),
    *product("one gradient too few", lambda x, y, g: (g * y,), forms="function", fault=Fault.WRONG_COUNT),
    *product("one gradient too many", lambda x, y, g: (g * y, g * x, g), forms="function", fault=Fault.WRONG_COUNT),
    *product("text for a gradient", lambda x, y, g: (g * y, "g * x"), fault=Fault.WRONG_TYPE, says=("str",)),
    *product("float for a gradient", lambda x, y, g: (g * y, 1.5), forms="function manual", fault=Fault.WRONG_TYPE),
    *product(
        "wrong shape",
        lambda x, y, g: (g * y, (g * x).reshape(-1, 1)[:-1]),
        fault=Fault.WRONG_SHAPE,
    ),
    Planted(
        name="forward wrong, backward consistent",
        wrong=function(lambda x: 1.001 * x.exp(), lambda x, g: 1.001 * g * x.exp()),
        right=EXP,
        inputs=X,
        check="value",
        fault=Fault.WRONG_FORWARD,
        reference=torch.exp,
    ),
    Planted(
        name="forward differs where gradients are recorded",
        wrong=Recorded.apply,
        right=EXP,
        inputs=X,
        check="value",
        fault=Fault.WRONG_FORWARD,
        says=("when gradients are recorded",),
    ),
    Planted(
        name="output detached",
        wrong=lambda x: EXP(x).detach(),
        right=EXP,
        inputs=X,
        check="vjp",
        fault=Fault.DISCONNECTED,
    ),
]
