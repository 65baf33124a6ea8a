"""Faults in how the cotangent is used, and in what becomes of several outputs."""

from gradharness.model.verdict import Fault
from tests.faults.planting import planted, randn

X = randn((3, 4))


def both(x):
    return x.sin(), x.exp()


def nonlinear(name, wrong, **rest):
    """A fault of exp's backward that the linearity check is for."""
    return planted(
        name,
        lambda x: x.exp(),
        lambda x, g: g * x.exp(),
        wrong,
        **{"inputs": X, "check": "linearity", "fault": Fault.NOT_LINEAR, **rest},
    )


def two_outputs(name, wrong, **rest):
    """A fault of a backward that gets two cotangents."""
    return planted(
        name,
        both,
        lambda x, g, h: g * x.cos() + h * x.exp(),
        wrong,
        **{"forms": "function manual", "inputs": X, "check": "vjp", **rest},
    )


FAULTS = [
    *nonlinear(
        "cotangent ignored",
        lambda x, g: x.exp(),
        forms="function manual pair",
        check="vjp",
        fault=Fault.COTANGENT_IGNORED,
    ),
    *nonlinear("absolute cotangent", lambda x, g: g.abs() * x.exp(), forms="function manual"),
    *nonlinear("clamped cotangent", lambda x, g: g.clamp(-1, 1) * x.exp(), forms="function pair"),
    *nonlinear("squared cotangent", lambda x, g: g * g * x.exp(), forms="function manual"),
    *nonlinear("negative cotangents dropped", lambda x, g: g.relu() * x.exp(), forms="function pair"),
    *two_outputs(
        "second output dropped",
        lambda x, g, h: g * x.cos(),
        fault=Fault.OUTPUT_DROPPED,
        says=("leaves out the cotangent of output[1]",),
    ),
    *two_outputs(
        "outputs crossed",
        lambda x, g, h: h * x.cos() + g * x.exp(),
        fault=Fault.OUTPUTS_CROSSED,
    ),
    *two_outputs(
        "product of two cotangents added",
        lambda x, g, h: g * x.cos() + h * x.exp() + g * h,
        check="linearity",
        fault=Fault.NOT_LINEAR,
    ),
    *two_outputs(
        "second output dropped where the first has a cotangent",
        lambda x, g, h: g * x.cos() if g.any() else h * x.exp(),
        check="linearity",
        fault=Fault.NOT_LINEAR,
    ),
]
