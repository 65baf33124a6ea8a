"""Subjects that go through autograd: a Function, its ``apply``, a custom op, or any callable around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import torch
from torch.autograd.function import Function

from gradharness.errors import BackwardRaised
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
from gradharness.subjects.calls import call_forward, tensor_outputs
from gradharness.subjects.custom_nodes import Recorder, backward_name, custom_nodes, function_class, standing_in
from gradharness.subjects.own_forward import OwnForward
from gradharness.subjects.reverse import attached, vector_jacobian


@dataclass(frozen=True, slots=True)
class FunctionSubject:
    """A callable whose gradient autograd delivers.

    Attributes:
        name: How reports call it.
        function: Takes the arguments, returns tensors.
    """

    name: str
    function: Callable[..., object]

    @property
    def fixed_cotangent(self) -> bool:
        """Any cotangent may be asked for."""
        return False

    def outputs(self, primals: Primals) -> Tensors:
        """Every tensor output, without grad."""
        with torch.no_grad():
            value = call_forward(self.function, primals.values)
        return tensor_outputs(value, self.name)[0]

    def linearize(self, primals: Primals) -> Linearization:
        """Outputs, and the pullback that autograd builds of the subject's backwards."""
        return self.linearize_at(primals, attached(primals.leaves))

    def linearize_at(self, primals: Primals, leaves: Tensors) -> Linearization:
        """As ``linearize``, for leaves that the caller has attached."""
        with torch.enable_grad():
            value = call_forward(self.function, primals.arguments(leaves))
        outputs, labels = tensor_outputs(value, self.name)
        connected = tuple(i for i, t in enumerate(outputs) if t.requires_grad)
        chosen = [outputs[i] for i in connected]

        def pullback(cotangents: Sequence[torch.Tensor]) -> Gradients:
            return vector_jacobian(chosen, leaves, cotangents)

        return Linearization(tuple(t.detach() for t in outputs), labels, connected, pullback)

    def traced(self, primals: Primals, leaves: Tensors) -> Tensors:
        """The outputs that require grad, with their graph."""
        with torch.enable_grad():
            value = call_forward(self.function, primals.arguments(leaves))
        return tuple(t for t in tensor_outputs(value, self.name)[0] if t.requires_grad)

    def session(self, primals: Primals) -> None:
        """Every call makes its own node."""

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """What each Function's backward returns; one for autograd as a whole if there is no Function."""
        leaves = attached(primals.leaves)
        outputs = self.traced(primals, leaves)
        classes = {function_class(node) for node in custom_nodes(outputs)}
        if not classes:
            return (self._delivered(primals, vector_jacobian(outputs, leaves, cotangents)),)
        recorder = Recorder(primals, leaves)
        with ExitStack() as stack:
            for cls in classes:
                stack.enter_context(standing_in(cls, {backward_name(cls): recorder.recording(cls)}))
            # What autograd refuses has been noted before it refuses it.
            with suppress(BackwardRaised):
                vector_jacobian(outputs, leaves, cotangents)
        return tuple(recorder.returns)

    def _delivered(self, primals: Primals, gradients: Gradients) -> RawReturn:
        inputs = tuple(
            RawInput(label=label, needed=True, like=TensorMeta.of(leaf))
            for label, leaf in zip(primals.labels, primals.leaves, strict=True)
        )
        return RawReturn(place=self.name, inputs=inputs, returned=gradients, coerced=True)

    def own_forward(self) -> Subject | None:
        """The same callable with every Function's backward replaced by autograd of its forward."""
        return OwnForward(self, self.function)


def function_subject(function: Callable[..., object] | type[Function], name: str | None = None) -> FunctionSubject:
    """The subject for a Function class, its ``apply``, a custom op or any other callable."""
    if isinstance(function, type) and issubclass(function, Function):
        return FunctionSubject(name or function.__name__, function.apply)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, Function):
        return FunctionSubject(name or owner.__name__, function)
    known = getattr(function, "__name__", None) or getattr(function, "_qualname", None)  # the latter is a custom op's
    return FunctionSubject(name or known or type(function).__name__, function)
