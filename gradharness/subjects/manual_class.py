"""Hand-written code without autograd: an object with ``forward`` and ``backward`` that leaves gradients somewhere."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradharness.errors import BackwardRaised, UsageError
from gradharness.model.subject import (
    Gradients,
    Linearization,
    Primals,
    RawInput,
    RawReturn,
    Session,
    Subject,
    TensorMeta,
    Tensors,
)
from gradharness.model.training import OptimizerFactory
from gradharness.numerics import tree
from gradharness.subjects.calls import call_backward, call_forward, tensor_outputs
from gradharness.subjects.function import FunctionSubject

_MISSING = object()
OPTIMIZER_REMEDY = "give a function that makes the optimiser, such as lambda params: torch.optim.SGD(params, lr=0.01)"
STEPS = 6  # of training: enough for what an earlier step leaves to add up


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualSubject:
    """A class whose backward is written by hand and leaves its gradients on the object. See ``manual``.

    Attributes:
        name: How reports call it.
        build: Makes a fresh object.
        forward: Method name, or callable ``(obj, *primals) -> outputs``.
        backward: Method name, or callable ``(obj, primals, outputs, cotangents)``.
        gradients: ``(obj) -> mapping`` from a primal's position or name to its gradient.
        state: Attributes of the object that are primals as well.
        loss: ``(output, *targets) -> scalar`` that backward differentiates; None if it takes cotangents.
        optimize: Method name, or callable ``(obj)``, that updates the state; None if there is no update.
        optimizer: Makes the optimiser of torch that the update is written after; None to not look at updates.
        loop: ``(model, batches)`` that trains the object as a whole; None for a class.
        steps: How many steps are followed.
        accumulate: How many batches make one step of the loop.
    """

    name: str
    build: Callable[[], object]
    forward: str | Callable[..., object]
    backward: str | Callable[..., object]
    gradients: Callable[[Any], Mapping[int | str, object]]
    state: tuple[str, ...] = ()
    loss: Callable[..., torch.Tensor] | None = None
    optimize: str | Callable[[Any], object] | None = None
    optimizer: OptimizerFactory | None = None
    loop: Callable[..., object] | None = None
    steps: int = STEPS
    accumulate: int = 1

    def for_steps(self, steps: int) -> ManualSubject:
        """The same, followed by the check ``training`` for another number of steps.

        Raises:
            UsageError: If that is no number of steps.
        """
        return replace(self, steps=counted("for_steps", steps))

    @property
    def fixed_cotangent(self) -> bool:
        """With a loss, backward starts from the loss itself."""
        return self.loss is not None

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the loss's arguments after the output."""
        if self.loss is None:
            return ()
        function = self.loss.forward if isinstance(self.loss, torch.nn.Module) else self.loss
        names = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        return tuple(names[1:])

    def outputs(self, primals: Primals) -> Tensors:
        """Every tensor output (the loss, if there is one), without grad."""
        with torch.no_grad():
            value = self._run(primals)[2]
        return tensor_outputs(value, self.name)[0]

    def linearize(self, primals: Primals) -> Linearization:
        """Runs forward on a fresh object; the pullback runs its backward and collects what it left."""
        detached = primals.at([leaf.detach() for leaf in primals.leaves])
        return self._linearization(detached, *self._run(detached))

    def session(self, primals: Primals) -> Session:
        """One object, with these primals for its state."""
        first = len(primals.values) - len(self.state)
        fixed = tuple(i for i, path in enumerate(primals.active) if int(path[0]) >= first)
        return _ObjectSession(self, self._made(self._split(primals.values)[2]), fixed)

    def linearize_on(self, obj: object, primals: Primals) -> Linearization:
        """As ``linearize``, on an object that is there already, whose state is left alone."""
        detached = primals.at([leaf.detach() for leaf in primals.leaves])
        return self._linearization(detached, *self._run_on(obj, detached.values))

    def value_of(self, obj: object, values: Sequence[object]) -> object:
        """What is differentiated, of an object that is there already, whose state is left alone."""
        return self._run_on(obj, values)[2]

    def lists_calls(self, primals: Primals) -> bool:
        """Whether forward leaves a list with a single entry, which holds tensors, where there was none before."""
        obj = self._made(self._split(primals.values)[2])
        before = _single_entries(obj)
        self._run_on(obj, primals.values)
        return bool(_single_entries(obj) - before)

    def _linearization(self, primals: Primals, obj: object, raw: object, value: object) -> Linearization:
        outputs, labels = tensor_outputs(value, self.name)
        outputs = tuple(t.detach() for t in outputs)
        differentiable = tuple(i for i, t in enumerate(outputs) if t.is_floating_point() or t.is_complex())

        def pullback(cotangents: Sequence[torch.Tensor]) -> Gradients:
            left = self._collect(obj, raw, primals, cotangents)
            return tuple(self._one(left, primals, path) for path in primals.active)

        return Linearization(outputs, labels, differentiable, pullback)

    def traced(self, primals: Primals, leaves: Tensors) -> None:
        """Autograd has no part in this."""

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """What ``gradients(obj)`` holds after backward."""
        detached = primals.at([leaf.detach() for leaf in primals.leaves])
        obj, raw, _ = self._run(detached)
        left = self._collect(obj, raw, detached, cotangents)
        inputs = tuple(
            RawInput(label=label, needed=True, like=TensorMeta.of(leaf))
            for label, leaf in zip(primals.labels, primals.leaves, strict=True)
        )
        returned = tuple(self._find(left, detached, path) for path in primals.active)
        return (RawReturn(place=f"{self.name}.backward", inputs=inputs, returned=returned, coerced=False),)

    def own_forward(self) -> Subject | None:
        """Autograd through the class's own forward; a loop's model is differentiated by autograd anyway."""
        if self.loop is not None:
            return None
        return FunctionSubject(f"{self.name} (own forward)", self._forward_alone)

    def claimed(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[bool, ...]:
        """For each leaf, whether ``gradients(obj)`` has a place for it at all."""
        detached = primals.at([leaf.detach() for leaf in primals.leaves])
        obj, raw, _ = self._run(detached)
        left = self._collect(obj, raw, detached, cotangents)
        return tuple(self._find(left, detached, path, _MISSING) is not _MISSING for path in primals.active)

    def _split(self, values: Sequence[object]) -> tuple[Sequence[object], Sequence[object], Sequence[object]]:
        states = len(self.state)
        calls = len(values) - states
        targets = len(self.targets)
        return values[: calls - targets], values[calls - targets : calls], values[calls:]

    def _forward_alone(self, *values: object) -> object:
        return self._call(values)[2]

    def _run(self, primals: Primals) -> tuple[object, object, object]:
        return self._call(primals.values)

    def _call(self, values: Sequence[object]) -> tuple[object, object, object]:
        """A fresh object, what its forward returned, and the value that is differentiated."""
        return self._run_on(self._made(self._split(values)[2]), values)

    def _made(self, states: Sequence[object]) -> object:
        """A fresh object with this state."""
        obj = call_forward(self.build, ())
        if self.loop is not None and isinstance(obj, torch.nn.Module):
            return _in_place(obj, dict(zip(self.state, states, strict=True)))
        for attribute, value in zip(self.state, states, strict=True):
            set_state(obj, attribute, value)
        return obj

    def _run_on(self, obj: object, values: Sequence[object]) -> tuple[object, object, object]:
        arguments, targets, _ = self._split(values)
        if isinstance(self.forward, str):
            raw = call_forward(method(obj, self.forward), arguments)
        else:
            raw = call_forward(self.forward, (obj, *arguments))
        if self.loss is None:
            return obj, raw, raw
        return obj, raw, call_forward(self.loss, (raw, *targets))

    def _collect(
        self, obj: object, raw: object, primals: Primals, cotangents: Sequence[torch.Tensor]
    ) -> Mapping[int | str, object]:
        arguments, targets, _ = self._split(primals.values)
        outputs = raw if isinstance(raw, tuple) else (raw,)
        if callable(self.backward):
            call_backward(self.backward, (obj, primals.values, outputs, tuple(cotangents)))
        elif self.loss is not None:
            call_backward(method(obj, self.backward), (*arguments, *outputs, *targets))
        else:
            call_backward(method(obj, self.backward), tuple(cotangents))
        left = call_backward(self.gradients, (obj,))
        if not isinstance(left, Mapping):
            error = TypeError(f"gradients(obj) returned {type(left).__name__}: return a mapping from primal to tensor")
            raise BackwardRaised(error)
        return left

    def _find(
        self, left: Mapping[int | str, object], primals: Primals, path: tree.Path, default: object = None
    ) -> object:
        number = int(path[0])
        name = primals.names[number]
        value = left.get(name, left.get(number, default))
        return value if value is None or value is default else tree.get(value, path[1:])

    def _one(self, left: Mapping[int | str, object], primals: Primals, path: tree.Path) -> torch.Tensor | None:
        value = self._find(left, primals, path)
        # The contract check names what is not a tensor; here it is only no gradient.
        return value.detach() if isinstance(value, torch.Tensor) else None


@dataclass(frozen=True, slots=True)
class _ObjectSession:
    """One object of a manual class, used again and again."""

    subject: ManualSubject
    obj: object
    fixed: tuple[int, ...]

    def linearize(self, primals: Primals) -> Linearization:
        return self.subject.linearize_on(self.obj, primals)

    def lists_calls(self, primals: Primals) -> bool:
        return self.subject.lists_calls(primals)

    def clear(self) -> bool:
        clear = getattr(self.obj, "zero_grad", None)
        inherited = getattr(clear, "__func__", None) is torch.nn.Module.zero_grad  # clears .grad and nothing else
        if not callable(clear) or inherited or _required(clear):
            return False
        call_backward(clear, ())
        return True


def _single_entries(obj: object) -> set[str]:
    """Attributes that are lists (or deques) of one entry with tensors in it."""
    found = getattr(obj, "__dict__", {}).items()
    lists = ((name, value) for name, value in found if isinstance(value, (list, deque)) and len(value) == 1)
    return {name for name, value in lists if tree.tensor_paths(value[0])}


def _required(function: Callable[..., object]) -> bool:
    """Whether it cannot be called without arguments."""
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind in plain for p in parameters)


def method(obj: object, name: str) -> Callable[..., object]:
    """A method by its name.

    Raises:
        UsageError: If the object has none of that name.
    """
    found = getattr(obj, name, None)
    if not callable(found):
        raise UsageError(f"{type(obj).__name__} has no method {name!r}: name it in manual(forward=…, backward=…)")
    result: Callable[..., object] = found
    return result


def set_state(obj: object, attribute: str, value: object) -> None:
    """Sets a (dotted) attribute; a registered Parameter stays one.

    Raises:
        UsageError: If the object has no such attribute.
    """
    *owners, last = attribute.split(".")
    for name in owners:
        obj = getattr(obj, name)
    if not hasattr(obj, last):
        raise UsageError(
            f"{type(obj).__name__} has no attribute {last!r}: manual(state=…) names what holds its weights"
        )
    if isinstance(getattr(obj, last), torch.nn.Parameter) and isinstance(value, torch.Tensor):
        value = torch.nn.Parameter(value.detach(), requires_grad=False) if not value.requires_grad else value
        if not isinstance(value, torch.nn.Parameter):  # an attached leaf: kept as it is, so that autograd sees it
            getattr(obj, "_parameters", {}).pop(last, None)
    setattr(obj, last, value)


def counted(where: str, count: object) -> int:
    """A number of steps or batches.

    Raises:
        UsageError: If it is not a whole number from one on.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"{where}={count!r}: must be a whole number from 1 on")
    return count


def _in_place(module: torch.nn.Module, states: Mapping[str, object]) -> torch.nn.Module:
    """The module with other values in its parameters, which all of its parts that share them see."""
    for name, value in states.items():
        if isinstance(value, torch.Tensor):
            module = module.to(value.device, value.dtype)
            module.get_parameter(name).data = value.detach().clone()
    return module


def manual(
    build: Callable[[], object],
    *,
    forward: str | Callable[..., object] = "forward",
    backward: str | Callable[..., object] = "backward",
    gradients: Callable[[Any], Mapping[int | str, object]],
    state: Sequence[str] = (),
    loss: Callable[..., torch.Tensor] | None = None,
    optimize: str | Callable[[Any], object] = "optimize",
    optimizer: OptimizerFactory | None = None,
) -> ManualSubject:
    """A class whose forward and backward are written by hand, as a subject.

    The arguments of the subject are those of forward, then the loss's targets, then the state.

    Args:
        build: Makes a fresh object; called once for every forward.
        forward: Name of a method that takes the primals, or a callable ``(obj, *primals) -> outputs``.
        backward: Name of a method, or a callable ``(obj, primals, outputs, cotangents)`` whose last three are tuples.
            A method is called with the cotangents; with a ``loss``, with forward's arguments, the output, the targets.
        gradients: ``(obj) -> mapping`` from a primal (its position or its name) to the tensor that backward left.
        state: Names of attributes that are primals as well, such as weights kept on the object; dotted if nested.
        loss: ``(output, *targets) -> scalar`` where backward starts from a loss on targets instead of a cotangent.
        optimize: Name of the method, or a callable ``(obj)``, that updates the state with the gradients on the object.
        optimizer: Where the update is written by hand too: makes the optimiser that it is written after of a list of
            parameters, such as ``lambda params: torch.optim.SGD(params, lr=0.01)``. The check ``training`` then follows
            the class step for step; ``.for_steps(1000)`` of what is returned makes it follow longer.

    Returns:
        A subject for ``check``, ``assert_gradients`` or ``gradient_test``.

    Raises:
        UsageError: If an argument is of the wrong kind.
    """
    for what, value in (("build", build), ("gradients", gradients)):
        if not callable(value):
            raise UsageError(f"manual({what}={value!r}): must be callable")
    if isinstance(state, str):
        raise UsageError(f"manual(state={state!r}): give a tuple of names, such as ({state!r},)")
    if optimizer is not None and not callable(optimizer):
        raise UsageError(f"manual(optimizer={optimizer!r}): {OPTIMIZER_REMEDY}")
    if optimizer is not None and not state:
        raise UsageError("manual(optimizer=…) without state=: name the attributes that optimize() updates")
    return ManualSubject(
        name=getattr(build, "__name__", "manual").strip("<>"),
        build=build,
        forward=forward,
        backward=backward,
        gradients=gradients,
        state=tuple(state),
        loss=loss,
        optimize=None if optimizer is None else optimize,
        optimizer=optimizer,
    )
