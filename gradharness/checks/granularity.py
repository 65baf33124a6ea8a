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
from gradharness.numerics.differences import FLOAT64

REASON = "the slope at steps of a few ulps is another one than at the steps of a difference"
# Half-widths of the fine differences, as shares of the element that is coarsest beside its tangent, from a few ulps on.
# The finest see a tread, from either side; the widest see through the rounding within 1 + erf(x), which no ulp shows.
_FEW_ULPS = (2.0**2, 2.0**4, 2.0**6)
_ONE_SIDED = (2.0**-44, 2.0**-40, 2.0**-36)
_CENTRAL = (2.0**-28, 2.0**-20, 2.0**-15, 2.0**-10)
# A disputed rise over the widest step that is lower than so many roundings of the inputs is nobody's fault.
_ROUNDINGS = 64.0
_CLEAR = 8.0  # by so much a slope that is no exact zero has to stand out of the noise
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
    if any(g is not None and not bool(g.isfinite().all()) for g in gradients):
        return False  # no feature, however fine, makes a slope of NaN
    tangent, gap = _worst(case, found) or (line.tangent, abs(inner(gradients, line.tangent) - line.value))
    pairs = [*zip(case.primals.leaves, tangent, strict=True)]
    if any(bool((_spacing(x)[v != 0] > _SPACING).any()) for x, v in pairs):
        return True
    if gap * FLOAT64.first <= _ROUNDINGS * _rounding(case, tangent):
        return True
    product, allowed, noise = inner(gradients, tangent), _CONCLUSIVE * gap, _noise(setting, case, tangent)
    for step, both_sides in _steps(pairs):
        slopes = _fine_slopes(setting, case, tangent, step)
        for slope in slopes if both_sides else slopes[-1:]:
            on_tread = slope == product == 0 and noise / step <= allowed
            if on_tread or (_CLEAR * noise / step <= allowed and abs(slope - product) <= allowed):
                return True
    return False


def _rounding(case: Case, tangent: Tensors) -> float:
    """One rounding of numbers as large as the moved elements, weighted by the cotangents: what 1 + erf(x) hides."""
    moved = [torch.where(v != 0, x, 0) for x, v in zip(case.primals.leaves, tangent, strict=True)]
    # Always float64's: beside float32's the bounds of differences are wide enough.
    return FLOAT64.eps * _norm(case.cotangents) * _norm(moved)


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(t.detach().abs().to(torch.float64))) for t in tensors))


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


def _steps(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[float, bool]]:
    """(step, whether each side is looked at on its own): so wide that every element moves by so much at least."""
    ratios = [(x.abs() / v.abs())[v != 0] for x, v in pairs]
    widest = max((float(r.max()) for r in ratios if r.numel()), default=0.0)
    if widest == 0:
        return [(share, True) for share in _BESIDE_ZERO]
    eps = max(torch.finfo(x.dtype).eps for x, _ in pairs)
    fine = [ulps * eps for ulps in _FEW_ULPS] + [share for share in _ONE_SIDED if share > _FEW_ULPS[-1] * eps]
    steps = [(share, True) for share in fine]
    steps += [(share, False) for share in _CENTRAL if share > fine[-1]]
    return [(share * widest, both_sides) for share, both_sides in steps]


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
