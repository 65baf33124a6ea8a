"""The subject's own round-off: how far its results move when all that goes in, and every operation, moves by an ulp."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.checks.base import Setting
from gradharness.errors import SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Primals, Subject, Tensors
from gradharness.numerics.differences import FLOAT32, FLOAT64
from gradharness.numerics.rounding import Rounded
from gradharness.oracles.autograd import roundoff

# Round-off adds up over a few operations that the three probes do not all excite.
MARGIN = 8.0
_PATTERNS = 6  # one element in four is moved alike in both terms of a difference, and shows nothing


def own_roundoff(setting: Setting, case: Case, cotangents: Sequence[torch.Tensor]) -> Tensors | None:
    """Per element of each gradient, in its units; None if two equal calls differ, which is noise and no round-off."""
    case = case.with_cotangents(cotangents)

    def there(primals: Primals, weights: Tensors) -> Gradients | None:
        try:
            return setting.subject.linearize(primals).pullback(weights)
        except SubjectError:
            return None

    first, second = there(case.primals, case.cotangents), there(case.primals, case.cotangents)
    if first is None or second is None:
        return None
    here = tuple(torch.zeros_like(x) if g is None else g for g, x in zip(first, case.primals.leaves, strict=True))
    again = tuple(torch.zeros_like(x) if g is None else g for g, x in zip(second, case.primals.leaves, strict=True))
    if not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(here, again, strict=True)):
        return None
    return roundoff(case, here, (there, setting.subject.outputs), torch.finfo(setting.dtype).eps, exact=True)


def forward_roundoff(subject: Subject, primals: Primals, here: Tensors) -> Tensors:
    """How far each output moves when every operation of a forward rounds otherwise; infinite where it then raises.

    Args:
        subject: Whose forward.
        primals: The point.
        here: Its outputs there.
    """
    spread = tuple(torch.zeros_like(y, dtype=torch.float64) for y in here)
    for pattern in range(_PATTERNS):
        try:
            with Rounded(pattern):
                there = subject.outputs(primals)
        except SubjectError:
            return tuple(torch.full_like(s, torch.inf) for s in spread)
        for total, y, moved in zip(spread, here, there, strict=False):
            if y.shape == moved.shape and y.dtype is not torch.bool:
                torch.maximum(total, torch.nan_to_num((y - moved).abs().to(torch.float64), nan=0.0), out=total)
    return spread


def coarse_step(setting: Setting) -> float:
    """The widest step of a difference, as a share of its tangent."""
    return (FLOAT32 if torch.finfo(setting.dtype).eps > FLOAT64.eps else FLOAT64).anchors[0]


def stirred(setting: Setting, case: Case, tangent: Tensors) -> Tensors:
    """One where an output moves along the tangent, zero elsewhere: what does not move adds no noise to a difference."""
    everything = tuple(torch.ones_like(y.abs()) for y in case.outputs)
    step = coarse_step(setting)
    leaves = [torch.add(x, v, alpha=step) for x, v in zip(case.primals.leaves, tangent, strict=True)]
    try:
        there = setting.subject.outputs(case.primals.at(leaves))
    except SubjectError:
        return everything
    if [y.shape for y in there] != [y.shape for y in case.outputs]:
        return everything
    return tuple((y != z).to(one.dtype) for y, z, one in zip(there, case.outputs, everything, strict=True))
