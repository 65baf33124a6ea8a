"""Faults of arrangement: right numbers in the wrong place."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradharness.checks.arbitration import best_estimate
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.errors import OracleUnavailable
from gradharness.model.verdict import Fault


def transposed(evidence: Evidence) -> Explanation | None:
    """got = expectedᵀ, or the gradient that belongs to a transposed other argument."""
    if _all(evidence, _is_transpose):
        message = f"gradient of {evidence.label} is transposed"
        return Explanation(Fault.TRANSPOSED, message, holds=lambda s: s.elementwise and _is_transpose(s))
    sample = evidence.first
    if not sample.elementwise:
        return None
    for number, label in enumerate(sample.case.primals.labels):
        leaf = sample.case.primals.leaves[number]
        square = leaf.dim() >= 2 and leaf.shape[-1] == leaf.shape[-2] and leaf.shape[-1] > 1
        if square and _matches_with_transposed(evidence, sample, number):
            message = f"gradient of {evidence.label} uses {label} where {label} transposed is due"
            return Explanation(Fault.TRANSPOSED, message)
    return None


def _is_transpose(sample: Sample) -> bool:
    e = sample.expected
    if e.dim() < 2 or e.shape[-1] != e.shape[-2] or e.shape[-1] < 2:
        return False
    return close(sample.got, e.mT)


def _matches_with_transposed(evidence: Evidence, sample: Sample, number: int) -> bool:
    """Near zero of the other arguments the map is bilinear to leading order: exact only for maps that are linear."""
    oracle = evidence.setting.trusted or evidence.setting.own
    if oracle is None:
        return False
    leaves = list(sample.case.primals.leaves)
    leaves[number] = leaves[number].mT.contiguous()
    try:
        there = oracle.at(sample.case, sample.case.primals.at(leaves))
    except OracleUnavailable:
        return False
    index = sample.case.primals.labels.index(sample.found.label)
    return close(sample.got, there[index])


def flipped_or_shifted(evidence: Evidence) -> Explanation | None:
    """The right numbers reversed along an axis, or moved by one place."""
    dims = evidence.first.expected.dim() if evidence.first.elementwise else 0
    for axis in range(dims):
        moves: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
            ("reversed", lambda e, a=axis: e.flip(a)),
            ("shifted by one place", lambda e, a=axis: e.roll(1, a)),
            ("shifted by minus one place", lambda e, a=axis: e.roll(-1, a)),
        )
        for words, move in moves:

            def holds(s: Sample, move: Callable[[torch.Tensor], torch.Tensor] = move, a: int = axis) -> bool:
                return s.expected.dim() > a and s.expected.shape[a] > 1 and close(s.got, move(s.expected))

            if _all(evidence, holds):
                message = f"gradient of {evidence.label} is {words} along dimension {axis}"
                return Explanation(Fault.WRONG_ELEMENTS, message)
    return None


def swapped(evidence: Evidence) -> Explanation | None:
    """It is another argument's gradient."""
    sample = evidence.first
    if not sample.elementwise or sample.found.label not in sample.case.primals.labels:
        return None
    estimate = best_estimate(evidence.setting, sample.case)
    if estimate is None or sample.got.numel() < 2:
        return None
    for label, other in zip(sample.case.primals.labels, estimate.gradients, strict=True):
        if label != sample.found.label and close(sample.got, other) and not close(other, sample.expected):
            message = f"gradient of {evidence.label} is the gradient of {label}"
            return Explanation(Fault.SWAPPED_GRADIENTS, message)
    return None


def _all(evidence: Evidence, holds: Callable[[Sample], bool]) -> bool:
    return all(s.elementwise for s in evidence.samples) and all(holds(s) for s in evidence.samples)
