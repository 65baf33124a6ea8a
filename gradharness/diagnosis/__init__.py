"""From a failing observation to a sentence that names the fault.

Hypotheses are tried in order; the first that explains all samples wins, and where none does the answer is "unknown"
with the evidence: a wrong name is worse than none.
"""

from collections.abc import Callable

from gradharness.diagnosis import arrangement, cotangent, presence, region, scale, shapes
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, right_samples

__all__ = ["Evidence", "Explanation", "Sample", "diagnose", "right_samples"]

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
    arrangement.conjugated,
    shapes.wrong_for_argument,
    region.region,
    region.few_elements,
    shapes.wrong_for_shape,
    scale.factor_of_place,
)


def diagnose(evidence: Evidence) -> Explanation:
    """The first hypothesis that explains all samples, or "unknown" with the evidence."""
    for hypothesis in _HYPOTHESES:
        explanation = hypothesis(evidence)
        if explanation is not None and not _refuted(explanation, evidence):
            return explanation
    return region.unknown(evidence)


def _refuted(explanation: Explanation, evidence: Evidence) -> bool:
    """Whether it says that gradients are wrong which are right."""
    return explanation.everywhere and not all(explanation.holds(s) for s in evidence.right if s.elementwise)
