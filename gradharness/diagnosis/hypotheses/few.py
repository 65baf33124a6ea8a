"""A few wrong elements, the same ones every time."""

from __future__ import annotations

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault

_FEW = 8


def explain(evidence: Evidence) -> Explanation | None:
    """Only a few elements are wrong, the same ones in all cases of this shape; they are named."""
    sample = evidence.first
    if not sample.elementwise:
        return None
    wrong = sample.wrong
    count = int(wrong.sum())
    if count == 0 or count > _FEW or count > 0.5 * wrong.numel():
        return None
    alike = [s for s in evidence.samples if s.elementwise and s.expected.shape == sample.expected.shape]
    elsewhere = any(bool((s.wrong & ~wrong).any()) for s in alike)
    if elsewhere:
        return None
    return Explanation(Fault.WRONG_ELEMENTS, _few_in_words(sample), holds=_has_wrong, retold=_few_in_words)


def _few_in_words(sample: Sample) -> str:
    wrong = sample.wrong
    places = [str([int(i) for i in place]) for place in wrong.nonzero()]
    listed = ", ".join(places[:_FEW]) + (" …" if len(places) > _FEW else "")
    return f"gradient of {sample.found.label} is wrong in {len(places)} of {wrong.numel()} elements: {listed}"


def _has_wrong(sample: Sample) -> bool:
    return sample.elementwise and bool(sample.wrong.any())
