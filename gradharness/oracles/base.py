"""What an oracle is: an independent source of a derivative, always with an error bound."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate, SlopeEstimate
from gradharness.model.subject import Tensors


@runtime_checkable
class GradientOracle(Protocol):
    """Gives every element of the gradient."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def gradients(self, case: Case) -> GradientEstimate:
        """Gradients of ⟨cotangents, outputs⟩ at the case's primals.

        Raises:
            OracleUnavailable: If it has no answer here.
        """
        ...


@runtime_checkable
class SlopeOracle(Protocol):
    """Gives the derivative along one tangent."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def slope(self, case: Case, tangent: Tensors, cotangents: Tensors | None = None) -> SlopeEstimate:
        """⟨cotangents, J·tangent⟩ at the case's primals (cotangents: the case's own unless given).

        Raises:
            OracleUnavailable: If it has no answer here.
        """
        ...
