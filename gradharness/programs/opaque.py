"""A call of a model that no catalogue op repeats: kept as it was made, with autograd of that call alone as its VJP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.func import functional_call

from gradharness.model.subject import Gradients, Tensors
from gradharness.numerics import tree
from gradharness.programs.graph import pulled
from gradharness.programs.op import Call, Op


@dataclass(frozen=True, slots=True)
class Operand:
    """Stands for a tensor in the arguments of a call.

    Attributes:
        number: Of the value in the program; within an ``OpaqueCall`` the place among its operands.
    """

    number: int


@dataclass(frozen=True, slots=True)
class OpaqueCall:
    """One call of a graph.

    Attributes:
        name: In reports.
        target: What is called: a function, or the name of a method of the first argument.
        arguments: With an ``Operand`` for each tensor.
        keywords: The same.
        writes: Whether the model's call wrote into its first argument; this one gives the result apart.
    """

    name: str
    target: Callable[..., Any] | str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    writes: bool = False

    def __call__(self, operands: Sequence[Any]) -> Any:
        """What the call returns for these operands: tensors, or proxies of torch.fx."""
        given = _filled(self.arguments, operands)
        keywords = _filled(dict(self.keywords), operands)
        if isinstance(self.target, str):
            return getattr(given[0], self.target)(*given[1:], **keywords)
        return self.target(*given, **keywords)

    def emitted(self, tracer: fx.proxy.TracerBase, operands: Sequence[fx.Proxy]) -> fx.Proxy:
        """The same call in a graph."""
        given, keywords = _filled(self.arguments, operands), _filled(dict(self.keywords), operands)
        kind = "call_method" if isinstance(self.target, str) else "call_function"
        return tracer.create_proxy(kind, _printable(self.target), given, keywords)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueOp(Op):
    """An op that is one recorded call.

    Attributes:
        recorded: The call.
        paths: Where its tensors are in what it returns.
    """

    recorded: OpaqueCall
    paths: tuple[tree.Path, ...]


def opaque_op(recorded: OpaqueCall, value: object, arity: int) -> OpaqueOp:
    """The op of a call that takes so many tensors and has returned ``value``."""
    paths = tree.tensor_paths(value)

    def forward(*operands: torch.Tensor) -> Tensors:
        found = recorded(operands)
        return tuple(tree.get(found, path) for path in paths)

    def vjp(call: Call, *cotangents: torch.Tensor) -> Gradients:
        return pulled(forward, [x.clone() for x in call.inputs], cotangents)  # it may write into what it saves

    return OpaqueOp(
        name=recorded.name,
        forward=forward,
        vjp=vjp,
        code=f"{recorded.name}({', '.join(f'{{{i}}}' for i in range(arity))})",
        formula="torch.autograd of this call alone",
        arity=arity,
        outputs=len(paths),
        same_shape=False,
        complex=True,
        recorded=recorded,
        paths=paths,
    )


def called(node: fx.Node, arguments: Any, keywords: Any) -> OpaqueCall:
    """The call of a graph node; what writes in place gives its result apart instead."""
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", node.name)
    writes = name.endswith("_") and not name.endswith("__")
    if writes:
        target = _apart(target)
    if "inplace" in keywords:
        writes |= bool(keywords["inplace"])
        keywords = {key: value for key, value in keywords.items() if key != "inplace"}
    owner = getattr(target, "__self__", None)
    if isinstance(owner, type):  # the apply of an autograd Function
        name = f"{owner.__name__}.{name}"
    return OpaqueCall(name, target, arguments, keywords, writes)


def _apart(target: Callable[..., Any] | str) -> Callable[..., Any] | str:
    """What gives the result of an in-place call as a new tensor."""
    if isinstance(target, str):
        return target.removesuffix("_")

    def on_a_copy(first: torch.Tensor, *others: Any, **keywords: Any) -> Any:
        return target(first.clone(), *others, **keywords)

    on_a_copy.__name__ = target.__name__
    return on_a_copy


def called_module(
    name: str, module: torch.nn.Module, own: Mapping[str, Operand], arguments: Any, keywords: Any
) -> OpaqueCall:
    """The call of a module that is not gone into, as a function of its parameters as well."""
    labels = tuple(own)

    def call(given: tuple[object, ...], named: dict[str, object], *parameters: torch.Tensor) -> object:
        buffers = {label: b.clone() for label, b in module.named_buffers()}
        state = {**buffers, **dict(zip(labels, parameters, strict=True))}
        return functional_call(module, state, given, named)

    call.__name__ = name
    return OpaqueCall(name, call, (arguments, keywords, *own.values()), {})


def _printable(target: Callable[..., Any] | str) -> Callable[..., Any] | str:
    """The same under a name of its own: torch.fx prints the ``apply`` of all autograd Functions alike."""
    owner = getattr(target, "__self__", None)
    if isinstance(target, str) or not isinstance(owner, type):
        return target

    def apply(*arguments: Any) -> Any:
        return target(*arguments)

    apply.__name__, apply.__module__ = f"{owner.__name__}_apply", owner.__module__
    return apply


def _filled(structure: Any, operands: Sequence[Any]) -> Any:
    def operand(a: Any) -> Any:
        return operands[a.number] if isinstance(a, Operand) else a

    return fx.node.map_aggregate(structure, operand)
