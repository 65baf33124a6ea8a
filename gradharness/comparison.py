"""Measures disagreement, without an opinion on how much is too much (that is the judge's)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradharness.model.subject import Gradients, Tensors

_WIDE = (torch.float64, torch.complex128)


@dataclass(frozen=True, slots=True)
class Compared:
    """One tensor of the subject's beside an oracle's.

    Attributes:
        label: How reports call it.
        got: The subject's; None if it gave none (which counts as zero).
        expected: The oracle's.
        difference: |got - expected| per element; None if the shapes differ. NaN only where ``got`` is not finite;
            zero where ``expected`` is not finite, since nothing can be said there.
        rms: Root mean square of the finite elements of ``expected``.
        finite: Whether all elements of ``expected`` are finite.
    """

    label: str
    got: torch.Tensor | None
    expected: torch.Tensor
    difference: torch.Tensor | None
    rms: float
    finite: bool


def compare(label: str, got: torch.Tensor | None, expected: torch.Tensor) -> Compared:
    """Puts one tensor beside its oracle's, in the wider of the two dtypes."""
    rms = root_mean_square(expected)
    known = None
    if not math.isfinite(rms):
        known = expected.isfinite()
        rms = _rms_of_finite(expected, known)
    difference: torch.Tensor | None = None
    if got is None:
        difference = expected.abs()
    elif got.shape == expected.shape:
        difference = (got - expected).abs()
    if difference is not None and known is not None:
        difference = torch.where(known, difference, 0.0)
    return Compared(label, got, expected, difference, rms, finite=known is None or bool(known.all()))


def root_mean_square(tensor: torch.Tensor) -> float:
    """Size of a tensor's elements; zero if there are none, not finite if one is not (or if squares overflow)."""
    count = tensor.numel()
    if not count:
        return 0.0
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return float(torch.linalg.vector_norm(tensor, dtype=wide)) / math.sqrt(count)


def _rms_of_finite(tensor: torch.Tensor, known: torch.Tensor) -> float:
    """The same for the finite elements alone, and with no overflow on the way."""
    size = torch.where(known, tensor, 0.0).abs()
    largest = float(size.max())
    return largest * root_mean_square(size / largest) if largest > 0 else 0.0


def compare_all(labels: Sequence[str], got: Gradients, expected: Tensors) -> tuple[Compared, ...]:
    """``compare`` for each gradient."""
    return tuple(compare(name, g, e) for name, g, e in zip(labels, got, expected, strict=True))


def inner(left: Sequence[torch.Tensor | None], right: Sequence[torch.Tensor]) -> float:
    """Real part of the inner product of two lists of tensors; None counts as zero."""
    return projected(left, right)[0]


def weighted_size(left: Sequence[torch.Tensor | None], right: Sequence[torch.Tensor]) -> float:
    """Euclidean norm of the elementwise product of two lists of tensors.

    This is the rms size of their inner product under random signs: the scale of a directional derivative.
    """
    return projected(left, right)[1]


def projected(left: Sequence[torch.Tensor | None], right: Sequence[torch.Tensor]) -> tuple[float, float]:
    """``inner`` and ``weighted_size`` of the same lists at the cost of one."""
    total = square = 0.0
    for a, b in zip(left, right, strict=True):
        if a is not None:
            if a.dtype not in _WIDE:  # products of float32 overflow, and add up to NaN
                a = a.to(torch.complex128 if a.is_complex() else torch.float64)
            terms = a.conj() * b if a.is_complex() else a * b
            total += float(terms.real.sum() if terms.is_complex() else terms.sum())
            size = float(torch.linalg.vector_norm(terms))
            square += size * size
    return total, math.sqrt(square)
