"""Fault: the gradient is a constant times the right one, and what that constant equals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial

import torch

from gradharness.diagnosis.evidence import Evidence, Explanation, Sample, close
from gradharness.model.verdict import Fault

_RATIO_ACCURACY = 1e-6
_LARGEST_DENOMINATOR = 12
_SAME_PLACES = 3  # samples of one shape that have to show the same factors
_TELLING = 1e-2  # share of the largest element from which on an element tells its factor
_FACTOR_ACCURACY = 1e-4
_SHOWN = 4


def factor(evidence: Evidence) -> Explanation | None:
    """Got = c·expected in every sample, with one c or with c a function of the shapes."""
    ratios = [_ratio(s) for s in evidence.samples]
    if any(r is None for r in ratios) or not any(_telling(s) for s in evidence.samples):
        return None
    values = [r for r in ratios if r is not None]
    sizes = _shape_factor(evidence, values)
    if sizes is not None:
        words, function = sizes

        def retold(s: Sample) -> str:
            return f"gradient of {s.found.label} is {words.format(function(s))} times the right one"

        return Explanation(
            Fault.CONSTANT_FACTOR,
            retold(evidence.first),
            holds=lambda s: _is_multiple(s, _predicted(function, s)),
            everywhere=True,
            retold=retold,
        )
    c = values[0]
    if any(abs(v - c) > _RATIO_ACCURACY * abs(c) for v in values):
        return None
    if abs(c + 1) <= _RATIO_ACCURACY:
        message = f"gradient of {evidence.label} has the wrong sign: it is -1 times the right one"
        return Explanation(Fault.SIGN, message, holds=lambda s: _is_multiple(s, -1.0), everywhere=True)
    message = f"gradient of {evidence.label} is {_in_words(c)} times the right one"
    return Explanation(Fault.CONSTANT_FACTOR, message, holds=lambda s: _is_multiple(s, c), everywhere=True)


def _ratio(sample: Sample) -> float | None:
    """Least-squares c, if c·expected is exactly what came."""
    if not sample.elementwise or not bool(sample.got.isfinite().all()):
        return None
    expected = torch.nan_to_num(sample.expected)
    size = float(expected.abs().square().sum())
    if size == 0.0:
        return None
    c = float((sample.got.to(expected.dtype) * expected.conj()).sum().real) / size
    return c if _is_multiple(sample, c) and c != 0.0 else None


def _is_multiple(sample: Sample, c: float) -> bool:
    return sample.elementwise and close(sample.got, c * sample.expected)


def _telling(sample: Sample) -> bool:
    """One element is a multiple of anything: there have to be two of different size."""
    sizes = sample.expected.abs().reshape(-1)
    return bool((sizes > 0).sum() >= 2) and float(sizes.max()) > 1.01 * float(sizes[sizes > 0].min())


def _shape_factor(evidence: Evidence, values: list[float]) -> tuple[str, Callable[[Sample], float]] | None:
    """A size, its inverse or a root of them that equals c in all samples, and differs between some."""
    if max(values) - min(values) <= _RATIO_ACCURACY * abs(values[0]):
        return None
    for words, function in _candidates(evidence.first):
        predicted = [_predicted(function, s) for s in evidence.samples]
        if all(abs(p - v) <= 1e-5 * abs(v) for p, v in zip(predicted, values, strict=True)):
            return words, function
    return None


def _predicted(function: Callable[[Sample], float], sample: Sample) -> float:
    """NaN where the size does not exist, or is too small for the formula."""
    try:
        return function(sample)
    except (IndexError, ZeroDivisionError, ValueError):
        return math.nan


def _candidates(sample: Sample) -> Iterator[tuple[str, Callable[[Sample], float]]]:
    laws: tuple[tuple[str, Callable[[int], float]], ...] = (
        ("1/{} ({{:.4g}} here)", lambda n: 1.0 / n),
        ("{} ({{:.4g}} here)", float),
        ("1/sqrt of {} ({{:.4g}} here)", lambda n: 1.0 / math.sqrt(n)),
        ("sqrt of {} ({{:.4g}} here)", math.sqrt),
        ("n/(n-1), n being {} ({{:.4g}} here),", lambda n: n / (n - 1)),
        ("(n-1)/n, n being {} ({{:.4g}} here),", lambda n: (n - 1) / n),
    )
    for what, size in _sizes(sample):
        for words, law in laws:
            yield words.format(what), _composed(law, size)


def _composed(law: Callable[[int], float], size: Callable[[Sample], int]) -> Callable[[Sample], float]:
    return lambda s: law(size(s))


def _sizes(sample: Sample) -> Iterator[tuple[str, Callable[[Sample], int]]]:
    primals = sample.case.primals
    for number, label in enumerate(primals.labels):
        for axis in range(primals.leaves[number].dim()):
            what = "the batch size" if axis == 0 and number == 0 else f"the size of {label} in dimension {axis}"
            yield what, partial(_size, number=number, axis=axis)
    for number, label in enumerate(primals.labels):
        yield f"the number of elements of {label}", partial(_elements, number=number)
    for number in sample.case.differentiable:
        name = sample.case.output_labels[number]
        yield f"the number of elements of {name}", partial(_output_elements, number=number)


def _size(sample: Sample, number: int, axis: int) -> int:
    return sample.case.primals.leaves[number].shape[axis]


def _elements(sample: Sample, number: int) -> int:
    return sample.case.primals.leaves[number].numel()


def _output_elements(sample: Sample, number: int) -> int:
    return sample.case.outputs[number].numel()


def factor_of_place(evidence: Evidence) -> Explanation | None:
    """Every element is off by a factor of its own, which is the same for all values."""
    same = [s for s in evidence.samples if s.elementwise and s.expected.shape == evidence.first.expected.shape]
    if len(same) < _SAME_PLACES or not all(s.elementwise for s in evidence.samples):
        return None
    factors = _factors(same[0])
    if factors is None or any(not _off_by(s, factors) for s in same):
        return None
    shown: dict[str, str] = {}
    for place, c in zip(factors.isfinite().nonzero().tolist(), factors[factors.isfinite()].tolist(), strict=True):
        shown.setdefault(f"{c:.4g}", f"{c:.4g} at {place}")
    if len(shown) < 2:
        return None
    listed = ", ".join([*shown.values()][:_SHOWN]) + (" …" if len(shown) > _SHOWN else "")
    message = f"gradient of {evidence.label} is off by a factor that depends on the position alone: {listed}"
    return Explanation(Fault.WRONG_ELEMENTS, message)


def _factors(sample: Sample) -> torch.Tensor | None:
    """Got / expected where that says something; NaN elsewhere."""
    expected, got = sample.expected, sample.got
    if expected.is_complex() or not bool(got.isfinite().all()):
        return None
    telling = expected.abs() > _TELLING * float(torch.nan_to_num(expected).abs().max())
    return torch.where(telling & expected.isfinite(), got.to(expected.dtype) / expected, torch.nan)


def _off_by(sample: Sample, factors: torch.Tensor) -> bool:
    own = _factors(sample)
    if own is None:
        return False
    both = own.isfinite() & factors.isfinite()
    return bool(both.any()) and bool(((own - factors).abs()[both] <= _FACTOR_ACCURACY).all())


def _in_words(c: float) -> str:
    fraction = Fraction(c).limit_denominator(_LARGEST_DENOMINATOR)
    if fraction.numerator and abs(float(fraction) - c) <= _RATIO_ACCURACY * abs(c):
        return str(fraction)
    for name, value in (("π", math.pi), ("1/π", 1 / math.pi), ("sqrt 2", math.sqrt(2)), ("1/sqrt 2", math.sqrt(0.5))):
        if abs(abs(c) - value) <= _RATIO_ACCURACY * value:
            return name if c > 0 else f"-{name}"
    return f"{c:.7g}"
