"""The derivative of another function than the forward's: a well-known one of the same argument."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault

_FEWEST = 6
_FUNCTIONS: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
    ("the tanh approximation of GELU", lambda x: F.gelu(x, approximate="tanh")),
    ("the exact GELU (erf)", F.gelu),
    ("the sigmoid approximation of GELU", lambda x: x * torch.sigmoid(1.702 * x)),
    ("SiLU", F.silu),
    ("tanh", torch.tanh),
    ("the sigmoid", torch.sigmoid),
    ("softplus", F.softplus),
    ("ReLU", torch.relu),
    ("mish", F.mish),
    ("softsign", F.softsign),
    ("erf", torch.erf),
    ("exp", torch.exp),
    ("sin", torch.sin),
    ("cos", torch.cos),
    ("the hyperbolic sine", torch.sinh),
    ("arctan", torch.arctan),
    ("the square", torch.square),
    ("ELU with alpha 1", F.elu),
    ("log(1 + x²)", lambda x: torch.log1p(x * x)),
    ("the normal distribution function", lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2)))),
)


def explain(evidence: Evidence) -> Explanation | None:
    """Got is the cotangent times another function's derivative, in every sample."""
    if sum(int(s.wrong.sum()) for s in evidence.samples if s.elementwise) < _FEWEST:
        return None
    for name, function in _FUNCTIONS:

        def holds(sample: Sample, f: Callable[[torch.Tensor], torch.Tensor] = function) -> bool:
            return _is_derivative(sample, f)

        if all(holds(s) for s in evidence.samples):
            message = f"gradient of {evidence.label} is the derivative of another function: {name}"
            return Explanation(Fault.WRONG_FORMULA, message, holds=holds)
    return None


def _is_derivative(sample: Sample, function: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    x, cotangents = sample.leaf, sample.case.cotangents
    if x is None or not sample.elementwise or x.is_complex() or [w.shape for w in cotangents] != [x.shape]:
        return False
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(at).sum(), at)
    return close(sample.got, cotangents[0] * slope, sample.found.bound)
