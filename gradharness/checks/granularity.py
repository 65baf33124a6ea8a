"""Features finer than the steps of a difference: the teeth of a saw, the treads of a staircase.

A difference at steps of a share of the inputs' scale sees the mean slope of ``floor(x)`` or ``fmod(x, 1)`` once x is so
large that every step crosses many teeth: 1 in place of 0, 0 in place of 1. Steps of a few ulps still see the tooth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gradharness.checks.base import Setting
from gradharness.checks.explanation import in_leaf
from gradharness.checks.lines import Along
from gradharness.checks.roundoff import forward_roundoff, stirred
from gradharness.comparison import inner
from gradharness.errors import SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Tensors
from gradharness.model.verdict import Discrepancy

REASON = "the slope at steps of a few ulps is another one than at the steps of a difference"
# Half-widths of the fine differences, in ulps of the element that is coarsest beside its tangent.
_ULPS = (2.0**2, 2.0**4, 2.0**8, 2.0**12, 2.0**16)
_CONCLUSIVE = 0.25  # of the gap between the gradient and the differences
_BESIDE_ZERO = (2.0**-96, 2.0**-80, 2.0**-64, 2.0**-48)  # of the tangent
# Numbers further apart than this share of a unit leave too few of them on each tread of a staircase over the integers.
_SPACING = 2.0**-9


def is_finer(setting: Setting, case: Case, gradients: Gradients, line: Along, found: Sequence[Discrepancy]) -> bool:
    """Whether a mismatch along ``line`` says nothing, since the function has features finer than all usual steps.

    It does not if fine steps side with the gradient, and it cannot be told where integers are all there is beside an
    element. Only for a mismatch that is established otherwise: it may excuse, never accuse.

    Args:
        setting: The subject.
        case: The point.
        gradients: The subject's there.
        line: Where they differ from finite differences.
        found: The mismatch element by element, as far as it is known.
    """
    tangent, gap = _worst(case, found) or (line.tangent, abs(inner(gradients, line.tangent) - line.value))
    pairs = [*zip(case.primals.leaves, tangent, strict=True)]
    if any(bool((_spacing(x)[v != 0] > _SPACING).any()) for x, v in pairs):
        return True
    product, allowed, noise = inner(gradients, tangent), _CONCLUSIVE * gap, _noise(setting, case, tangent)
    for step in _steps(pairs):
        # Outputs too coarse to move look as flat as a tread.
        if noise / step <= allowed and any(
            abs(slope - product) <= allowed for slope in _fine_slopes(setting, case, tangent, step)
        ):
            return True
    return False


def _worst(case: Case, found: Sequence[Discrepancy]) -> tuple[Tensors, float] | None:
    """The direction of the element that is furthest off, and how far.

    One element alone: at the edges of several treads each has its flat side in a direction of its own.
    """
    for one in found:
        if one.expected is not None and one.label in case.primals.labels:
            got = torch.zeros_like(one.expected) if one.got is None else one.got
            number = case.primals.labels.index(one.label)
            error = torch.nan_to_num(one.expected - got)
            worst = int(error.abs().reshape(-1).argmax())
            alone = torch.zeros_like(error).reshape(-1)
            alone[worst] = torch.sgn(error.reshape(-1)[worst])
            tangent = in_leaf(case, number, alone.reshape(error.shape))
            return tangent, abs(inner([error], [tangent[number]]))
    return None


def _steps(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """Steps that move every element by so many ulps at least; beside zero, by small shares of the tangent."""
    ratios = [(_spacing(x) / v.abs())[v != 0] for x, v in pairs]
    widest = max((float(r.max()) for r in ratios if r.numel()), default=0.0)
    return [ulps * widest for ulps in _ULPS] if widest > 0 else [*_BESIDE_ZERO]


def _noise(setting: Setting, case: Case, tangent: Tensors) -> float:
    """By how much round-off may move the rise of ⟨cotangents, f⟩ along the tangent."""
    moves = stirred(setting, case, tangent)
    moved = forward_roundoff(setting.subject, case.primals, case.outputs)
    total = 0.0
    for i, w in zip(case.differentiable, case.cotangents, strict=True):
        ulps = torch.maximum(moved[i], _spacing(case.outputs[i]).to(torch.float64))
        total += float((w.abs().to(torch.float64) * ulps * moves[i]).square().sum())
    return math.sqrt(total)


def _fine_slopes(setting: Setting, case: Case, tangent: Tensors, step: float) -> list[float]:
    """⟨cotangents, slope of f⟩ from both sides; empty where the outputs have other shapes there."""
    ends = []
    for t in (step, -step):
        leaves = [torch.add(x, v, alpha=t) for x, v in zip(case.primals.leaves, tangent, strict=True)]
        try:
            outputs = setting.subject.outputs(case.primals.at(leaves))
        except SubjectError:
            return []
        if [y.shape for y in outputs] != [y.shape for y in case.outputs]:
            return []
        risen = [outputs[i] - case.outputs[i] for i in case.differentiable]
        ends.append(inner(case.cotangents, risen) / t)
    return [*ends, sum(ends) / 2]


def _spacing(tensor: torch.Tensor) -> torch.Tensor:
    """An ulp of every element, by its size."""
    return tensor.abs() * torch.finfo(tensor.dtype).eps
