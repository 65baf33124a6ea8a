"""What each element should have been, once a gradient is known to be wrong."""

from __future__ import annotations

from dataclasses import replace

import torch

from gradharness.checks.base import Setting
from gradharness.comparison import compare, compare_all
from gradharness.errors import OracleUnavailable
from gradharness.judge import out_of_budget, rule
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate, Smoothness
from gradharness.model.subject import Gradients, Tensors
from gradharness.model.verdict import Discrepancy

_LARGEST_JACOBIAN = 256  # elements for which a failure is explained by one difference each


def in_leaf(case: Case, number: int, tangent: torch.Tensor) -> Tensors:
    """A tangent that is zero in all leaves but one, scaled to that leaf's spread."""
    leaf = case.primals.leaves[number]
    scale = float(case.directions[0][number].abs().max()) or 1.0
    return tuple(
        (tangent * scale).to(leaf.dtype) if i == number else torch.zeros_like(x)
        for i, x in enumerate(case.primals.leaves)
    )


def explained(
    setting: Setting, case: Case, gradients: Gradients, own: GradientEstimate | None
) -> tuple[Discrepancy, ...]:
    """Every element, from the certified own forward or from one difference per element."""
    estimate = own if own is not None else jacobian_estimate(setting, case)
    if estimate is None:
        return ()
    compared = compare_all(case.primals.labels, gradients, estimate.gradients)
    rulings = [rule(c, b, setting.tolerance) for c, b in zip(compared, estimate.bounds, strict=True)]
    return out_of_budget(compared, rulings, estimate.oracle)


def jacobian_estimate(setting: Setting, case: Case) -> GradientEstimate | None:
    """Finite differences along every single element; None if there are too many, or one is not smooth."""
    leaves = case.primals.leaves
    if setting.differences is None or sum(x.numel() for x in leaves) > _LARGEST_JACOBIAN:
        return None
    if any(x.is_complex() for x in leaves):
        return None
    # In float64 whatever the leaves' dtype: a slope of float32 values may exceed float32.
    values = [torch.zeros_like(x, dtype=torch.float64) for x in leaves]
    bounds = [torch.zeros_like(x, dtype=torch.float64) for x in leaves]
    for number, leaf in enumerate(leaves):
        for flat in range(leaf.numel()):
            one = torch.zeros_like(leaf).reshape(-1)
            one[flat] = 1.0
            tangent = in_leaf(case, number, one.reshape(leaf.shape))
            scale = float(tangent[number].abs().max())
            try:
                estimate = setting.differences.slope(case, tangent)
            except OracleUnavailable:
                return None
            smooth = estimate.smoothness is Smoothness.SMOOTH and estimate.masked is None
            values[number].reshape(-1)[flat] = estimate.value / scale if smooth else float("nan")
            bounds[number].reshape(-1)[flat] = estimate.bound / scale
    return GradientEstimate(oracle="finite differences", gradients=tuple(values), bounds=tuple(bounds))


def best_estimate(setting: Setting, case: Case) -> GradientEstimate | None:
    """The strongest elementwise oracle that answers; for explaining a failure, not for judging."""
    for oracle in (setting.trusted, setting.own):
        if oracle is not None:
            try:
                return oracle.gradients(case)
            except OracleUnavailable:
                continue
    return jacobian_estimate(setting, case)


def is_right(setting: Setting, case: Case, label: str, gradient: torch.Tensor) -> bool | None:
    """Whether an elementwise oracle sides with a gradient, within the coarsest claim; None if there is no oracle.

    For telling which of two gradients that disagree is the wrong one; not for judging.
    """
    oracle = setting.trusted or setting.own
    if oracle is None:
        return None
    try:
        estimate = oracle.gradients(case)
    except OracleUnavailable:
        return None
    number = case.primals.labels.index(label)
    coarse = replace(setting.tolerance, rtol=setting.tolerance.coarsest)
    return rule(compare(label, gradient, estimate.gradients[number]), estimate.bounds[number], coarse).excess <= 1
