"""Elementwise oracles: autograd of the reference, and autograd of the subject's own forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate
from gradharness.model.subject import Gradients, Primals, Subject, Tensors

# Round-off of a gradient that takes a few dozen operations, in units of eps times the tensor's rms. What it does not
# cover (cancellation, long sums) is measured by ``conditioning`` once there is a mismatch to explain.
_ROUND_OFF = 64.0


@dataclass(frozen=True, slots=True)
class Autograd:
    """torch.autograd of some subject, in float64 wherever its device has it.

    Attributes:
        name: How reports call this oracle.
        source: What is differentiated.
        dtype: In which it runs; the case's values are exactly representable in it.
    """

    name: str
    source: Subject
    dtype: torch.dtype = torch.float64

    def gradients(self, case: Case) -> GradientEstimate:
        """Gradients of ⟨cotangents, outputs⟩, element by element, with a round-off bound per tensor.

        Raises:
            OracleUnavailable: If the source raises here, or its outputs do not match the subject's.
        """
        gradients = self.at(case, case.primals)
        eps = torch.finfo(self.dtype).eps
        bounds = tuple(_ROUND_OFF * eps * _rms(g) for g in gradients)
        return GradientEstimate(oracle=self.name, gradients=gradients, bounds=bounds)

    def at(self, case: Case, primals: Primals, cotangents: Tensors | None = None) -> Tensors:
        """Gradients at other primals of the same shapes, for the case's cotangents unless others are given.

        Raises:
            OracleUnavailable: As ``gradients``.
        """
        primals = self._converted(primals)
        try:
            linearization = self.source.linearize(primals)
        except SubjectError as error:
            raise OracleUnavailable(f"{self.name}: {error}") from error
        outputs = linearization.outputs
        wanted = [case.outputs[i] for i in case.differentiable]
        if len(outputs) != len(case.outputs) or any(
            outputs[i].shape != w.shape for i, w in zip(case.differentiable, wanted, strict=True)
        ):
            raise OracleUnavailable(f"{self.name} has other outputs than the subject")
        weights = dict(zip(case.differentiable, cotangents or case.cotangents, strict=True))
        chosen = [i for i in linearization.differentiable if i in weights]
        if not chosen:
            raise OracleUnavailable(f"{self.name}: no output is connected to the inputs")
        if len(chosen) != len(linearization.differentiable):
            raise OracleUnavailable(f"{self.name} differentiates other outputs than the subject")
        try:
            found = linearization.pullback([weights[i].to(outputs[i].dtype) for i in chosen])
        except SubjectError as error:
            raise OracleUnavailable(f"{self.name}: {error}") from error
        return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, primals.leaves, strict=True))

    def conditioning(self, case: Case, estimate: GradientEstimate) -> Tensors:
        """How far the gradient moves, per element, when primals and cotangents move by an ulp or two.

        This is the error that no formula in this precision can be blamed for.
        """

        def there(primals: Primals, cotangents: Tensors) -> Tensors | None:
            try:
                return self.at(case, primals, cotangents)
            except OracleUnavailable:
                return None

        return ulp_spread(case, estimate.gradients, there)

    def _converted(self, primals: Primals) -> Primals:
        if all(x.dtype in (self.dtype, self.dtype.to_complex()) for x in primals.leaves):
            return primals
        return primals.to(dtype=self.dtype)


def ulp_spread(
    case: Case, here: Tensors, there: Callable[[Primals, Tensors], Gradients | None], patterns: int = 3
) -> Tensors:
    """Largest change of each element of some gradients when primals and cotangents move by an ulp or two.

    Args:
        case: The point.
        here: The gradients at the point.
        there: Gives the gradients elsewhere; None where it cannot.
        patterns: How many ways of moving are tried.
    """
    spread = [torch.zeros_like(g.abs()) for g in here]
    for pattern in range(patterns):
        moved = case.primals.at([nudged_by_ulps(x, pattern) for x in case.primals.leaves])
        found = there(moved, tuple(nudged_by_ulps(w, pattern) for w in case.cotangents))
        for total, g, h in zip(spread, here, found or (), strict=False):
            if h is not None and h.shape == g.shape:
                torch.maximum(total, torch.nan_to_num((g - h).abs(), nan=0.0).to(total.dtype), out=total)
    return tuple(spread)


def nudged_by_ulps(tensor: torch.Tensor, pattern: int) -> torch.Tensor:
    """The tensor with every element moved by one or two units in the last place, never by none.

    Args:
        tensor: Any floating or complex tensor.
        pattern: Which elements go up and which down: a different fixed pattern for each number.
    """
    if tensor.is_complex():
        return torch.view_as_complex(nudged_by_ulps(torch.view_as_real(tensor.resolve_conj()), pattern))
    number = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape)
    # Fibonacci hashing: neighbours and rows get unlike signs; a fixed pattern keeps the check a pure function.
    bits = ((number + 1) * (2654435761 + 2 * pattern) >> 7) & 3
    steps = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=tensor.dtype, device=tensor.device)[bits]
    return tensor + tensor * steps * torch.finfo(tensor.dtype).eps


def _rms(tensor: torch.Tensor) -> float:
    return float(tensor.abs().square().mean().sqrt()) if tensor.numel() else 0.0
