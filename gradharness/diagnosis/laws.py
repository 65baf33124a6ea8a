"""What a number equals: a plain constant, a size, the value of a scalar argument, or a simple law of one of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch

from gradharness.diagnosis.evidence import Sample

_ACCURACY = 1e-6
_LAW_ACCURACY = 1e-5
_LARGEST_DENOMINATOR = 12
_CONSTANTS = (
    ("π", math.pi),
    ("1/π", 1 / math.pi),
    ("sqrt 2", math.sqrt(2)),
    ("1/sqrt 2", math.sqrt(0.5)),
    ("sqrt π", math.sqrt(math.pi)),
    ("1/sqrt π", 1 / math.sqrt(math.pi)),
    ("sqrt(2/π)", math.sqrt(2 / math.pi)),
    ("sqrt(π/2)", math.sqrt(math.pi / 2)),
    ("ln 2", math.log(2)),
    ("1/ln 2", 1 / math.log(2)),
    ("ln 10", math.log(10)),
    ("1/ln 10", 1 / math.log(10)),
)

Function = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Number:
    """A number that several samples show.

    Attributes:
        at: Its value for a sample; NaN where it has none.
        words: What it equals, for a sample.
    """

    at: Function
    words: Callable[[Sample], str]


def number(samples: Sequence[Sample], values: Sequence[float]) -> Number | None:
    """What equals these values, one for each sample; None if they follow no simple law."""
    if max(values) - min(values) <= _ACCURACY * abs(values[0]):
        c = values[0]
        return Number(lambda _s: c, lambda _s: in_words(c))
    for words, function in _laws(samples[0]):
        at = partial(_value, function)
        if all(abs(at(s) - v) <= _LAW_ACCURACY * abs(v) for s, v in zip(samples, values, strict=True)):
            return Number(at, partial(_at_sample, words, at))
    return None


def also_equals(samples: Sequence[Sample], c: float) -> str:
    """A size or an argument that equals a constant in all samples, in words; empty if there is none."""
    for words, function in _laws(samples[0]):
        if all(abs(_value(function, s) - c) <= _ACCURACY * abs(c) for s in samples):
            return words
    return ""


def in_words(c: float) -> str:
    """A constant by the name that it has."""
    fraction = Fraction(c).limit_denominator(_LARGEST_DENOMINATOR)
    if fraction.numerator and abs(float(fraction) - c) <= _ACCURACY * abs(c):
        return str(fraction)
    for name, value in _CONSTANTS:
        if abs(abs(c) - value) <= _ACCURACY * value:
            return name if c > 0 else f"-{name}"
    return f"{c:.7g}"


def _at_sample(words: str, at: Function, sample: Sample) -> str:
    comma = "," if "being" in words else ""
    return f"{words} ({at(sample):.4g} here){comma}"


def _value(function: Function, sample: Sample) -> float:
    """NaN where the quantity does not exist, or is too small for the law."""
    try:
        return function(sample)
    except (IndexError, ZeroDivisionError, ValueError, OverflowError):
        return math.nan


def _laws(sample: Sample) -> Iterator[tuple[str, Function]]:
    laws: tuple[tuple[str, Callable[[float], float]], ...] = (
        ("1/{}", lambda n: 1.0 / n),
        ("{}", float),
        ("1/sqrt of {}", lambda n: 1.0 / math.sqrt(n)),
        ("sqrt of {}", math.sqrt),
        ("n/(n-1), n being {}", lambda n: n / (n - 1)),
        ("(n-1)/n, n being {}", lambda n: (n - 1) / n),
    )
    for what, size in sizes(sample):
        for words, law in laws:
            yield words.format(what), _composed(law, size)
    further: tuple[tuple[str, Callable[[float], float]], ...] = (
        *laws[:4],
        ("the square of {}", lambda v: v * v),
        ("1/the square of {}", lambda v: 1.0 / (v * v)),
        ("minus {}", lambda v: -v),
        ("-1/{}", lambda v: -1.0 / v),
        ("1 - {}", lambda v: 1.0 - v),
        ("1/(1 - {})", lambda v: 1.0 / (1.0 - v)),
        ("1 + {}", lambda v: 1.0 + v),
    )
    for what, scalar in scalars(sample):
        for words, law in further:
            yield words.format(what), _composed(law, scalar)


def _composed(law: Callable[[float], float], quantity: Function) -> Function:
    return lambda s: law(quantity(s))


def sizes(sample: Sample) -> Iterator[tuple[str, Function]]:
    """Sizes of dimensions, numbers of elements, and numbers of elements for each place of a dimension."""
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
    for number, label in enumerate(primals.labels):
        for axis in range(primals.leaves[number].dim()) if primals.leaves[number].dim() > 2 else ():
            what = f"the number of elements of {label} at one place of dimension {axis}"
            yield what, partial(_elements_at, number=number, axis=axis)


def _size(sample: Sample, number: int, axis: int) -> float:
    return float(sample.case.primals.leaves[number].shape[axis])


def _elements(sample: Sample, number: int) -> float:
    return float(sample.case.primals.leaves[number].numel())


def _elements_at(sample: Sample, number: int, axis: int) -> float:
    return _elements(sample, number) / _size(sample, number, axis)


def _output_elements(sample: Sample, number: int) -> float:
    return float(sample.case.outputs[number].numel())


def scalars(sample: Sample) -> Iterator[tuple[str, Function]]:
    """Arguments that are one number."""
    for number, (name, value) in enumerate(zip(sample.case.primals.names, sample.case.primals.values, strict=True)):
        if _scalar(value) is not None:
            yield f"the value of {name}", partial(_argument, number=number)


def _argument(sample: Sample, number: int) -> float:
    value = _scalar(sample.case.primals.values[number])
    return math.nan if value is None else value


def _scalar(value: object) -> float | None:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.dim() or value.is_complex() or value.dtype is torch.bool:
            return None
        return float(value.detach())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None
