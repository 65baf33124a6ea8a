"""One drawn case: where a subject is examined, and along what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from gradharness.model.subject import Primals, Tensors


class Further(Protocol):
    """More points of the same recipe, made when asked for."""

    def at(self, number: int, keep: Sequence[str] = (), *, sizes: int = 0) -> Primals:
        """The point of a number; 0 is the case's own.

        Args:
            number: Which.
            keep: Names of arguments whose sizes stay.
            sizes: Which sizes the dims have that none of these has; 0 for the case's own.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a check needs to look once. Pure data: the same case gives the same observation.

    Attributes:
        primals: The point.
        outputs: The subject's outputs there, detached; all of them.
        output_labels: How each output is called in reports.
        differentiable: Numbers of the outputs that take a cotangent.
        cotangents: One per differentiable output.
        other_cotangents: A second, independent draw of them (for linearity).
        directions: Tangents, one tuple (a tensor per leaf) each; realised lazily, at least 8 of them.
        recipe: Plain JSON data from which ``inputs`` makes this case again.
        further: More points, for what takes several steps; None if there are none.
    """

    primals: Primals
    outputs: Tensors
    output_labels: tuple[str, ...]
    differentiable: tuple[int, ...]
    cotangents: Tensors
    other_cotangents: Tensors
    directions: Sequence[Tensors]
    recipe: dict[str, object]
    further: Further | None = None

    @property
    def empty(self) -> bool:
        """True if there is no element to be wrong: every leaf, or every cotangent, has size zero."""
        return all(t.numel() == 0 for t in self.primals.leaves) or all(t.numel() == 0 for t in self.cotangents)

    @property
    def elements(self) -> int:
        """How many numbers are differentiated."""
        return sum(t.numel() for t in self.primals.leaves)

    def with_cotangents(self, cotangents: Sequence[torch.Tensor]) -> Case:
        """The case with other cotangents."""
        return replace(self, cotangents=tuple(cotangents))
