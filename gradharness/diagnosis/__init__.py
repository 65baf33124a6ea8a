"""From a failing observation to a sentence that names the fault.

Hypotheses are tried in order; the first that explains all samples wins, and where none does the answer is "unknown"
with the evidence: a wrong name is worse than none.
"""

from collections.abc import Callable

from gradharness.diagnosis import arrangement, cotangent, presence, region, scale, shapes
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample

__all__ = ["Evidence", "Explanation", "Sample", "diagnose"]

_HYPOTHESES: tuple[Callable[[Evidence], Explanation | None], ...] = (
    presence.named,
    presence.missing,
    presence.shape,
    presence.not_finite,
    presence.zero,
    cotangent.ignored,
    cotangent.not_linear,
    cotangent.outputs_mixed,
    arrangement.swapped,
    scale.factor,
    arrangement.transposed,
    arrangement.flipped_or_shifted,
    region.region,
    shapes.wrong_for_shape,
    region.few_elements,
)


def diagnose(evidence: Evidence) -> Explanation:
    """The first hypothesis that explains all samples, or "unknown" with the evidence."""
    for hypothesis in _HYPOTHESES:
        explanation = hypothesis(evidence)
        if explanation is not None:
            return explanation
    return region.unknown(evidence)
