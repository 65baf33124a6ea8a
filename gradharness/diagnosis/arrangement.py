"""Faults of arrangement: right numbers in the wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from gradharness.checks.explanation import best_estimate
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.errors import OracleUnavailable
from gradharness.model.verdict import Fault


def transposed(evidence: Evidence) -> Explanation | None:
    """Got = expectedᵀ, or the gradient that belongs to a transposed other argument."""
    if evidence.first.elementwise and all(_is_transpose(s) for s in evidence.samples):
        message = f"gradient of {evidence.label} is transposed"
        return Explanation(Fault.TRANSPOSED, message, holds=_is_transpose, everywhere=True)
    for number, label in enumerate(evidence.first.case.primals.labels):

        def holds(s: Sample, n: int = number) -> bool:
            return s.elementwise and _is_square(s.case.primals.leaves[n]) and _matches_with_transposed(evidence, s, n)

        if _all(evidence, holds):
            message = f"gradient of {evidence.label} uses {label} where {label} transposed is due"
            return Explanation(Fault.TRANSPOSED, message, holds=holds)
    return None


def _is_transpose(sample: Sample) -> bool:
    """Where the gradient is not square, its shape alone has to do."""
    got, leaf = sample.found.got, sample.leaf
    if got is None or leaf is None or got.dim() < 2:
        return False
    if not sample.elementwise:
        return got.mT.shape == leaf.shape
    return _is_square(sample.expected) and close(sample.got, sample.expected.mT)


def _is_square(tensor: torch.Tensor) -> bool:
    return tensor.dim() >= 2 and tensor.shape[-1] == tensor.shape[-2] and tensor.shape[-1] > 1


def _matches_with_transposed(evidence: Evidence, sample: Sample, number: int) -> bool:
    """Whether it is the gradient at the point where one argument is transposed."""
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
    if not evidence.first.elementwise:
        return None
    dims = evidence.first.expected.dim()
    for axis, words, move in _moves(dims):

        def holds(s: Sample, move: Callable[[torch.Tensor], torch.Tensor] = move) -> bool:
            return s.elementwise and s.expected.dim() == dims and close(s.got, move(s.expected))

        if _all(evidence, holds):
            message = f"gradient of {evidence.label} is {words} along dimension {axis}"
            return Explanation(Fault.WRONG_ELEMENTS, message, holds=holds, everywhere=True)
    return None


def _moves(dims: int) -> Iterator[tuple[int, str, Callable[[torch.Tensor], torch.Tensor]]]:
    for axis in range(dims):
        yield axis, "reversed", partial(torch.flip, dims=(axis,))
        yield axis, "shifted by one place", partial(torch.roll, shifts=1, dims=axis)
        yield axis, "shifted by minus one place", partial(torch.roll, shifts=-1, dims=axis)


def swapped(evidence: Evidence) -> Explanation | None:
    """It is another argument's gradient."""
    sample = evidence.first
    if not sample.elementwise or sample.leaf is None or sample.got.numel() < 2:
        return None
    for number, label in enumerate(sample.case.primals.labels):

        def holds(s: Sample, n: int = number) -> bool:
            estimate = best_estimate(evidence.setting, s.case)
            return s.elementwise and estimate is not None and close(s.got, estimate.gradients[n])

        if label != sample.found.label and _all(evidence, holds):
            message = f"gradient of {evidence.label} is the gradient of {label}"
            return Explanation(Fault.SWAPPED_GRADIENTS, message, holds=holds, everywhere=True)
    return None


def conjugated(evidence: Evidence) -> Explanation | None:
    """The Jacobian's transpose is applied in place of its conjugate transpose."""
    sample = evidence.first
    if sample.leaf is None or not sample.leaf.is_complex():
        return None
    number = sample.case.primals.labels.index(sample.found.label)

    def holds(s: Sample) -> bool:
        estimate = best_estimate(evidence.setting, s.case.with_cotangents([w.conj() for w in s.case.cotangents]))
        return s.elementwise and estimate is not None and close(s.got, estimate.gradients[number].conj())

    if not _all(evidence, holds):
        return None
    message = f"gradient of {evidence.label} lacks a conjugate: the Jacobian's transpose in place of its conjugate's"
    return Explanation(Fault.MISSING_CONJUGATE, message, holds=holds, everywhere=True)


def _all(evidence: Evidence, holds: Callable[[Sample], bool]) -> bool:
    return all(holds(s) for s in evidence.samples)
