"""What came is made of the right Jacobian in another way: not transposed, or its diagonal, or its columns' sums."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradharness.diagnosis.asking import due
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.diagnosis.forward_graph import graph_of
from gradharness.model.verdict import Fault

_FEWEST = 6  # wrong elements over all samples
_LARGEST = 256  # elements, each of which takes a call


def explain(evidence: Evidence) -> Explanation | None:
    """Got is J·w in place of Jᵀ·w, diag(J)·w, or w times the gradient of the output's sum, in every case."""
    samples = evidence.samples
    if not all(map(_fits, samples)) or sum(int(s.wrong.sum()) for s in samples) < _FEWEST:
        return None
    for fault, words, other in _OTHERS:

        def holds(sample: Sample, other: Callable[..., torch.Tensor | None] = other) -> bool:
            gradient = other(evidence, sample) if _fits(sample) else None
            return gradient is not None and close(sample.got, gradient, sample.found.bound)

        if all(map(holds, samples)) and all(holds(s) for s in evidence.right if s.elementwise):
            return Explanation(fault, f"gradient of {evidence.label} {words}", holds=holds)
    return None


def _fits(sample: Sample) -> bool:
    """One output, of the gradient's shape, and real: there the Jacobian is square."""
    w = sample.case.cotangents
    return (
        sample.elementwise
        and sample.leaf is not None
        and len(w) == 1
        and w[0].shape == sample.expected.shape
        and not (w[0].is_complex() or sample.expected.is_complex())
        and sample.expected.numel() <= _LARGEST
    )


def _untransposed(evidence: Evidence, sample: Sample) -> torch.Tensor | None:
    """J·w, since Jᵀ·v is linear in v: the gradient of ⟨Jᵀ·v, w⟩ by v."""
    graph = graph_of(evidence.setting, sample.case, evidence.label)
    return None if graph is None else graph.tangent(sample.case.cotangents[0])


def _of_diagonal(evidence: Evidence, sample: Sample) -> torch.Tensor | None:
    graph = graph_of(evidence.setting, sample.case, evidence.label)
    diagonal = None if graph is None else graph.diagonal()
    return None if diagonal is None else diagonal * sample.case.cotangents[0]


def _of_sum(evidence: Evidence, sample: Sample) -> torch.Tensor | None:
    w = sample.case.cotangents[0]
    slope = due(evidence, sample.case, [torch.ones_like(w)])
    return None if slope is None else slope * w


_OTHERS = (
    (
        Fault.TRANSPOSED,
        "is J·w where Jᵀ·w is due: the cotangent is taken through the forward's linear map again, in place of its "
        "transpose (the inverse, of a rotation or a permutation)",
        _untransposed,
    ),
    (
        Fault.MISSING_TERM,
        "is that of the Jacobian's diagonal alone: what the elements do to each other is missing",
        _of_diagonal,
    ),
    (
        Fault.WRONG_FORMULA,
        "is the cotangent times the gradient of the output's sum: right only where no element depends on another",
        _of_sum,
    ),
)
