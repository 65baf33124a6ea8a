"""Faults in how the cotangent is used: ignored, not linear, one output's dropped, two outputs' crossed."""

from __future__ import annotations

import torch

from gradharness.checks.explanation import best_estimate
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.errors import BackwardRaised
from gradharness.model.case import Case
from gradharness.model.verdict import Fault


def ignored(evidence: Evidence) -> Explanation | None:
    """The gradient is the same for another cotangent."""
    sample = evidence.first
    if evidence.setting.subject.fixed_cotangent or not sample.elementwise or sample.found.got is None:
        return None
    doubled = _again(evidence, sample.case, [2 * w for w in sample.case.cotangents])
    if doubled is None or not close(doubled, sample.got) or not bool(sample.got.any()):
        return None
    other = _again(evidence, sample.case, list(sample.case.other_cotangents))
    if other is None or not close(other, sample.got):
        return None
    message = f"gradient of {evidence.label} does not depend on the cotangent (it is right for one value of it only)"
    return Explanation(Fault.COTANGENT_IGNORED, message)


def not_linear(evidence: Evidence) -> Explanation | None:
    """The gradient is not linear in the cotangent; tried on sign and on two scales."""
    sample = evidence.first
    if evidence.setting.subject.fixed_cotangent or not sample.elementwise or sample.found.got is None:
        return None
    for factor in (-1.0, 2.0, 64.0):
        scaled = _again(evidence, sample.case, [factor * w for w in sample.case.cotangents])
        if scaled is not None and not close(scaled, factor * sample.got):
            how = _how_not_linear(evidence, sample, scaled, factor)
            message = f"gradient of {evidence.label} is not linear in the cotangent: {how}"
            return Explanation(Fault.NOT_LINEAR, message)
    return None


def _how_not_linear(evidence: Evidence, sample: Sample, scaled: torch.Tensor, factor: float) -> str:
    estimate = best_estimate(evidence.setting, sample.case.with_cotangents([w.abs() for w in sample.case.cotangents]))
    if estimate is not None:
        number = sample.case.primals.labels.index(sample.found.label)
        if close(sample.got, estimate.gradients[number]):
            return "it is the gradient for the cotangent's absolute value"
    squared = factor == 2.0 and close(scaled, 4 * sample.got)
    if squared:
        return "it grows with its square"
    return f"for {factor:g} times the cotangent it is not {factor:g} times as large"


def outputs_mixed(evidence: Evidence) -> Explanation | None:
    """With several outputs: the cotangent of one is dropped, or two are exchanged."""
    sample = evidence.first
    count = len(sample.case.cotangents)
    if count < 2 or not sample.elementwise:
        return None
    for dropped in range(count):
        kept = [torch.zeros_like(w) if k == dropped else w for k, w in enumerate(sample.case.cotangents)]
        if _is_gradient_for(evidence, sample, sample.case.with_cotangents(kept)):
            name = sample.case.output_labels[sample.case.differentiable[dropped]]
            message = f"gradient of {evidence.label} leaves out the cotangent of {name}"
            return Explanation(Fault.OUTPUT_DROPPED, message)
    for i in range(count):
        for j in range(i):
            crossed = _exchanged(sample.case, i, j)
            if crossed is not None and _is_gradient_for(evidence, sample, crossed):
                names = [sample.case.output_labels[sample.case.differentiable[k]] for k in (j, i)]
                message = f"gradient of {evidence.label} uses the cotangents of {names[0]} and {names[1]} crossed"
                return Explanation(Fault.OUTPUTS_CROSSED, message)
    return None


def _exchanged(case: Case, i: int, j: int) -> Case | None:
    cotangents = list(case.cotangents)
    if cotangents[i].shape != cotangents[j].shape:
        return None
    cotangents[i], cotangents[j] = cotangents[j], cotangents[i]
    return case.with_cotangents(cotangents)


def _is_gradient_for(evidence: Evidence, sample: Sample, case: Case) -> bool:
    estimate = best_estimate(evidence.setting, case)
    if estimate is None:
        return False
    number = sample.case.primals.labels.index(sample.found.label)
    return close(sample.got, estimate.gradients[number], sample.found.bound)


def _again(evidence: Evidence, case: Case, cotangents: list[torch.Tensor]) -> torch.Tensor | None:
    try:
        gradients = evidence.setting.subject.linearize(case.primals).pullback(cotangents)
    except BackwardRaised:
        return None
    return gradients[case.primals.labels.index(evidence.label)]
