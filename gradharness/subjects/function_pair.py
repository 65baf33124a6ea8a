"""Two functions, a forward and its vector-Jacobian product, without any class around them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gradharness.errors import UsageError
from gradharness.model.subject import (
    Gradients,
    Linearization,
    Primals,
    RawInput,
    RawReturn,
    Subject,
    TensorMeta,
    Tensors,
)
from gradharness.numerics import tree
from gradharness.subjects.calls import call_backward, call_forward, tensor_outputs
from gradharness.subjects.function import FunctionSubject

# Parameter names by which a vjp says that it wants tuples.
_PACKED = (("primals", "cotangents"), ("primals", "outputs", "cotangents"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSubject:
    """``forward(*primals)`` and ``vjp(*primals, *cotangents)``. See ``pair``."""

    name: str
    forward: Callable[..., object]
    vjp: Callable[..., object]

    @property
    def fixed_cotangent(self) -> bool:
        """Any cotangent may be asked for."""
        return False

    def outputs(self, primals: Primals) -> Tensors:
        """Every tensor output, without grad."""
        with torch.no_grad():
            value = call_forward(self.forward, primals.values)
        return tensor_outputs(value, self.name)[0]

    def linearize(self, primals: Primals) -> Linearization:
        """Outputs of forward; the pullback calls the vjp."""
        detached = primals.at([leaf.detach() for leaf in primals.leaves])
        value = call_forward(self.forward, detached.values)
        outputs, labels = tensor_outputs(value, self.name)
        outputs = tuple(t.detach() for t in outputs)
        differentiable = tuple(i for i, t in enumerate(outputs) if t.is_floating_point() or t.is_complex())

        def pullback(cotangents: Sequence[torch.Tensor]) -> Gradients:
            returned = self._returned(detached, outputs, cotangents)
            found = (_at(returned, detached, path) for path in primals.active)
            return tuple(g.detach() if isinstance(g, torch.Tensor) else None for g in found)

        return Linearization(outputs, labels, differentiable, pullback)

    def traced(self, primals: Primals, leaves: Tensors) -> None:
        """Autograd has no part in this."""

    def session(self, primals: Primals) -> None:
        """There is no object."""

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """What the vjp returns."""
        outputs = self.outputs(primals)
        returned = self._returned(primals, outputs, cotangents)
        active = dict(zip(primals.active, map(TensorMeta.of, primals.leaves), strict=True))
        inputs = tuple(
            RawInput(label=name, needed=(i,) in active, like=active.get((i,))) for i, name in enumerate(primals.names)
        )
        return (RawReturn(place=f"{self.name}: vjp", inputs=inputs, returned=returned, coerced=False),)

    def own_forward(self) -> Subject | None:
        """Autograd through the forward."""
        return FunctionSubject(f"{self.name} (own forward)", self.forward)

    def _returned(self, primals: Primals, outputs: Tensors, cotangents: Sequence[torch.Tensor]) -> tuple[object, ...]:
        names = tuple(inspect.signature(self.vjp).parameters)
        if names == _PACKED[0]:
            arguments: tuple[object, ...] = (primals.values, tuple(cotangents))
        elif names == _PACKED[1]:
            arguments = (primals.values, outputs, tuple(cotangents))
        else:
            arguments = (*primals.values, *cotangents)
        returned = call_backward(self.vjp, arguments)
        return tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)


def _at(returned: Sequence[object], primals: Primals, path: tree.Path) -> object:
    """The gradient for one leaf: one entry per argument, or one per differentiated leaf if the count says so."""
    number = int(path[0])
    if len(returned) != len(primals.names) and len(returned) == len(primals.active):
        return returned[primals.active.index(path)]
    value = returned[number] if number < len(returned) else None
    return value if value is None else tree.get(value, path[1:])


def pair(forward: Callable[..., object], vjp: Callable[..., object]) -> PairSubject:
    """A forward function and its hand-written vector-Jacobian product, as a subject.

    Args:
        forward: ``(*primals) -> outputs``.
        vjp: ``(*primals, *cotangents) -> gradients``, one per primal (None where there is none). One whose parameters
            are called ``(primals, cotangents)`` or ``(primals, outputs, cotangents)`` gets tuples instead.

    Returns:
        A subject for ``check``, ``assert_gradients`` or ``gradient_test``.

    Raises:
        UsageError: If an argument is not callable.
    """
    for what, value in (("forward", forward), ("vjp", vjp)):
        if not callable(value):
            raise UsageError(f"pair({what}={value!r}): must be callable")
    return PairSubject(name=getattr(forward, "__name__", "pair").strip("<>"), forward=forward, vjp=vjp)
