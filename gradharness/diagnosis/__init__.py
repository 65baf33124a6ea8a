"""From a failing observation to a sentence that names the fault.

Hypotheses are tried in order; the first that explains all samples wins, and where none does the answer is "unknown"
with the evidence: a wrong name is worse than none.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, right_samples
from gradharness.diagnosis.hypotheses import (
    argument,
    as_if,
    conjugate,
    derivative,
    duplicates,
    factor,
    few,
    ignored,
    jacobian,
    misshapen,
    missing,
    moved,
    named,
    nonlinear,
    not_finite,
    other_function,
    outputs_mixed,
    part,
    place,
    precision,
    ratio,
    region,
    repair,
    replaced,
    residual,
    shapes,
    singular,
    slices,
    stale,
    swapped,
    transposed,
    unknown,
    zero,
)

__all__ = ["Evidence", "Explanation", "Sample", "diagnose", "right_samples"]

_HYPOTHESES: tuple[Callable[[Evidence], Explanation | None], ...] = (
    named.explain,
    missing.explain,
    misshapen.explain,
    not_finite.explain,
    zero.explain,
    stale.explain,
    ignored.explain,
    precision.explain,
    nonlinear.explain,
    outputs_mixed.explain,
    factor.explain,
    as_if.explain,
    swapped.explain,
    transposed.explain,
    moved.explain,
    conjugate.explain,
    replaced.explain_conjugates,
    argument.explain,
    duplicates.explain,
    region.explain,
    replaced.explain,
    slices.explain,
    place.explain,
    singular.explain,
    part.explain,
    repair.explain,
    ratio.explain,
    derivative.explain,
    jacobian.explain,
    region.explain_but_first,
    other_function.explain,
    replaced.explain_operands,
    few.explain,
    shapes.explain,
    residual.explain,
)


def diagnose(evidence: Evidence) -> Explanation:
    """The first hypothesis that explains all samples, or "unknown" with the evidence."""
    evidence = _clean(evidence)
    failed: list[str] = []
    for hypothesis in _HYPOTHESES:
        try:
            explanation = hypothesis(evidence)
            if explanation is not None and not _refuted(explanation, evidence):
                return explanation
        except Exception as error:  # our own bug must not take the failure with it; the report tells of it
            place = hypothesis.__module__.rpartition(".")[2]
            failed.append(f"internal error in the hypothesis {place!r}: {type(error).__name__}: {error}")
    explanation = unknown.explain(evidence)
    return replace(explanation, details=(*explanation.details, *failed))


def _clean(evidence: Evidence) -> Evidence:
    """Without the cases in which the oracle is not finite, or has no bound; unless there are no others."""
    clean = tuple(s for s in evidence.samples if _is_finite(s))
    return replace(evidence, samples=clean) if clean and evidence.first.elementwise else evidence


def _is_finite(sample: Sample) -> bool:
    if not sample.elementwise:
        return False
    bound = torch.as_tensor(sample.found.bound)
    return bool(sample.expected.isfinite().all()) and bool(bound.isfinite().all())


def _refuted(explanation: Explanation, evidence: Evidence) -> bool:
    """Whether it says that gradients are wrong which are right."""
    return explanation.everywhere and not all(explanation.holds(s) for s in evidence.right if s.elementwise)
