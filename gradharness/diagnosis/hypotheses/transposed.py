"""Something is transposed: the gradient, or an argument within its formula."""

from __future__ import annotations

import torch

from gradharness.diagnosis.asking import due_at, holds_for_all
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """Got = expectedᵀ, or the gradient that belongs to a transposed other argument."""
    if evidence.first.elementwise and all(_is_transpose(s) for s in evidence.samples):
        message = f"gradient of {evidence.label} is transposed"
        return Explanation(Fault.TRANSPOSED, message, holds=_is_transpose, everywhere=True)
    for number, label in enumerate(evidence.first.case.primals.labels):

        def holds(s: Sample, n: int = number) -> bool:
            return s.elementwise and _is_square(s.case.primals.leaves[n]) and _matches_with_transposed(evidence, s, n)

        if holds_for_all(evidence, holds):
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
    leaves = list(sample.case.primals.leaves)
    leaves[number] = leaves[number].mT.contiguous()
    there = due_at(evidence, sample.case, sample.case.primals.at(leaves))
    return there is not None and close(sample.got, there)
