"""Off by a factor that is a primal or an output, element by element, or a simple function of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.diagnosis.laws import in_words
from gradharness.diagnosis.operations import known_tensors
from gradharness.model.verdict import Fault

_FEWEST = 8  # elements over all samples
_ACCURACY = 1e-6
_VARIES = 1e-3  # what is the same everywhere is a constant
_POWERS = (1.0, -1.0, 2.0, -2.0)
_FUNCTIONS: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
    ("{}", torch.clone),
    ("(1 - {})", lambda t: 1 - t),
    ("(1 + {})", lambda t: 1 + t),
    ("(1 - {}²)", lambda t: 1 - t * t),
    ("(1 + {}²)", lambda t: 1 + t * t),
    ("exp({})", torch.exp),
    ("cos({})", torch.cos),
    ("sin({})", torch.sin),
)


def explain(evidence: Evidence) -> Explanation | None:
    """Got = c · expected · tᵖ in every sample, with one c."""
    samples = evidence.samples
    if not all(s.elementwise and not s.expected.is_complex() and s.leaf is not None for s in samples):
        return None
    if sum(s.expected.numel() for s in samples) < _FEWEST:
        return None
    for name, words, function, power in _candidates(evidence.first):
        c = _constant(evidence.first, name, function, power)
        if c is None:
            continue

        def holds(
            sample: Sample, name: str = name, f: Callable[..., torch.Tensor] = function, p: float = power, c: float = c
        ) -> bool:
            own = _constant(sample, name, f, p)
            return own is not None and abs(own - c) <= _ACCURACY * abs(c)

        if all(holds(s) for s in samples):
            fault, message = _in_words(words, power, c)
            fault = fault if name in evidence.first.case.primals.labels else Fault.MISSING_FACTOR
            return Explanation(fault, f"gradient of {evidence.label} {message}", holds=holds, everywhere=True)
    return None


def _in_words(words: str, power: float, c: float) -> tuple[Fault, str]:
    squared = " squared" if abs(power) == 2 else ""
    if power > 0:
        beside = "" if abs(c - 1) <= _ACCURACY else f", and is {in_words(c)} times what is then left"
        return Fault.EXTRA_FACTOR, f"has the factor {words}{squared} too many, or lacks it as a divisor{beside}"
    number = "" if abs(c - 1) <= _ACCURACY else f"{in_words(1 / c)}·"
    return Fault.MISSING_FACTOR, f"lacks the factor {number}{words}{squared}"


def _candidates(sample: Sample) -> Iterator[tuple[str, str, Callable[[torch.Tensor], torch.Tensor], float]]:
    for name, tensor in known_tensors(sample.case).items():
        if name.startswith("the cotangent") or _broadcast(tensor, sample) is None:
            continue
        for words, function in _FUNCTIONS:
            for power in _POWERS:
                yield name, words.format(name), function, power


def _broadcast(tensor: torch.Tensor, sample: Sample) -> torch.Tensor | None:
    """The tensor in the gradient's shape; with trailing ones where it has an element for each row."""
    if not tensor.is_floating_point() or tensor.numel() < 2:
        return None
    shape = sample.expected.shape
    for candidate in (tensor, tensor.reshape(*tensor.shape, *[1] * max(0, len(shape) - tensor.dim()))):
        try:
            return candidate.to(sample.expected.dtype).expand(shape)
        except RuntimeError:
            continue
    return None


def _constant(
    sample: Sample, name: str, function: Callable[[torch.Tensor], torch.Tensor], power: float
) -> float | None:
    """The c of got = c · expected · tᵖ; None if no c does, or if the factor is the same everywhere."""
    tensor = known_tensors(sample.case).get(name)
    factor = None if tensor is None or not sample.elementwise else _broadcast(tensor, sample)
    if factor is None:
        return None
    factor = function(factor)
    if not bool(factor.isfinite().all()) or float(factor.max() - factor.min()) <= _VARIES * float(factor.abs().max()):
        return None
    # Without a division: expected / c = got · tᵖ for what is lacking.
    whole, changed = (sample.got, torch.nan_to_num(sample.expected))[:: 1 if power > 0 else -1]
    predicted = changed * factor ** abs(power)
    size = float(predicted.square().sum())
    c = float((whole * predicted).sum()) / size if size else 0.0
    if c == 0 or not close(c * predicted, whole):
        return None
    return c if power > 0 else 1 / c
