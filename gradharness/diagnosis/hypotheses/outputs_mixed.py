"""With several outputs: the cotangent of one is dropped, or two are exchanged."""

from __future__ import annotations

import torch

from gradharness.diagnosis.asking import is_due
from gradharness.diagnosis.evidence import Evidence, Explanation
from gradharness.model.case import Case
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """With several outputs: the cotangent of one is dropped, or two are exchanged."""
    sample = evidence.first
    count = len(sample.case.cotangents)
    if count < 2 or not sample.elementwise:
        return None
    for dropped in range(count):
        kept = [torch.zeros_like(w) if k == dropped else w for k, w in enumerate(sample.case.cotangents)]
        if is_due(evidence, sample, kept):
            name = sample.case.output_labels[sample.case.differentiable[dropped]]
            message = f"gradient of {evidence.label} leaves out the cotangent of {name}"
            return Explanation(Fault.OUTPUT_DROPPED, message)
    for i in range(count):
        for j in range(i):
            crossed = _exchanged(sample.case, i, j)
            if crossed is not None and is_due(evidence, sample, crossed):
                names = [sample.case.output_labels[sample.case.differentiable[k]] for k in (j, i)]
                message = f"gradient of {evidence.label} uses the cotangents of {names[0]} and {names[1]} crossed"
                return Explanation(Fault.OUTPUTS_CROSSED, message)
    return None


def _exchanged(case: Case, i: int, j: int) -> list[torch.Tensor] | None:
    cotangents = list(case.cotangents)
    if cotangents[i].shape != cotangents[j].shape:
        return None
    cotangents[i], cotangents[j] = cotangents[j], cotangents[i]
    return cotangents
