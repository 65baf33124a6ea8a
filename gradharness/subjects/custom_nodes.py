"""The hand-written nodes of an autograd graph: finding them, and standing in for their code.

``torch.autograd.Function`` leaves a Python node in the graph whose class knows the Function; custom ops with
``register_autograd`` do the same. Their static methods are looked up at call time, so that replacing one for the
length of a call reaches every way in which users hold on to ``apply``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch.autograd.function import BackwardCFunction, Function

from gradharness.model.subject import Primals, RawInput, RawReturn, TensorMeta

Node: TypeAlias = Any  # torch's stubs do not describe graph nodes


def graph_nodes(outputs: Sequence[torch.Tensor]) -> tuple[Node, ...]:
    """All nodes reachable from some outputs, nearest first."""
    queue: list[Node] = [t.grad_fn for t in outputs if t.grad_fn is not None]
    seen: set[int] = set()
    found: list[Node] = []
    for node in queue:  # grows while it is walked
        if id(node) in seen:
            continue
        seen.add(id(node))
        found.append(node)
        queue.extend(parent for parent, _ in node.next_functions if parent is not None)
    return tuple(found)


def custom_nodes(outputs: Sequence[torch.Tensor]) -> tuple[Node, ...]:
    """All Python nodes reachable from some outputs, nearest first."""
    return tuple(node for node in graph_nodes(outputs) if isinstance(node, BackwardCFunction))


def function_class(node: Node) -> type[Function]:
    """The Function that made a node."""
    cls: type[Function] = node._forward_cls
    return cls


def backward_name(cls: type[Function]) -> str:
    """``backward`` or its alias ``vjp``, whichever the class defines."""
    return "vjp" if cls.vjp is not Function.vjp else "backward"


@contextmanager
def standing_in(cls: type[Function], methods: dict[str, Callable[..., object]]) -> Iterator[None]:
    """Replaces static methods of a Function for the length of a ``with`` block."""
    missing = object()
    before = {name: cls.__dict__.get(name, missing) for name in methods}
    try:
        for name, method in methods.items():
            setattr(cls, name, staticmethod(method))
        yield
    finally:
        for name, old in before.items():
            if old is missing:
                delattr(cls, name)
            else:
                setattr(cls, name, old)


class Recorder:
    """Notes what the backwards of some Functions return, while they run as usual.

    Attributes:
        returns: Filled in the order in which the backwards run.
    """

    def __init__(self, primals: Primals, leaves: Sequence[torch.Tensor]) -> None:
        self.returns: list[RawReturn] = []
        self._labels = {id(leaf): label for leaf, label in zip(leaves, primals.labels, strict=True)}

    def recording(self, cls: type[Function]) -> Callable[..., object]:
        """A backward for ``cls`` that calls the real one and notes its return."""
        original = getattr(cls, backward_name(cls))

        def backward(ctx: Node, *cotangents: object) -> object:
            returned = original(ctx, *cotangents)
            self.returns.append(self._note(cls, ctx, returned))
            return returned

        return backward

    def _note(self, cls: type[Function], node: Node, returned: object) -> RawReturn:
        values = returned if isinstance(returned, tuple) else (returned,)
        name = cls.__name__
        return RawReturn(place=f"{name}.{backward_name(cls)}", inputs=self._inputs(node), returned=values, coerced=True)

    def _inputs(self, node: Node) -> tuple[RawInput, ...]:
        # One entry of needs_input_grad per argument; one edge per tensor argument, empty where no gradient is needed.
        edges = iter([(parent, number) for parent, number in node.next_functions if parent is not None])
        inputs = []
        for position, needed in enumerate(node.needs_input_grad):
            label, like = f"argument {position}", None
            if needed:
                parent, number = next(edges)
                label, like = self._describe(parent, number, label)
            inputs.append(RawInput(label=label, needed=bool(needed), like=like))
        return tuple(inputs)

    def _describe(self, parent: Node, number: int, label: str) -> tuple[str, TensorMeta | None]:
        variable = getattr(parent, "variable", None)
        if isinstance(variable, torch.Tensor):
            return self._labels.get(id(variable), label), TensorMeta.of(variable)
        metadata = getattr(parent, "_input_metadata", None)
        if metadata is None:
            return label, None
        meta = metadata[number]
        return label, TensorMeta(shape=tuple(meta.shape), dtype=meta.dtype, device=meta.device)
