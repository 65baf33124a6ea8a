"""Elementwise oracles: autograd of the reference, and autograd of the subject's own forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate
from gradharness.model.subject import Gradients, Primals, Subject, Tensors
from gradharness.numerics.rounding import Rounded, moved_by_value

# Round-off of a gradient that takes a few dozen operations, in units of eps times the tensor's rms. What it does not
# cover (cancellation, long sums) is measured by ``conditioning`` once there is a mismatch to explain.
_ROUND_OFF = 64.0
_ROUND_OFF_LOW = 4.0
_SINGLE = 1e-10
_PATTERNS = 3
_EXACT_PATTERNS = 6  # where operations alone round: among equal elements one in five moves nothing at all


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

        def outputs(primals: Primals) -> Tensors:
            return self.source.outputs(self._converted(primals))

        return roundoff(case, estimate.gradients, (there, outputs), torch.finfo(self.dtype).eps)

    def _converted(self, primals: Primals) -> Primals:
        if all(x.dtype in (self.dtype, self.dtype.to_complex()) for x in primals.leaves):
            return primals
        return primals.to(dtype=self.dtype)


Elsewhere: TypeAlias = tuple[Callable[[Primals, Tensors], Gradients | None], Callable[[Primals], Tensors]]


def roundoff(case: Case, here: Tensors, elsewhere: Elsewhere, eps: float, *, exact: bool = False) -> Tensors:
    """How far round-off can move each element of some gradients.

    The largest change when primals, cotangents and every operation's result move by an ulp or two, and never less than
    the round-off of terms that cancel inside of an operation, which no such move reaches. The gradient is linear in the
    cotangent, so that its terms are as large as those of the gradient for another cotangent of the same size. Where the
    Jacobian itself cancels (a saturated softmax), they are as large as cotangent times output over primal, where the
    output counts as far as it is this primal's: by how much it changes when the primal's elements change places.

    Args:
        case: The point.
        here: The gradients at the point.
        elsewhere: Gives the gradients at another point, None where it cannot; and the outputs there.
        eps: Spacing of the numbers at one.
        exact: Leaves primals and cotangents where they are, and lets the operations alone round otherwise: a gradient
            that is wrong at one value only would seem to be moved by round-off.
    """
    there, outputs = elsewhere
    spread = [torch.zeros_like(g.abs()) for g in here]
    for pattern in range(_EXACT_PATTERNS if exact else _PATTERNS):
        moved, weights = case.primals, case.cotangents
        if not exact:
            moved = moved.at([moved_by_value(x, pattern) for x in moved.leaves])
            weights = tuple(moved_by_value(w, pattern) for w in weights)
        with Rounded(pattern):
            found = there(moved, weights)
        for total, g, h in zip(spread, here, found or (), strict=False):
            if h is not None and h.shape == g.shape:
                torch.maximum(total, torch.nan_to_num((g - h).abs(), nan=0.0).to(total.dtype), out=total)
    floors = _floors(case, there, outputs)
    tiny = max((torch.finfo(w.dtype).tiny for w in case.cotangents), default=0.0)  # what underflows is lost
    return tuple(s + (_round_off(eps) * floor + tiny) for s, floor in zip(spread, floors, strict=True))


def _round_off(eps: float) -> float:
    """Round-off of a few dozen operations relative to their terms; in low precision only that of the last few."""
    return (_ROUND_OFF if eps < _SINGLE else _ROUND_OFF_LOW) * eps


def _floors(
    case: Case, there: Callable[[Primals, Tensors], Gradients | None], outputs: Callable[[Primals], Tensors]
) -> list[float]:
    """Size of the terms of each gradient, whether they cancel or not."""
    weights = [_rms(w) for w in case.cotangents]
    general = tuple(v * (w / (_rms(v) or 1.0)) for v, w in zip(case.other_cotangents, weights, strict=True))
    found = there(case.primals, general) or (None,) * len(case.primals.leaves)
    sizes = [0.0 if g is None else _rms(g) for g in found]
    natural = [_natural(case, weights, outputs, number) for number in range(len(sizes))]
    spreads = [_spread(x) or 1.0 for x in case.primals.leaves]
    return [size + n / s for size, n, s in zip(sizes, natural, spreads, strict=True)]


def _natural(case: Case, weights: list[float], outputs: Callable[[Primals], Tensors], number: int) -> float:
    """Size of cotangent times output, of that part of the output which is one leaf's making."""
    whole = sum(w * _spread(case.outputs[i]) for w, i in zip(weights, case.differentiable, strict=True))
    leaves = list(case.primals.leaves)
    x = leaves[number]
    if len(leaves) == 1 or _spread(x) == 0:
        return whole
    leaves[number] = x.reshape(-1).roll(1).reshape(x.shape) if x.numel() > 1 else -x
    try:
        moved = outputs(case.primals.at(leaves))
    except SubjectError:
        return whole
    part = 0.0
    for w, i in zip(weights, case.differentiable, strict=True):
        if i >= len(moved) or moved[i].shape != case.outputs[i].shape or not bool(moved[i].isfinite().all()):
            return whole
        part += w * _rms(moved[i] - case.outputs[i])
    return min(whole, part)


def _rms(tensor: torch.Tensor) -> float:
    """Of the finite elements: beside an infinite slope the others keep their bound."""
    if not tensor.numel():
        return 0.0
    whole = float(torch.linalg.vector_norm(tensor)) / math.sqrt(tensor.numel())
    if math.isfinite(whole):
        return whole
    size = tensor.abs()[tensor.isfinite()]
    return float(size.square().mean().sqrt()) if size.numel() else 0.0


def _spread(tensor: torch.Tensor) -> float:
    """Standard deviation of the elements; the size of a single one."""
    if tensor.numel() < 2:
        return _rms(tensor)
    return _rms(tensor - tensor.mean())
