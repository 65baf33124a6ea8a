"""What torch.autograd and torch.optim make of each step, started every time from where the subject stands.

Because every step starts from the subject's own parameters, no step inherits the error of those before it: the
round-off of a thousand steps is that of one, and the first step that departs is the first that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gradharness.errors import OracleUnavailable
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.training import Moment, Twin
from gradharness.numerics.rounding import Rounded, moved_by_value

_ROUND_OFF = 64.0  # of a gradient of a few dozen operations, in units of eps times its rms, as for ``Autograd``
_PATTERNS = 3


@dataclass(frozen=True, slots=True)
class Tutor:
    """Gradients by autograd along a subject's course.

    Attributes:
        twin: What is differentiated.
        weights: Cotangents of its outputs; empty for ones, which a loss takes.
    """

    twin: Twin
    weights: Tensors = ()
    _joined: dict[int, tuple[tuple[Primals, ...], Primals]] = field(default_factory=dict)

    def gradients(self, moments: Sequence[Moment]) -> list[Tensors]:
        """The gradient at the start of every step.

        Raises:
            OracleUnavailable: If autograd does not reach the parameters.
        """
        return [self.at(moment, moment.before) for moment in moments]

    def at(self, moment: Moment, values: Tensors, later: Tensors | None = None) -> Tensors:
        """The gradient of one step's batch at any values of the parameters.

        Args:
            moment: The step.
            values: Of the parameters in the forward.
            later: Of the same in the backward, where they are others: they are changed in between, unnoticed.

        Raises:
            OracleUnavailable: If autograd does not reach the parameters.
        """
        parameters = self.twin.parameters
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value.clone()
        outputs = self.twin.objective(self._batch(moment))
        if not outputs:
            raise OracleUnavailable("autograd does not reach the parameters: the forward detaches them")
        for parameter, value in zip(parameters, later or (), strict=False):
            parameter.data.copy_(value)
        weights = self.weights or [torch.ones_like(y) for y in outputs]
        found: Gradients = torch.autograd.grad(outputs, parameters, weights, allow_unused=True)
        return tuple(torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True))

    def bounds(self, moment: Moment, gradients: Tensors, *, measured: bool) -> Tensors:
        """How far round-off can move the gradient of one step.

        Args:
            moment: The step.
            gradients: Its gradients.
            measured: Whether to see how far they move when all numbers and results move by an ulp.
        """
        eps = torch.finfo(gradients[0].dtype).eps
        spread = [torch.full_like(g, _ROUND_OFF * eps * _rms(g)) for g in gradients]
        for pattern in range(_PATTERNS if measured else 0):
            with Rounded(pattern):
                moved = self.at(moment, tuple(moved_by_value(p, pattern) for p in moment.before))
            for total, g, h in zip(spread, gradients, moved, strict=True):
                torch.maximum(total, (g - h).abs().nan_to_num(nan=0.0), out=total)
        return tuple(spread)

    def _batch(self, moment: Moment) -> Primals:
        """The step's batch; several are joined to a large one."""
        if len(moment.points) == 1:
            return moment.points[0]
        known = self._joined.get(id(moment))
        if known is None:
            known = self._joined[id(moment)] = (moment.points, _joined(moment.points, len(self.twin.parameters)))
        return known[1]


def _joined(points: tuple[Primals, ...], states: int) -> Primals:
    values: list[object] = list(points[0].values)
    for number in range(len(values) - states):
        parts = [point.values[number] for point in points]
        if all(isinstance(part, torch.Tensor) and part.dim() for part in parts):
            values[number] = torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
    return Primals(points[0].names, tuple(values), points[0].active)


def _rms(tensor: torch.Tensor) -> float:
    return float(tensor.square().mean().sqrt()) if tensor.numel() else 0.0


def updated(
    moments: Sequence[Moment],
    gradients: Sequence[Tensors],
    make: Callable[[Tensors], torch.optim.Optimizer],
    *,
    factor: float = 1.0,
) -> list[Tensors]:
    """The parameters after every step, by an optimiser of torch that is given these gradients.

    Args:
        moments: The subject's steps; each starts from where the subject stood.
        gradients: One tuple for each step.
        make: Makes the optimiser.
        factor: Of its learning rates.
    """
    parameters = tuple(torch.nn.Parameter(x.clone()) for x in moments[0].before)
    optimizer = make(parameters)
    if factor != 1.0:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
    after = []
    for moment, given in zip(moments, gradients, strict=True):
        for parameter, value, gradient in zip(parameters, moment.before, given, strict=True):
            parameter.data = value.clone()
            parameter.grad = gradient
        optimizer.step()
        after.append(tuple(p.data for p in parameters))
    return after


def groups_of(
    values: Tensors, make: Callable[[Tensors], torch.optim.Optimizer]
) -> tuple[object, list[dict[str, object]]]:
    """The optimiser, and the options of each parameter."""
    parameters = tuple(torch.nn.Parameter(x.clone()) for x in values)
    optimizer = make(parameters)
    of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return optimizer, [of.get(id(p), {}) for p in parameters]
