"""Updates held against what they should be, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.judge import Level
from gradharness.model.subject import Tensors
from gradharness.model.training import Moment
from gradharness.numerics.tolerance import Tolerance

# The sum of weight and update rounds once; so do the decay of the weight and the products that make up the update,
# relative to the weight at most.
_ULPS = 4.0


def stacked(steps: Sequence[Tensors]) -> Tensors:
    """One tensor for each parameter, with the steps along its first axis."""
    return tuple(torch.stack(list(column)) for column in zip(*steps, strict=True))


def befores(moments: Sequence[Moment]) -> Tensors:
    """The parameters before every step, stacked."""
    return stacked([m.before for m in moments])


def afters(moments: Sequence[Moment]) -> Tensors:
    """The parameters after every step, stacked."""
    return stacked([m.after for m in moments])


def allowed(before: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> torch.Tensor:
    """Tolerance of a parameter after every step: relative to the size of its update, and what rounds beside it.

    Args:
        before: Stacked values before the steps.
        expected: The same after them.
        tolerance: Of a gradient, which the update is relative to.
    """
    size = (expected - before).abs()
    rms = _rms(size).reshape(-1, *[1] * (size.dim() - 1))
    eps = torch.finfo(before.dtype).eps
    return tolerance.rtol * torch.maximum(size, tolerance.floor * rms) + _ULPS * eps * torch.maximum(
        before.abs(), expected.abs()
    )


def excess(got: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """For every step, the largest difference in units of its tolerance; above 1 is out of budget."""
    difference = (got - expected).abs()
    ratio = difference / bound
    ratio = torch.where((difference == 0) & (bound == 0), torch.zeros_like(ratio), ratio)
    return _largest(ratio.nan_to_num(nan=float("inf")))


def levels(before: Tensors, after: Tensors, expected: Tensors, bounds: Sequence[torch.Tensor]) -> list[Level]:
    """For each parameter, what was seen of its updates and what would have been, relative to their size in each step.

    The resolution is that of the step that shows most, infinite if nothing moves; the error is that of the worst step.
    """
    found = []
    for b, a, e, bound in zip(before, after, expected, bounds, strict=True):
        rms = _rms(e - b)
        seen = torch.where(rms > 0, _largest(bound) / rms, torch.full_like(rms, float("inf")))
        wrong = torch.where(rms > 0, _largest((a - e).abs()) / rms, torch.zeros_like(rms))
        found.append(Level(float(seen.min()), float(wrong.max())))
    return found


def _rms(stack: torch.Tensor) -> torch.Tensor:
    """Of every step; zero where there is no element."""
    return stack.reshape(len(stack), -1).square().mean(1).nan_to_num(nan=0.0).sqrt()


def _largest(stack: torch.Tensor) -> torch.Tensor:
    """Of every step; zero where there is no element."""
    flat = stack.reshape(len(stack), -1) if stack.numel() else stack.new_zeros(len(stack), 1)
    return flat.amax(1)
