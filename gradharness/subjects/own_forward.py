"""The subject with autograd of its own forward in place of its hand-written backward.

Each Function's raw ``forward`` runs with grad enabled and a stand-in for ctx; its backward differentiates that run.
This is a free elementwise oracle where forward is made of differentiable torch ops and hides nothing from autograd.
It proves nothing by itself (``detach``, ``.data``, ``no_grad`` or another hand-written Function inside forward make
it wrong), so that whoever uses it must certify it first, by one finite difference.

There are two ways. Where the subject is one Function's ``apply``, its forward is run as it stands, and no class is
touched. Anything else (functions around Functions, Functions within Functions) runs through the subject, with
stand-ins for the static methods of every Function that is met. Both give the same answers.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import Function

from gradharness.errors import GradharnessError, OracleUnavailable
from gradharness.model.subject import Gradients, Linearization, Primals, RawReturn, Subject, Tensors
from gradharness.subjects.calls import call_forward, tensor_outputs
from gradharness.subjects.custom_nodes import Node, backward_name, custom_nodes, function_class, standing_in
from gradharness.subjects.reverse import attached, vector_jacobian

_PLAIN = "the subject has no hand-written node: autograd of its forward is its own backward"
_OPAQUE = "the forward is not made of ops that autograd can differentiate"
_APPLY = Function.apply.__func__  # type: ignore[attr-defined]


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
        self._alone = _applied(function)  # until it is seen not to be
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
        if self._alone is not None:
            found = _linearized(self._alone, primals, self.name)
            if found is not None:
                return found
            self._alone = None  # the other way is right wherever this one is
        if not self._classes:
            self._classes |= self._met(primals)
        if not self._classes:
            raise OracleUnavailable(_PLAIN)
        while True:
            before = set(self._classes)
            linearization = self._linearize(primals)
            if self._classes == before:
                return linearization

    def traced(self, primals: Primals, leaves: Tensors) -> Tensors | None:
        """The outputs of one Function's raw forward, with the graph of its own ops; None for anything else."""
        if self._alone is None or _linearized(self._alone, primals, self.name) is None:
            return None
        run: _Run = call_forward(_raw, (self._alone, primals.arguments(leaves)))  # type: ignore[assignment]
        parts = [part for i, part in enumerate(_parts(run.value)) if i not in run.marked]
        return tuple(part for part in parts if isinstance(part, torch.Tensor) and part.requires_grad)

    def session(self, primals: Primals) -> None:
        """Every call makes its own graph."""

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


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a raw forward with grad enabled.

    Attributes:
        value: What it returned, with its graph.
        marked: Numbers of what takes no cotangent in it, by its own word.
    """

    value: object
    marked: frozenset[int]


def _applied(function: Callable[..., object]) -> type[Function] | None:
    """The Function whose ``apply`` this is; None for anything else, an overridden ``apply`` included."""
    owner = getattr(function, "__self__", None)
    if not (isinstance(owner, type) and issubclass(owner, Function)):
        return None
    return owner if getattr(function, "__func__", None) is _APPLY else None


def _linearized(cls: type[Function], primals: Primals, name: str) -> Linearization | None:
    """The raw forward of ``cls``, differentiated where it stands; None where that is not what ``apply`` means.

    Raises:
        OracleUnavailable: If the forward cannot be differentiated.
    """
    if not primals.active or any(len(path) != 1 for path in primals.active):
        return None  # ``apply`` differentiates no tensor inside of a container
    leaves = attached(primals.leaves)
    run: _Run = call_forward(_raw, (cls, primals.arguments(leaves)))  # type: ignore[assignment]
    parts = _parts(run.value)
    tensors = [i for i, part in enumerate(parts) if isinstance(part, torch.Tensor)]
    connected = tuple(n for n, i in enumerate(tensors) if i not in run.marked and _continuous(parts[i]))
    if not connected or not all(isinstance(part, torch.Tensor) or _plain(part) for part in parts):
        return None  # no node, or a container whose tensors ``apply`` hands through as they are
    outputs, labels = tensor_outputs(run.value, name)
    if custom_nodes(outputs):
        return None  # hand-written as well
    if not any(t.requires_grad for t in outputs):
        raise OracleUnavailable(_OPAQUE)

    def pullback(cotangents: Sequence[torch.Tensor]) -> Gradients:
        return _gradients([outputs[n] for n in connected], leaves, cotangents)

    return Linearization(tuple(t.detach() for t in outputs), labels, connected, pullback)


def _raw(cls: type[Function], arguments: tuple[object, ...]) -> _Run:
    if cls.setup_context is Function.setup_context:
        stand_in = StandInContext(_needed(arguments))
        with torch.enable_grad():
            value = cls.forward(stand_in, *arguments)
        return _Run(value, _marked(stand_in, value))
    bound = inspect.signature(cls.forward).bind(*arguments)
    bound.apply_defaults()
    with torch.enable_grad():
        value = cls.forward(*bound.args)
    stand_in = StandInContext(_needed(bound.args))
    shown = _shown(value, bound.args)
    with torch.no_grad():
        cls.setup_context(stand_in, bound.args, shown)
    return _Run(value, _marked(stand_in, shown))


def _needed(arguments: Sequence[object]) -> tuple[bool, ...]:
    return tuple(isinstance(a, torch.Tensor) and a.requires_grad for a in arguments)


def _parts(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _marked(stand_in: StandInContext, value: object) -> frozenset[int]:
    """Numbers of the outputs that were marked as non-differentiable; by identity, as autograd goes by it."""
    if not stand_in.non_differentiable:
        return frozenset()
    marked = {id(t) for t in stand_in.non_differentiable}
    return frozenset(i for i, part in enumerate(_parts(value)) if id(part) in marked)


def _shown(value: object, inputs: Sequence[object] = ()) -> object:
    """The outputs without their graph; one tensor stays one tensor, and an input stays that input."""
    seen = {id(x): x for x in inputs}
    for part in _parts(value):
        seen.setdefault(id(part), _detached(part))
    return tuple(seen[id(part)] for part in value) if isinstance(value, tuple) else seen[id(value)]


def _detached(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_detached(v) for v in value)
    return value.detach() if isinstance(value, torch.Tensor) else value


def _continuous(part: object) -> bool:
    return isinstance(part, torch.Tensor) and (part.is_floating_point() or part.is_complex())


def _plain(part: object) -> bool:
    return part is None or isinstance(part, (bool, int, float, complex, str))


def _gradients(
    outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]
) -> Gradients:
    """Gradients of those outputs of a run that depend on anything.

    Raises:
        OracleUnavailable: If autograd refuses.
    """
    pairs = [(out, w) for out, w in zip(outputs, cotangents, strict=True) if out.requires_grad]
    try:
        return vector_jacobian([out for out, _ in pairs], inputs, [w for _, w in pairs])
    except GradharnessError as error:
        raise OracleUnavailable(str(error)) from error


def _differentiating(cls: type[Function], met: set[type[Function]]) -> dict[str, Callable[..., object]]:
    """Stand-ins for the static methods of ``cls``; Functions inside its forward are added to ``met``."""
    original: Callable[..., object] = cls.forward
    if cls.setup_context is Function.setup_context:

        def forward(ctx: Node, *arguments: object) -> object:
            stand_in = StandInContext(ctx.needs_input_grad)
            copies, value = _run(original, arguments, stand_in)
            return _keep(ctx, copies, value, _marked(stand_in, value), met)

        return {"forward": forward}

    setup: Callable[..., object] = cls.setup_context
    pending: list[tuple[list[object], object]] = []

    @functools.wraps(original)  # its signature has the defaults that ``apply`` fills in
    def forward_alone(*arguments: object) -> object:
        pending.append(_run(original, arguments, None))
        return _shown(pending[-1][1])

    def setup_context(ctx: Node, inputs: tuple[object, ...], output: object) -> None:
        stand_in = StandInContext(ctx.needs_input_grad)
        setup(stand_in, inputs, output)  # for mark_non_differentiable, which names these very outputs
        copies, value = pending.pop()
        _keep(ctx, copies, value, _marked(stand_in, output), met)
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


def _keep(ctx: Node, copies: list[object], value: object, marked: frozenset[int], met: set[type[Function]]) -> object:
    """Hangs the run on ctx for the backward, and gives forward's outputs without their graph."""
    outputs = _parts(value)
    tensors = [t for t in outputs if isinstance(t, torch.Tensor)]
    met |= {function_class(node) for node in custom_nodes(tensors)}
    if any(ctx.needs_input_grad) and not any(t.requires_grad for t in tensors):
        raise OracleUnavailable(_OPAQUE)
    ctx.own_run = (copies, tuple(None if i in marked else t for i, t in enumerate(outputs)))
    detached = _parts(_shown(value))
    ctx.mark_non_differentiable(*(detached[i] for i in marked))
    return detached if isinstance(value, tuple) else detached[0]


def _replayed_backward(ctx: Node, *cotangents: torch.Tensor | None) -> object:
    copies, outputs = ctx.own_run
    pairs = [
        (out, w) for out, w in zip(outputs, cotangents, strict=True) if w is not None and isinstance(out, torch.Tensor)
    ]
    needed = [c for c in copies if isinstance(c, torch.Tensor) and c.requires_grad]
    gradients = iter(_gradients([out for out, _ in pairs], needed, [w for _, w in pairs]))
    return tuple(next(gradients) if isinstance(c, torch.Tensor) and c.requires_grad else None for c in copies)
