"""The graph that autograd has recorded of a program, as a drawing with the subject in one piece."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.autograd.function import BackwardCFunction

from gradharness.model.exhibit import Drawing, DrawnNode, NodeKind
from gradharness.model.subject import Primals, Tensors
from gradharness.subjects.custom_nodes import function_class, graph_nodes

MOST_NODES = 60  # a drawing of more is a carpet

_Node: TypeAlias = Any  # torch's stubs do not describe graph nodes
# torch's own nodes are numbered overloads: MulBackward0.
_BUILTIN = re.compile(r"Backward\d+$")
_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Piece:
    """A call of the subject in a recorded program.

    Attributes:
        inputs: Its inputs, with what was recorded before them.
        roots: Nodes of its outputs, as they were before the next op could write into these.
        guilty: Whether its gradient is the wrong one.
    """

    inputs: Tensors
    roots: tuple[_Node, ...]
    guilty: bool = True


def drawing(
    outputs: Sequence[torch.Tensor],
    leaves: Mapping[str, torch.Tensor],
    *,
    pieces: Sequence[Piece] = (),
    subject: str = "",
    guilty: str = "",
    why: str = "",
) -> Drawing | None:
    """What leads from the leaves to the outputs; None if that is too much for a picture.

    Args:
        outputs: The program's, with their graph.
        leaves: By name; others are left without one.
        pieces: Calls of the subject, each of which becomes a single node.
        subject: What is written in that.
        guilty: Name of the Function whose nodes are to blame, where no piece is.
        why: How the subject stands in the program.
    """
    sketch = _Sketch({id(x): name for name, x in leaves.items()}, subject, guilty)
    try:
        for number, piece in enumerate(pieces):
            sketch.gather(number, piece)
        sketch.draw(outputs, pieces)
    except Exception:  # nodes may be of any kind; without its picture a finding still stands
        return None
    if not 1 < len(sketch.nodes) <= MOST_NODES:
        return None
    return Drawing(nodes=tuple(sketch.nodes), edges=tuple(dict.fromkeys(sketch.edges)), why=why)


@dataclass(slots=True)
class _Sketch:
    """Takes down one graph."""

    names: Mapping[int, str]
    subject: str
    guilty: str
    nodes: list[DrawnNode] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    held: list[_Node] = field(default_factory=list)  # their ids are keys as long as they live
    whole: dict[int, int] = field(default_factory=dict)  # node within a piece → number of the piece
    places: dict[int, int] = field(default_factory=dict)  # node (or -1 - number of a piece) → number of its box

    def gather(self, number: int, piece: Piece) -> None:
        """Notes which nodes a call of the subject is made of: those between its outputs and its inputs."""
        inputs = [n for x in piece.inputs if (n := _node_of(x)) is not None]
        self.held += inputs
        ends = {id(n) for n in inputs}
        queue = [n for n in piece.roots if n is not None]
        for node in queue:  # grows while it is walked
            if id(node) in ends or id(node) in self.whole or _variable(node) is not None:
                continue
            self.held.append(node)
            self.whole[id(node)] = number
            queue.extend(parent for parent, _ in node.next_functions if parent is not None)

    def draw(self, outputs: Sequence[torch.Tensor], pieces: Sequence[Piece]) -> None:
        """Boxes from the leaves on, so that an edge leads from a smaller number to a larger one where it can."""
        self.held += graph_nodes(outputs)
        walked = list(reversed(graph_nodes(outputs)))
        for node in walked:
            self._box(node, pieces)
        for node in walked:
            for parent, _ in node.next_functions:
                if parent is not None:
                    self._edge(self._box(parent, pieces), self._box(node, pieces))
        for number, y in enumerate(outputs):
            box = self._add(f"output {number}" if len(outputs) > 1 else "output", NodeKind.OUTPUT)
            if y.grad_fn is not None:
                self._edge(self._box(y.grad_fn, pieces), box)

    def _box(self, node: _Node, pieces: Sequence[Piece]) -> int:
        piece = self.whole.get(id(node))
        key = id(node) if piece is None else -1 - piece
        if key not in self.places:
            self.held.append(node)
            self.places[key] = self._made(node) if piece is None else self._piece(piece, pieces)
        return self.places[key]

    def _piece(self, number: int, pieces: Sequence[Piece]) -> int:
        call = f", call {number + 1}" if len(pieces) > 1 else ""
        return self._add(self.subject + call, NodeKind.SUBJECT, guilty=pieces[number].guilty)

    def _made(self, node: _Node) -> int:
        variable = _variable(node)
        if variable is not None:
            return self._add(self.names.get(id(variable), "a parameter"), NodeKind.LEAF)
        if isinstance(node, BackwardCFunction):
            name = function_class(node).__name__
            return self._add(name, NodeKind.SUBJECT, guilty=bool(self.guilty) and name == self.guilty)
        return self._add(_op_name(node), NodeKind.OP)

    def _add(self, label: str, kind: NodeKind, *, guilty: bool = False) -> int:
        self.nodes.append(DrawnNode(label=label, kind=kind, guilty=guilty))
        return len(self.nodes) - 1

    def _edge(self, start: int, end: int) -> None:
        if start != end:
            self.edges.append((start, end))


def named(outputs: Sequence[torch.Tensor], primals: Primals) -> dict[str, torch.Tensor]:
    """The leaves of a recorded graph that are copies of a point's, by their labels."""
    variables = [v for node in graph_nodes(outputs) if (v := _variable(node)) is not None]
    return {
        label: v
        for label, x in zip(primals.labels, primals.leaves, strict=True)
        for v in variables
        if v.shape == x.shape and torch.equal(v, x)
    }


def roots(outputs: Sequence[torch.Tensor]) -> tuple[_Node, ...]:
    """The nodes of some outputs as they are now."""
    return tuple(y.grad_fn for y in outputs)


def _node_of(x: torch.Tensor) -> _Node:
    """The node of a tensor: what made it, or what accumulates its gradient."""
    return x.grad_fn if x.grad_fn is not None else next(_accumulators(x), None)


def _accumulators(x: torch.Tensor) -> Iterator[_Node]:
    if x.requires_grad:
        with torch.enable_grad():
            node: _Node = x.view_as(x).grad_fn
        yield node.next_functions[0][0]


def _variable(node: _Node) -> torch.Tensor | None:
    found = getattr(node, "variable", None)
    return found if isinstance(found, torch.Tensor) else None


def _op_name(node: _Node) -> str:
    """``MulBackward0`` as ``mul``, ``NativeLayerNormBackward0`` as ``native_layer_norm``."""
    return _INNER_CAPITAL.sub("_", _BUILTIN.sub("", str(node.name()).rpartition(":")[2])).lower()
