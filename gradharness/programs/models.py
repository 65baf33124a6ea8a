"""A user's model as a program whose steps are settled: its torch.fx graph, every call of which becomes a step.

A call that a catalogue op repeats bit for bit becomes that op, with its VJP by hand. All others stay opaque: the call
as it was made, with autograd of that call alone as its VJP. So each hand-written backward in a model is one step, and
the tape gives what it gives by itself, where autograd of the whole model gives what it gives in its context.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.func import functional_call

from gradharness.errors import UsageError, first_line
from gradharness.model.subject import Tensors
from gradharness.numerics import tree
from gradharness.numerics.tolerance import tolerance_for
from gradharness.programs.catalogue import Catalogue, catalogue
from gradharness.programs.op import Op
from gradharness.programs.opaque import OpaqueCall, OpaqueOp, Operand, called, called_module, opaque_op
from gradharness.programs.program import Leaf, Program
from gradharness.programs.recognition import recognised
from gradharness.programs.resolution import Step, Trace
from gradharness.subjects.custom_nodes import custom_nodes, function_class, standing_in

Model: TypeAlias = Callable[..., Any]
_PARTS = (operator.getitem, getattr)
_FORM = "Program.from_module: {}"


def from_module(model: Model, example: object, *, ops: Catalogue | None = None) -> Trace:
    """The graph of a model at one example, as steps on its inputs, parameters and buffers.

    Args:
        model: A module, or a function of tensors. It is not changed.
        example: Its arguments: a tuple or list, or one tensor. What is no tensor is part of the graph.
        ops: Which ops are recognised; the whole catalogue by default.

    Returns:
        The leaves are the tensors of the example, in order, and after them the parameters and buffers that the model
        uses, each once. Floating inputs, and parameters that require grad, are differentiated.

    Raises:
        UsageError: If the model does not run, if torch.fx cannot follow it (control flow that depends on values), or
            if its graph gives other values than it does (random numbers, writes that views share).
    """
    arguments = tuple(example) if isinstance(example, tuple | list) else (example,)
    expected = _run(model, arguments)
    graph, root, inputs = _traced(model, arguments, expected)
    reader = _Reader(root, ops or catalogue())
    with torch.no_grad():
        reader.read(graph, inputs)
    trace = reader.finish()
    with torch.no_grad():
        again = trace.run(trace.leaves)
    if len(again) != len(expected) or not all(_alike(a, b) for a, b in zip(again, expected, strict=True)):
        reason = (
            "the graph gives other values than the model: it draws random numbers (call .eval()), or writes in place"
        )
        raise UsageError(_FORM.format(reason))
    return trace


def _run(model: Model, arguments: tuple[object, ...]) -> Tensors:
    """The model's output tensors, with their graph; buffers are left as they were."""
    copies = tree.map_tensors(_attached, arguments)
    try:
        with torch.enable_grad():
            if isinstance(model, torch.nn.Module):
                buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
                value = functional_call(model, buffers, copies)
            else:
                value = model(*copies)
    except Exception as error:  # somebody's model may raise anything
        raise UsageError(_FORM.format(f"the model raises {type(error).__name__}: {first_line(error)}")) from error
    return tree.tensors(value)


def _attached(t: torch.Tensor) -> torch.Tensor:
    return t.detach().clone().requires_grad_(_floats(t))


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they are the same but for round-off: without grad, torch may take another route."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not _floats(one):
        return torch.equal(one, other)
    return not bool(((one - other.detach()).abs() > tolerance_for(one.dtype).allowed(other.detach())).any())


# --- the graph -------------------------------------------------------------------------------------------------------


class _Tracer(fx.Tracer):
    """Goes into modules of torch.nn as well, so that their parameters are seen; ``whole`` ones excepted."""

    def __init__(self, *, whole: bool) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays one call."""
        return self.whole and super().is_leaf_module(m, module_qualified_name)


def _traced(
    model: Model, arguments: tuple[object, ...], outputs: Tensors
) -> tuple[fx.Graph, torch.nn.Module, dict[str, object]]:
    """The graph, where its attributes are, and the value of each placeholder."""
    function = model.forward if isinstance(model, torch.nn.Module) else model
    try:
        bound = inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(_FORM.format(f"the arguments of the example: {error}")) from error
    bound.apply_defaults()
    if any(isinstance(v, tuple | list | dict) and tree.tensors(v) for v in bound.arguments.values()):
        reason = "an argument of the example holds tensors in a container: pass each tensor as an argument of its own"
        raise UsageError(_FORM.format(reason))
    concrete = {name: v for name, v in bound.arguments.items() if not isinstance(v, torch.Tensor)}
    problems: list[Exception] = []
    for whole in (False, True):
        tracer = _Tracer(whole=whole)
        try:
            with _functions_whole(tracer, outputs):
                graph = tracer.trace(model, concrete_args=concrete or None)
            return graph, tracer.root, dict(bound.arguments)
        except Exception as error:  # tracing runs somebody's code on stand-ins, which may raise anything
            problems.append(error)
    raise UsageError(_FORM.format(f"torch.fx cannot follow the model: {first_line(problems[0])}")) from problems[0]


@contextmanager
def _functions_whole(tracer: fx.Tracer, outputs: Tensors) -> Iterator[None]:
    """For tracing: each autograd Function among the nodes of the outputs is one call, and not what its forward does."""

    def recording(cls: type[torch.autograd.Function], *, with_ctx: bool) -> Callable[..., object]:
        def forward(*arguments: Any) -> object:
            return tracer.create_proxy("call_function", cls.apply, arguments[1 if with_ctx else 0 :], {})

        return forward

    with ExitStack() as stack:
        for cls in {function_class(node) for node in custom_nodes(outputs)}:
            own = cls.setup_context is not torch.autograd.Function.setup_context
            methods: dict[str, Callable[..., object]] = {"forward": recording(cls, with_ctx=not own)}
            if own:
                methods["setup_context"] = lambda *_: None
            stack.enter_context(standing_in(cls, methods))
        yield


# --- from the graph to steps -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """Runs a graph node by node, and notes the steps.

    Attributes:
        root: Where ``get_attr`` finds parameters and buffers, and ``call_module`` modules.
        ops: Ops that are recognised.
        known: What each graph node gave: values of any structure, with an ``Operand`` for every tensor.
    """

    root: torch.nn.Module
    ops: Catalogue
    known: dict[fx.Node, Any] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    needed: list[bool] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    attributes: dict[int, Operand] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()

    def read(self, graph: fx.Graph, inputs: Mapping[str, object]) -> None:
        """All nodes; those that make leaves first, for a program begins with them."""
        nodes = list(graph.nodes)
        given = iter(inputs.values())
        for node in nodes:
            if node.op == "placeholder":
                self.known[node] = self._leaf(next(given, None), active=True)
        for node in nodes:
            if node.op == "get_attr":
                self.known[node] = self._attribute(str(node.target))
            elif node.op == "call_module":
                for parameter in self.root.get_submodule(str(node.target)).parameters():
                    self._shared(parameter)
        for node in nodes:
            if node.op.startswith("call_"):
                self._call(node)
            elif node.op == "output":
                found = self._value(node.args)
                self.outputs = tuple(t.number for _, t in tree.leaves(found) if isinstance(t, Operand))

    def finish(self) -> Trace:
        """What was read."""
        program = Program(leaves=tuple(self.leaves), nodes=())
        return Trace(program, tuple(self.steps), tuple(self.values), tuple(self.needed), self.outputs)

    def _leaf(self, value: object, *, active: bool) -> object:
        if not isinstance(value, torch.Tensor):
            return value
        active = active and _floats(value)
        self.leaves.append(Leaf(tuple(value.shape), active, value.is_complex()))
        return self._added(value.detach().clone(), needed=active)

    def _added(self, value: torch.Tensor, *, needed: bool) -> Operand:
        self.values.append(value)
        self.needed.append(needed)
        return Operand(len(self.values) - 1)

    def _attribute(self, name: str) -> object:
        value: Any = self.root
        for part in name.split("."):
            value = getattr(value, part)
        return self._shared(value) if isinstance(value, torch.Tensor) else value

    def _shared(self, tensor: torch.Tensor) -> Operand:
        """The leaf of a parameter or buffer; tied ones are one leaf."""
        if id(tensor) not in self.attributes:
            leaf = self._leaf(tensor, active=tensor.requires_grad)
            assert isinstance(leaf, Operand)
            self.attributes[id(tensor)] = leaf
        return self.attributes[id(tensor)]

    def _value(self, arguments: Any) -> Any:
        return fx.node.map_aggregate(arguments, lambda a: self.known[a] if isinstance(a, fx.Node) else a)

    def _call(self, node: fx.Node) -> None:
        arguments, keywords = self._value(node.args), self._value(dict(node.kwargs))
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            own = {name: self._shared(p) for name, p in module.named_parameters()}
            call = called_module(node.name, module, own, arguments, keywords)
        else:
            call = called(node, arguments, keywords)
            if node.target in _PARTS and not isinstance(arguments[0], Operand):
                self.known[node] = node.target(*arguments)  # one of several results is no step of its own
                return
        numbers, call = _numbered(call)
        operands = [self.values[i] for i in numbers]
        value = call(operands)
        results = tree.tensors(value)
        if not numbers or not results:
            self.known[node] = value  # a size, or a tensor that depends on no leaf
            return
        self.known[node] = self._stepped(call, numbers, value, results)
        if call.writes:
            self._rewired(arguments[0], self.known[node])

    def _stepped(self, call: OpaqueCall, numbers: tuple[int, ...], value: object, results: Tensors) -> object:
        """Adds a step, and gives what the call returned with an ``Operand`` for each tensor."""
        operands = [self.values[i] for i in numbers]
        found = recognised(call, operands, results, self.ops)
        op, parameters = found if found is not None else (opaque_op(call, value, len(numbers)), {})
        needed = any(self.needed[i] for i in numbers)
        made = [self._added(y, needed=needed and _floats(y)) for y in results]
        self.steps.append(Step(op, parameters, numbers, tuple(o.number for o in made), len(self.steps)))
        rest = iter(made)
        return tree.map_tensors(lambda _: next(rest), value)

    def _rewired(self, before: object, after: object) -> None:
        """What was written into has its new value from here on."""
        for node, value in self.known.items():
            if value is before or (isinstance(value, Operand) and value == before):
                self.known[node] = after


def _floats(t: torch.Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def _numbered(call: OpaqueCall) -> tuple[tuple[int, ...], OpaqueCall]:
    """Numbers of the values that the call takes, as they come, and the call with the places among these instead."""
    numbers: list[int] = []

    def place(argument: Any) -> Any:
        if not isinstance(argument, Operand):
            return argument
        numbers.append(argument.number)
        return Operand(len(numbers) - 1)

    arguments = fx.node.map_aggregate(call.arguments, place)
    keywords = fx.node.map_aggregate(dict(call.keywords), place)
    return tuple(numbers), replace(call, arguments=arguments, keywords=keywords)


# --- back to torch.fx ------------------------------------------------------------------------------------------------


def to_fx(trace: Trace) -> fx.GraphModule:
    """The steps as a torch.fx graph: one placeholder for each leaf, a tuple of all outputs.

    Args:
        trace: Of a model, or of a drawn program.

    Returns:
        Called with the leaves, ``to_fx(trace)(*trace.leaves)``, it gives the outputs.
    """
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    values: dict[int, fx.Proxy] = {
        i: fx.Proxy(graph.placeholder(f"x{i}"), tracer) for i in range(len(trace.program.leaves))
    }
    for step in trace.steps:
        operands = [values[i] for i in step.operands]
        values.update(zip(step.results, _emitted(tracer, step, operands), strict=True))
    graph.output(tuple(values[i].node for i in trace.outputs))
    return fx.GraphModule(torch.nn.Module(), graph)


def _emitted(tracer: fx.proxy.TracerBase, step: Step, operands: Sequence[fx.Proxy]) -> list[Any]:
    """The step's call in the graph, and a proxy for each result."""
    if isinstance(step.op, OpaqueOp):
        found = step.op.recorded.emitted(tracer, operands)
        return [tree.get(found, path) for path in step.op.paths]
    before = len(tracer.graph.nodes)
    names = [f"operand_{i}" for i in range(len(operands))]
    try:
        made = eval(step.op.source(names, step.parameters), {"torch": torch}, dict(zip(names, operands, strict=True)))
    except Exception:  # code that asks for a size, which a proxy has not, or names a function of the user's
        for node in reversed(list(tracer.graph.nodes)[before:]):
            tracer.graph.erase_node(node)
        made = tracer.create_proxy("call_function", _whole(step.op), tuple(operands), dict(step.parameters))
    return [made] if len(step.results) == 1 and step.op.outputs == 1 else [made[k] for k in range(len(step.results))]


def _whole(op: Op) -> Callable[..., Any]:
    """The op's forward under the op's name, by which torch.fx prints it."""

    def forward(*operands: Any, **parameters: Any) -> Any:
        return op.forward(*operands, **parameters)

    forward.__name__, forward.__module__ = op.name, "ops"
    return forward
