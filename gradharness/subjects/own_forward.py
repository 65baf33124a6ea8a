"""The subject with autograd of its own forward in place of its hand-written backward.

Each Function's raw ``forward`` runs with grad enabled and a stand-in for ctx; its backward differentiates that run.
This is a free elementwise oracle where forward is made of differentiable torch ops and hides nothing from autograd.
It proves nothing by itself (``detach``, ``.data``, ``no_grad`` or another hand-written Function inside forward make
it wrong), so that whoever uses it must certify it first, by one finite difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch.autograd.function import Function

from gradharness.errors import GradharnessError, OracleUnavailable
from gradharness.model.subject import Linearization, Primals, RawReturn, Subject, Tensors
from gradharness.subjects.calls import call_forward, tensor_outputs
from gradharness.subjects.custom_nodes import Node, backward_name, custom_nodes, function_class, standing_in
from gradharness.subjects.reverse import attached, vector_jacobian

_PLAIN = "the subject has no hand-written node: autograd of its forward is its own backward"
_OPAQUE = "the forward is not made of ops that autograd can differentiate"


class StandInContext:
    """What a raw ``forward`` gets for ctx: takes everything, hands back what was saved."""

    def __init__(self, needs_input_grad: Sequence[bool]) -> None:
        self.needs_input_grad = tuple(needs_input_grad)
        self.saved_tensors: tuple[Any, ...] = ()
        self.non_differentiable: tuple[torch.Tensor, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps the tensors, as ctx does."""
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Forward mode is not asked for here."""

    def mark_non_differentiable(self, *tensors: torch.Tensor) -> None:
        """Notes outputs that take no cotangent."""
        self.non_differentiable = tensors

    def mark_dirty(self, *_tensors: torch.Tensor) -> None:
        """A forward that works in place on its inputs cannot be differentiated on copies of them."""
        raise OracleUnavailable("the forward modifies its inputs in place")

    def set_materialize_grads(self, value: bool) -> None:  # noqa: FBT001 - torch's signature
        """Cotangents are always materialised here."""


class OwnForward:
    """A subject whose Functions' backwards are autograd of their own forwards.

    Args:
        subject: The subject as it is.
        function: The callable that it calls.
    """

    fixed_cotangent = False

    def __init__(self, subject: Subject, function: Callable[..., object]) -> None:
        self._subject = subject
        self._function = function
        self._classes: set[type[Function]] = set()  # grows as new ones are met in the graph
        self.name = f"{subject.name} (own forward)"

    def outputs(self, primals: Primals) -> Tensors:
        """Every tensor output, without grad."""
        return self._subject.outputs(primals)

    def linearize(self, primals: Primals) -> Linearization:
        """Outputs and pullback of the forward's own ops.

        Raises:
            OracleUnavailable: If there is no hand-written node, or a forward cannot be differentiated.
        """
        if not self._classes:
            self._classes |= self._met(primals)
        if not self._classes:
            raise OracleUnavailable(_PLAIN)
        while True:
            before = set(self._classes)
            linearization = self._linearize(primals)
            if self._classes == before:
                return linearization

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """There is no hand-written backward here."""
        raise OracleUnavailable(_PLAIN)

    def own_forward(self) -> Subject | None:
        """It is its own."""
        return self

    def _met(self, primals: Primals) -> set[type[Function]]:
        leaves = attached(primals.leaves)
        with torch.enable_grad():
            value = call_forward(self._function, primals.arguments(leaves))
        return {function_class(node) for node in custom_nodes(tensor_outputs(value, self.name)[0])}

    def _linearize(self, primals: Primals) -> Linearization:
        with ExitStack() as stack:
            for cls in self._classes:
                stack.enter_context(standing_in(cls, _differentiating(cls, self._classes)))
            linearization = self._subject.linearize(primals)
        classes = set(self._classes)

        def pullback(cotangents: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
            with ExitStack() as stack:
                for cls in classes:
                    stack.enter_context(standing_in(cls, {backward_name(cls): _replayed_backward}))
                return linearization.pullback(cotangents)

        return Linearization(linearization.outputs, linearization.labels, linearization.differentiable, pullback)


def _differentiating(cls: type[Function], met: set[type[Function]]) -> dict[str, Callable[..., object]]:
    """Stand-ins for the static methods of ``cls``; Functions inside its forward are added to ``met``."""
    original: Callable[..., object] = cls.forward
    if cls.setup_context is Function.setup_context:

        def forward(ctx: Node, *arguments: object) -> object:
            stand_in = StandInContext(ctx.needs_input_grad)
            copies, value = _run(original, arguments, stand_in)
            return _keep(ctx, copies, value, stand_in, met)

        return {"forward": forward}

    setup: Callable[..., object] = cls.setup_context
    pending: list[tuple[list[object], object]] = []

    def forward_alone(*arguments: object) -> object:
        pending.append(_run(original, arguments, None))
        return _detached(pending[-1][1])

    def setup_context(ctx: Node, inputs: tuple[object, ...], output: object) -> None:
        stand_in = StandInContext(ctx.needs_input_grad)
        setup(stand_in, inputs, output)  # for mark_non_differentiable, which names these very outputs
        copies, value = pending.pop()
        _keep(ctx, copies, value, StandInContext(ctx.needs_input_grad), met)
        if stand_in.non_differentiable:
            ctx.mark_non_differentiable(*stand_in.non_differentiable)

    return {"forward": forward_alone, "setup_context": setup_context}


def _run(
    forward: Callable[..., object], arguments: Sequence[object], stand_in: StandInContext | None
) -> tuple[list[object], object]:
    copies = [_fresh(a) for a in arguments]
    with torch.enable_grad():
        return copies, forward(*copies) if stand_in is None else forward(stand_in, *copies)


def _fresh(argument: object) -> object:
    if not isinstance(argument, torch.Tensor):
        return argument
    return argument.detach().requires_grad_(argument.requires_grad)


def _keep(ctx: Node, copies: list[object], value: object, stand_in: StandInContext, met: set[type[Function]]) -> object:
    """Hangs the run on ctx for the backward, and gives forward's outputs without their graph."""
    outputs = value if isinstance(value, tuple) else (value,)
    tensors = [t for t in outputs if isinstance(t, torch.Tensor)]
    met |= {function_class(node) for node in custom_nodes(tensors)}
    if any(ctx.needs_input_grad) and not any(t.requires_grad for t in tensors):
        raise OracleUnavailable(_OPAQUE)
    ctx.own_run = (copies, outputs)
    detached = tuple(_detached(t) for t in outputs)
    marked = {id(t) for t in stand_in.non_differentiable}
    ctx.mark_non_differentiable(*(d for d, t in zip(detached, outputs, strict=True) if id(t) in marked))
    return detached if isinstance(value, tuple) else detached[0]


def _detached(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_detached(v) for v in value)
    return value.detach() if isinstance(value, torch.Tensor) else value


def _replayed_backward(ctx: Node, *cotangents: torch.Tensor | None) -> object:
    copies, outputs = ctx.own_run
    pairs = [
        (out, w)
        for out, w in zip(outputs, cotangents, strict=True)
        if w is not None and isinstance(out, torch.Tensor) and out.requires_grad
    ]
    needed = [c for c in copies if isinstance(c, torch.Tensor) and c.requires_grad]
    try:
        gradients = iter(vector_jacobian([o for o, _ in pairs], needed, [w for _, w in pairs]))
    except GradharnessError as error:
        raise OracleUnavailable(str(error)) from error
    return tuple(next(gradients) if isinstance(c, torch.Tensor) and c.requires_grad else None for c in copies)
