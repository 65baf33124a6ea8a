"""One step of the chain rule is left out, or has a factor too few or too many."""

from __future__ import annotations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.diagnosis.forward_graph import Altered, graph_of

_FEWEST = 6
_LARGEST = 4096


def explain(evidence: Evidence) -> Explanation | None:
    """What came is the gradient with one node of the forward differentiated otherwise, in every case."""
    fit = [s for s in evidence.samples if s.elementwise and s.leaf is not None and s.expected.numel() <= _LARGEST]
    if len(fit) < len(evidence.samples) or sum(int(s.wrong.sum()) for s in fit) < _FEWEST:
        return None
    trial = max(fit, key=lambda s: s.expected.numel())
    graph = graph_of(evidence.setting, trial.case, evidence.label)
    if graph is None or close(trial.got, trial.expected):
        return None
    for one in graph.altered():
        gradient = graph.with_altered(one)
        if gradient is None or not _is(trial, gradient):
            continue

        def holds(sample: Sample, one: Altered = one) -> bool:
            return _gives(evidence, sample, one)

        if all(holds(s) for s in (*evidence.samples, *evidence.right) if s.elementwise):
            return Explanation(one.fault, f"gradient of {evidence.label} {one.words}", holds=holds)
    return None


def _is(sample: Sample, gradient: torch.Tensor) -> bool:
    return close(sample.got, gradient, sample.found.bound)


def _gives(evidence: Evidence, sample: Sample, one: Altered) -> bool:
    graph = graph_of(evidence.setting, sample.case, sample.found.label) if sample.elementwise else None
    if graph is None:
        return False
    for other in graph.altered():
        if (other.node, other.kind) == (one.node, one.kind):
            gradient = graph.with_altered(other)
            return gradient is not None and _is(sample, gradient)
    return False
