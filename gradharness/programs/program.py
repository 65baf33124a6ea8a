"""A program as plain data: leaves and nodes, from which every list of nodes makes a valid graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradharness.errors import UsageError
from gradharness.programs.op import Shape

if TYPE_CHECKING:
    from gradharness.programs.resolution import Trace

Literal = tuple[list[tuple[Shape, str]], list[tuple[str, tuple[int, ...], int]], int]
_KINDS = ("", "complex", "constant", "complex constant")  # as a literal says what a leaf is


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that a program starts from.

    Attributes:
        shape: Its sizes.
        active: Whether it requires grad.
        complex: Whether its elements are complex.
    """

    shape: Shape
    active: bool = True
    complex: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One op to be applied. Nothing in it can be wrong but the name: the interpreter makes it fit.

    Attributes:
        op: Name of a catalogue op; where that op does not take the operands, the next one of the catalogue does.
        operands: For each operand how many values back it lies, modulo the values there are; missing ones count as 0,
            the newest value.
        choice: Which of the op's parameters, modulo those there are; 0 is the simplest.
    """

    op: str
    operands: tuple[int, ...] = ()
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """Leaves, nodes, and the seed of the leaves' values.

    Attributes:
        leaves: What it starts from; at least one.
        nodes: What is done, in order.
        seed: Gives the leaves' values and the cotangents.
    """

    leaves: tuple[Leaf, ...]
    nodes: tuple[Node, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.leaves:
            raise UsageError("Program: leaves is empty; give at least one Leaf")

    def literal(self) -> Literal:
        """The program in lists, tuples, strings and integers, which ``from_literal`` reads back."""
        leaves = [(leaf.shape, _KINDS[leaf.complex + 2 * (not leaf.active)]) for leaf in self.leaves]
        return leaves, [(n.op, n.operands, n.choice) for n in self.nodes], self.seed

    @classmethod
    def from_literal(cls, literal: Sequence[object]) -> Program:
        """The program that ``literal`` wrote; lists stand for tuples as well, so that JSON does.

        Raises:
            UsageError: If it is not such a literal.
        """
        try:
            leaves, nodes, seed = literal
            return cls(
                leaves=tuple(_leaf(tuple(shape), kind) for shape, kind in leaves),  # type: ignore[attr-defined]
                nodes=tuple(Node(str(op), tuple(map(int, js)), int(p)) for op, js, p in nodes),  # type: ignore[attr-defined]
                seed=int(seed),  # type: ignore[call-overload]
            )
        except (TypeError, ValueError) as error:
            form = "([(shape, kind), ...], [(op, operands, choice), ...], seed)"
            raise UsageError(f"Program: {literal!r:.80} is not of the form {form}: {error}") from error

    @staticmethod
    def from_module(model: Callable[..., Any], example: object) -> Trace:
        """A model's graph; see ``models.from_module``. Its steps are settled already, so it is a ``Trace``."""
        from gradharness.programs.models import from_module  # it is built of traces, which are built of programs

        return from_module(model, example)


def _leaf(shape: Shape, kind: str) -> Leaf:
    number = _KINDS.index(kind)
    return Leaf(shape, active=number < 2, complex=number % 2 == 1)
