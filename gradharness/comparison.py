"""Measures disagreement, without an opinion on how much is too much (that is the judge's)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradharness.model.subject import Gradients, Tensors


@dataclass(frozen=True, slots=True)
class Compared:
    """One tensor of the subject's beside an oracle's.

    Attributes:
        label: How reports call it.
        got: The subject's; None if it gave none (which counts as zero).
        expected: The oracle's.
        difference: |got - expected| per element; None if the shapes differ. NaN only where ``got`` is not finite;
            zero where ``expected`` is not finite, since nothing can be said there.
    """

    label: str
    got: torch.Tensor | None
    expected: torch.Tensor
    difference: torch.Tensor | None


def compare(label: str, got: torch.Tensor | None, expected: torch.Tensor) -> Compared:
    """Puts one tensor beside its oracle's, in the wider of the two dtypes."""
    if got is None:
        return Compared(label, None, expected, _known(expected.abs(), expected))
    if got.shape != expected.shape:
        return Compared(label, got, expected, None)
    return Compared(label, got, expected, _known((got - expected).abs(), expected))


def _known(difference: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    known = expected.isfinite()
    return difference if bool(known.all()) else torch.where(known, difference, 0.0)


def compare_all(labels: Sequence[str], got: Gradients, expected: Tensors) -> tuple[Compared, ...]:
    """``compare`` for each gradient."""
    return tuple(compare(name, g, e) for name, g, e in zip(labels, got, expected, strict=True))


def inner(left: Sequence[torch.Tensor | None], right: Sequence[torch.Tensor]) -> float:
    """Real part of the inner product of two lists of tensors; None counts as zero."""
    total = 0.0
    for a, b in zip(left, right, strict=True):
        if a is not None:
            a = a.to(b.dtype) if a.dtype != b.dtype else a
            total += float(torch.vdot(a.reshape(-1), b.reshape(-1)).real)
    return total


def weighted_size(left: Sequence[torch.Tensor | None], right: Sequence[torch.Tensor]) -> float:
    """Euclidean norm of the elementwise product of two lists of tensors.

    This is the rms size of their inner product under random signs: the scale of a directional derivative.
    """
    total = 0.0
    for a, b in zip(left, right, strict=True):
        if a is not None:
            total += float((a * b).abs().square().sum())
    return total**0.5
