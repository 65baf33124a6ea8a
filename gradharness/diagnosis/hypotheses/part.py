"""A part of the gradient is missing, or is a number times the right one: a path through the forward, or a term."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.diagnosis.forward_graph import Graph, Part, graph_of
from gradharness.diagnosis.laws import Number, number
from gradharness.model.verdict import Fault

_FEWEST = 6  # wrong elements over all samples; fewer are met by chance
_LARGEST = 4096
_MOST_PAIRED = 24
_NEUTRAL = 1e-6
_CARRIES = 1e-6  # share of the gradient that a part has to make up


def explain(evidence: Evidence) -> Explanation | None:
    """The error is a multiple of one part's contribution, the same in every case; or two parts are missing."""
    fit = [s for s in evidence.samples if s.elementwise and s.leaf is not None and s.expected.numel() <= _LARGEST]
    if len(fit) < len(evidence.samples) or sum(int(s.wrong.sum()) for s in fit) < _FEWEST:
        return None
    trial = max(fit, key=lambda s: s.expected.numel())
    graph = graph_of(evidence.setting, trial.case, evidence.label)
    if graph is None or close(trial.got, trial.expected):
        return None
    graphs = _Graphs(evidence, {id(trial): graph})
    parts = [*graph.parts()]
    for part in parts:
        if _share(graphs, trial, part) is not None:
            found = _told(evidence, graphs, part)
            if found is not None:
                return found
    return _two_missing(evidence, graphs, trial, parts) or _twice(evidence, graphs, trial, parts)


class _Graphs:
    """The graphs of the samples, made when asked for."""

    def __init__(self, evidence: Evidence, made: dict[int, Graph | None]) -> None:
        self._evidence, self._made = evidence, made

    def of(self, sample: Sample) -> Graph | None:
        if id(sample) not in self._made:
            self._made[id(sample)] = graph_of(self._evidence.setting, sample.case, sample.found.label)
        return self._made[id(sample)]


def _without(graphs: _Graphs, sample: Sample, *parts: Part) -> torch.Tensor | None:
    """The right gradient but for some parts; None where the sample's graph does not have them."""
    graph = graphs.of(sample)
    if graph is None or not sample.elementwise:
        return None
    own = {(p.node, p.kind): p for p in graph.parts()}
    keys = [(p.node, p.kind) for p in parts]
    return graph.without(*(own[key] for key in keys)) if all(key in own for key in keys) else None


def _share(graphs: _Graphs, sample: Sample, part: Part) -> float | None:
    """How many times a part is in what came, where once is right; None if the part does not explain the error."""
    rest = _without(graphs, sample, part)
    if rest is None or not bool(sample.got.isfinite().all()):
        return None
    own = torch.nan_to_num(sample.expected - rest)
    size = float(own.abs().square().sum())
    if not size > _CARRIES**2 * float(torch.nan_to_num(sample.expected).abs().square().sum()):
        return None
    c = float(((sample.got - rest) * own.conj()).sum().real) / size
    c = 0.0 if abs(c) < _NEUTRAL else c
    return c if close(sample.got, rest + c * own, sample.found.bound) else None


def _told(evidence: Evidence, graphs: _Graphs, part: Part) -> Explanation | None:
    shares = [_share(graphs, s, part) for s in evidence.samples]
    values = [v for v in shares if v is not None]
    if len(values) < len(shares):
        return None
    if any(v == 0 for v in values):
        return _missing(evidence, graphs, part) if not any(values) else None
    factor = number(evidence.samples, values)
    if factor is None or _refuted(evidence, graphs, part, factor):
        return None

    def holds(sample: Sample) -> bool:
        c = _share(graphs, sample, part)
        return c is not None and abs(c - factor.at(sample)) <= 1e-4 * abs(c)

    def retold(sample: Sample) -> str:
        if all(abs(v + 1) <= _NEUTRAL for v in values):
            return f"in the gradient of {sample.found.label}, {part.words} has the wrong sign"
        return f"in the gradient of {sample.found.label}, {part.words} is {factor.words(sample)} times the right one"

    fault = Fault.SIGN if all(abs(v + 1) <= _NEUTRAL for v in values) else Fault.CONSTANT_FACTOR
    return Explanation(fault, retold(evidence.first), holds=holds, retold=retold)


def _refuted(evidence: Evidence, graphs: _Graphs, part: Part, factor: Number) -> bool:
    """Whether gradients that are right have the part as it should be, where the factor would show."""
    for sample in evidence.right:
        rest = _without(graphs, sample, part)
        if rest is not None and not close(rest + factor.at(sample) * (sample.got - rest), sample.got):
            return True
    return False


def _missing(evidence: Evidence, graphs: _Graphs, *parts: Part) -> Explanation | None:
    def lacks(sample: Sample) -> bool:
        rest = _without(graphs, sample, *parts)
        return rest is not None and close(sample.got, rest, sample.found.bound)

    if not all(lacks(s) for s in evidence.samples) or _shows(evidence, lacks):
        return None
    words = " and ".join(p.words for p in parts)
    message = f"gradient of {evidence.label} lacks {words}; all else is right"
    return Explanation(Fault.MISSING_TERM, message, holds=lacks)


def _shows(evidence: Evidence, lacks: Callable[[Sample], bool]) -> bool:
    """Whether some gradient is right although it would be wrong without the parts."""
    return not all(lacks(s) for s in evidence.right if s.elementwise)


def _two_missing(evidence: Evidence, graphs: _Graphs, trial: Sample, parts: list[Part]) -> Explanation | None:
    carrying = [p for p in parts if _carries(graphs, trial, p)]
    if len(carrying) > _MOST_PAIRED:
        return None
    for pair in combinations(carrying, 2):
        rest = _without(graphs, trial, *pair)
        if rest is not None and close(trial.got, rest, trial.found.bound):
            found = _missing(evidence, graphs, *pair)
            if found is not None:
                return found
    return None


def _twice(evidence: Evidence, graphs: _Graphs, trial: Sample, parts: list[Part]) -> Explanation | None:
    """One of two equal parts is taken for the other, as if a matrix were symmetric."""
    for part in parts:

        def holds(sample: Sample, part: Part = part) -> bool:
            rest = _without(graphs, sample, part)
            return rest is not None and close(sample.got, 2 * rest, sample.found.bound)

        if holds(trial) and all(map(holds, evidence.samples)) and not _shows(evidence, holds):
            words = (
                f"lacks {part.words} and has all else twice: right only where both are equal, as in a symmetric matrix"
            )
            message = f"gradient of {evidence.label} {words}"
            return Explanation(Fault.WRONG_FORMULA, message, holds=holds)
    return None


def _carries(graphs: _Graphs, trial: Sample, part: Part) -> bool:
    rest = _without(graphs, trial, part)
    return rest is not None and not close(rest, trial.expected) and bool(rest.any())
