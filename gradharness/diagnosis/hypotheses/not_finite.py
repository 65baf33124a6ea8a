"""NaN or infinity where the truth is finite."""

from __future__ import annotations

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.model.verdict import Fault


def explain(evidence: Evidence) -> Explanation | None:
    """NaN or infinity where the oracle is finite."""
    if not _has_bad(evidence.first):
        return None
    return Explanation(Fault.NON_FINITE, _bad_in_words(evidence.first), holds=_has_bad, retold=_bad_in_words)


def _bad_in_words(sample: Sample) -> str:
    label, leaf, bad = sample.found.label, sample.leaf, _bad(sample)
    place = tuple(int(i) for i in bad.nonzero()[0])
    at = f", where {label} is {leaf[place].item():.4g}" if leaf is not None and not leaf.is_complex() else ""
    return (
        f"gradient of {label} is {sample.got[place].item()} in {int(bad.sum())} of {bad.numel()} elements, "
        f"first at {list(place)}{at}; the true gradient is finite"
    )


def _has_bad(sample: Sample) -> bool:
    return sample.elementwise and bool(_bad(sample).any())


def _bad(sample: Sample) -> torch.Tensor:
    return ~sample.got.isfinite() & sample.expected.isfinite()
