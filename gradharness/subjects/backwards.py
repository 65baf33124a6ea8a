"""Which hand-written backwards run in a block of code, whoever calls them and wherever they are defined.

A Function's backward, and that of a custom op's Function, is called by its node in the graph, which knows the class;
what an op has returned is known by the node behind it; a plain class is known by the object whose ``backward`` is
called. So classes that are made during the block are seen too, and a class that only inherits its backward is not
mistaken for the one that it inherits it from.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction, Function

from gradharness.model.reach import BackwardKind, Holder, Reached
from gradharness.numerics import tree

_TORCH_OPS = {"aten", "prim", "prims", "profiler", "quantized", "inductor", "_c10d_functional", "higher_order"}
_OP_CALLS = {torch._ops.OpOverload.__call__.__code__, torch._ops.OpOverloadPacket.__call__.__code__}
_NODE_METHODS = tuple(name for name in ("apply", "apply_boxed") if hasattr(BackwardCFunction, name))

_NO_CLASSES = {id(cls) for cls in (type, torch.Tensor, Function, BackwardCFunction)}

Unit = object  # what counts as one: a Function's class, a plain class, an op without a Function


@dataclass(slots=True)
class Backwards:
    """What has run so far.

    Attributes:
        ran: Every holder, and what it is one with.
        outermost: What ran outside of any other hand-written backward.
    """

    ran: dict[Holder, Unit] = field(default_factory=dict)
    outermost: list[Unit] = field(default_factory=list)
    _running: threading.local = field(default_factory=threading.local)
    _frames: dict[int, Unit] = field(default_factory=dict)
    _codes: dict[int, tuple[type, CodeType | None]] = field(default_factory=dict)
    _nodes: list[object] = field(default_factory=list)

    @property
    def reached(self) -> tuple[Reached, ...]:
        """All holders whose backward has run, in order."""
        alone = len({id(unit) for unit in self.outermost}) == 1
        return tuple(Reached(holder, alone and unit is self.outermost[0]) for holder, unit in self.ran.items())

    # --- Functions: by the node that calls the backward ---------------------------------------------------------

    def through(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A method of nodes that notes whose backward it runs."""

        def apply(node: Any, *cotangents: object) -> Any:
            cls = _written(node._forward_cls)
            self._begin(cls)
            self.ran.setdefault(holder_of(cls, BackwardKind.FUNCTION), cls)
            try:
                return original(node, *cotangents)
            finally:
                self._end()

        return apply

    def _begin(self, unit: Unit) -> None:
        self._note_outermost(unit)
        self._running.depth = getattr(self._running, "depth", 0) + 1

    def _end(self) -> None:
        self._running.depth -= 1

    def _note_outermost(self, unit: Unit) -> None:
        if not getattr(self._running, "depth", 0):
            self.outermost.append(unit)

    # --- plain classes and ops: by the calls that are made ------------------------------------------------------

    def profile(self, frame: FrameType, event: str, value: object) -> None:
        """Sees every call of Python code, and every return."""
        code = frame.f_code
        if event == "call":
            receiver = _receiver(frame)
            if self._backward_code(type(receiver)) is code:
                self._frames[id(frame)] = type(receiver)
                self._begin(type(receiver))
                self.ran.setdefault(holder_of(type(receiver), BackwardKind.CLASS), type(receiver))
        elif event == "return":
            if self._frames.pop(id(frame), None) is not None:
                self._end()
            if code in _OP_CALLS:
                self._op_returned(frame.f_locals["self"], value)

    def _backward_code(self, cls: type) -> CodeType | None:
        """The code of a plain class's ``backward``; None for what is no plain class with a forward beside it."""
        if id(cls) not in self._codes:  # a metaclass may forbid to hash its classes
            code = None
            if not any(one in _NO_CLASSES for one in map(id, cls.__mro__)) and _attribute(cls, "forward"):
                backward = inspect.unwrap(getattr(_attribute(cls, "backward"), "__func__", _attribute(cls, "backward")))
                code = getattr(backward, "__code__", None)
            self._codes[id(cls)] = (cls, code)
        return self._codes[id(cls)][1]

    def _op_returned(self, op: Any, value: object) -> None:
        name = getattr(op, "_qualified_op_name", "") or op.name().partition(".")[0]
        name = name.partition(".")[0]
        if name.partition("::")[0] in _TORCH_OPS:
            return
        for _, leaf in tree.leaves(value):
            node: Any = leaf.grad_fn if isinstance(leaf, torch.Tensor) else None
            if isinstance(node, BackwardCFunction) and not any(node is known for known in self._nodes):
                self._nodes.append(node)
                node.register_prehook(self._op_note(name, node))

    def _op_note(self, name: str, node: Any) -> Callable[..., None]:
        cls = _written(node._forward_cls)

        def note(_cotangents: object) -> None:
            self._note_outermost(cls)
            self.ran.setdefault(Holder(BackwardKind.OP, name), cls)

        return note


@contextmanager
def watching() -> Iterator[Backwards]:
    """Notes the backwards that run in the block; one block at a time."""
    seen = Backwards()
    before = sys.getprofile()
    originals = {name: BackwardCFunction.__dict__[name] for name in _NODE_METHODS}
    for name, original in originals.items():
        setattr(BackwardCFunction, name, seen.through(original))
    sys.setprofile(seen.profile)
    try:
        yield seen
    finally:
        sys.setprofile(before)
        for name, original in originals.items():
            setattr(BackwardCFunction, name, original)


def living_functions() -> tuple[Holder, ...]:
    """Every Function that a module holds under its own name by now, however it was made."""
    found: list[type] = []
    queue: list[Any] = [Function]
    for cls in queue:  # grows while it is walked
        below: list[Any] = [c for c in cls.__subclasses__() if c not in queue]
        queue += below
        found += below
    return tuple(holder_of(cls, BackwardKind.FUNCTION) for cls in found if _is_held(cls) and _differentiates(cls))


def holder_of(cls: type, kind: BackwardKind) -> Holder:
    """A class as a holder of its backward."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    functions = (inspect.unwrap(getattr(v, "__func__", v)) for v in vars(cls).values())
    codes = [f.__code__ for f in functions if isinstance(f, FunctionType)]
    lines = tuple(sorted({code.co_firstlineno for code in codes if code.co_filename == file}))
    return Holder(kind, cls.__qualname__, file, lines)


def _receiver(frame: FrameType) -> object:
    """The first argument of a call; of a wrapper around a method too, which may take it among ``*args``."""
    code = frame.f_code
    if code.co_argcount:
        return frame.f_locals.get(code.co_varnames[0])
    if not code.co_flags & inspect.CO_VARARGS:
        return None
    rest = frame.f_locals.get(code.co_varnames[code.co_kwonlyargcount], ())
    return rest[0] if rest else None


def _is_held(cls: type) -> bool:
    held: object = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        held = getattr(held, part, None)
    return held is cls


def _differentiates(cls: type) -> bool:
    function: Any = cls
    backward = function.backward is not Function.backward or function.vjp is not Function.vjp
    return backward and function.forward is not Function.forward


def _attribute(cls: type, name: str) -> Any:
    return next((vars(one)[name] for one in cls.__mro__ if name in vars(one)), None)


def _written(cls: Any) -> type:
    """The class that somebody wrote, where torch.func has made another one of it."""
    while True:
        function = getattr(cls.backward, "__func__", cls.backward)
        code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
        if code is None or not cells or "autograd_function" not in code.co_freevars:
            return cls  # type: ignore[no-any-return]
        cls = cells[code.co_freevars.index("autograd_function")].cell_contents
