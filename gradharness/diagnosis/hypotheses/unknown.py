"""No hypothesis explains it: the evidence instead of a guess."""

from __future__ import annotations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation:
    """No hypothesis explains it: the evidence instead of a guess."""
    return Explanation(Fault.UNKNOWN, _at_a_loss(evidence.first))


def _at_a_loss(sample: Sample) -> str:
    label = sample.found.label
    if not sample.elementwise:
        return sample.found.detail or f"{label} disagrees with {sample.found.oracle}"
    wrong = sample.wrong
    count = f"{int(wrong.sum())} of {wrong.numel()} elements"
    message = f"gradient of {label} is wrong in {count}{_where(wrong)}, in no pattern that was recognised"
    if wrong.numel() < 2:
        return message
    got, expected = sample.got.reshape(-1), torch.nan_to_num(sample.expected).reshape(-1).to(sample.got.dtype)
    size = float(expected.abs().square().sum())
    c = float((got * expected.conj()).sum().real) / size if size else 0.0
    residual = float((got - c * expected).abs().square().sum() ** 0.5) / (float(got.abs().square().sum() ** 0.5) or 1.0)
    return f"{message}; the closest multiple of the right one is {c:.3g}, which leaves {residual:.0%} unexplained"


def _where(wrong: torch.Tensor) -> str:
    """The smallest box around the wrong elements, where it is smaller than the whole."""
    if not wrong.dim() or bool(wrong.all()) or not bool(wrong.any()):
        return ""
    places = wrong.nonzero()
    low, high = places.min(0).values.tolist(), places.max(0).values.tolist()
    if all(a == 0 and b == n - 1 for a, b, n in zip(low, high, wrong.shape, strict=True)):
        return f" from {places[0].tolist()} to {places[-1].tolist()}"
    box = ", ".join(f"{a}" if a == b else f"{a}:{b + 1}" for a, b in zip(low, high, strict=True))
    return f", all within [{box}]"
