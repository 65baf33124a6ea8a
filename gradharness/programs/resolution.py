"""The total interpreter: from a program and the values of its leaves to concrete steps.

Every list of nodes is a valid program. What does not fit is made to fit by steps of its own, which are recorded, so
that all ways of running a program run the same ones; an op that takes no operands of such shapes gives way to the next
op of the catalogue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.fx import GraphModule

from gradharness.errors import OperandsRefused
from gradharness.model.subject import Tensors
from gradharness.programs import adapters
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.op import Domain, Op, Parameters, Shape
from gradharness.programs.program import Node, Program

# Larger values are scaled down, by a power of two, so that neither they nor derivatives run away along a chain.
LARGEST = 4.0
_MOST_ELEMENTS = 2048
_MOST_AXES = 6
_SHIFTS = 6  # of the last operand, before an op gives way: what products take is rare among arbitrary values


@dataclass(frozen=True, slots=True)
class Step:
    """One op with its parameters, applied to values by number.

    Attributes:
        op: What is applied.
        parameters: As its forward takes them.
        operands: Numbers of the values that go in.
        results: Numbers of the values that come out.
        node: Number of the program's node that it belongs to.
        prepares: Whether it only makes a value fit; its op is then one of ``adapters``.
    """

    op: Op
    parameters: Parameters
    operands: tuple[int, ...]
    results: tuple[int, ...]
    node: int
    prepares: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """A program whose every step is settled.

    Attributes:
        program: What it was made from; its nodes name the ops and operands that were taken in the end.
        steps: In order.
        values: The leaves, then what each step gave, without grad. In-place steps have written into their operands.
        needed: For each value whether it depends on a leaf that requires grad.
        outputs: Numbers of the values that nothing used: every step matters to one of them.
    """

    program: Program
    steps: tuple[Step, ...]
    values: Tensors
    needed: tuple[bool, ...]
    outputs: tuple[int, ...]

    @property
    def leaves(self) -> Tensors:
        """The leaves' values."""
        return self.values[: len(self.program.leaves)]

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the leaves that require grad."""
        return tuple(i for i, leaf in enumerate(self.program.leaves) if leaf.active)

    @property
    def differentiable(self) -> tuple[int, ...]:
        """Numbers of the outputs that depend on a leaf that requires grad."""
        return tuple(i for i in self.outputs if self.needed[i])

    @property
    def ops(self) -> tuple[str, ...]:
        """Names of the ops, without steps that prepare."""
        return tuple(step.op.name for step in self.steps if not step.prepares)

    def run(self, leaves: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs for other leaves of the same shapes, by the same steps."""
        values = list(leaves)
        for step in self.steps:
            values.extend(step.op.run([values[i] for i in step.operands], step.parameters))
        return tuple(values[i] for i in self.outputs)

    def to_fx(self) -> GraphModule:
        """The steps as a torch.fx graph, called with the leaves; see ``models.to_fx``."""
        from gradharness.programs.models import to_fx  # it is built of traces

        return to_fx(self)


def resolve(program: Program, leaves: Sequence[torch.Tensor], catalogue: Catalogue) -> Trace:
    """Settles all steps of a program.

    Args:
        program: Leaves and nodes.
        leaves: One value for each leaf, of its shape; finite.
        catalogue: The ring of ops.

    Raises:
        UnknownNameError: If a node names an op that the catalogue has not.
    """
    with torch.no_grad():
        builder = _Builder(program, [x.detach() for x in leaves], catalogue)
        for number, node in enumerate(program.nodes):
            builder.add(number, node)
    return builder.finish()


class _Builder:
    """What has been settled so far."""

    def __init__(self, program: Program, leaves: list[torch.Tensor], catalogue: Catalogue) -> None:
        self.program = program
        self.catalogue = catalogue
        self.values = leaves
        self.shapes: list[Shape] = [tuple(x.shape) for x in leaves]
        self.complex = [x.is_complex() for x in leaves]
        self.needed = [leaf.active for leaf in program.leaves]
        self.steps: list[Step] = []
        self.pool = list(range(len(leaves)))  # what nodes may use: neither indices nor what only prepares
        self.settled: list[Node] = []
        self.groups: list[list[int]] = []  # what each node has put into the pool

    def add(self, number: int, node: Node) -> None:
        """Adds the node, or what it gives way to; nothing where no op takes what there is."""
        self.catalogue.find(node.op)
        start = self.catalogue.numbers[node.op]
        ring = self.catalogue.ops
        count = len(self.pool)
        asked = [place % count for place in node.operands]
        for k in range(len(ring)):
            op = ring[(start + k) % len(ring)]
            given = [*asked[: op.arity], *[0] * (op.arity - len(asked))]
            for shift in range(min(_SHIFTS, count) if op.arity > 1 else 1):
                # A replay is settled already: the same steps come out.
                places = [*given[:-1], (given[-1] + shift) % count]
                if self._apply(op, number, [self.pool[-1 - j] for j in places], node.choice):
                    self.settled.append(Node(op.name, tuple(places), node.choice))
                    return

    def _apply(self, op: Op, node: int, operands: list[int], choice: int) -> bool:
        """Whether the op takes these operands, and then has been applied to them."""
        unfitted = op.arity < 2 or not op.same_shape  # shapes stay: most ops that do not fit are told by them at once
        if unfitted and op.parameters([self.shapes[i] for i in operands], choice) is None:
            return False
        before = len(self.steps), len(self.values)
        operands = self._fitted(op, node, operands)
        parameters = op.parameters([self.shapes[i] for i in operands], choice)
        if parameters is None or (op.in_place and not self._keeps_shape(op, operands)):
            return self._undo(before)
        operands = [self._within(op.domain(j), node, i) for j, i in enumerate(operands)]
        if op.in_place:
            operands[0] = self._step(adapters.CLONE, {}, (operands[0],), node)[0]
        try:
            results = self._step(op, parameters, tuple(operands), node, prepares=False)
        except (torch.linalg.LinAlgError, OperandsRefused):  # type: ignore[attr-defined]
            return self._undo(before)
        sizes = [_largest(self.values[i]) for i in results[: len(results) - op.discrete]]
        if not all(map(math.isfinite, sizes)):
            return self._undo(before)
        self.groups.append([self._scaled(node, i, size) for i, size in zip(results, sizes, strict=False)])
        self.pool.extend(self.groups[-1])
        return True

    def _keeps_shape(self, op: Op, operands: list[int]) -> bool:
        """Whether what an in-place op computes has the shape of what it writes into."""
        shapes = [self.shapes[i] for i in operands]
        return not op.same_shape or torch.broadcast_shapes(*shapes) == shapes[0]  # type: ignore[no-untyped-call]

    def _undo(self, before: tuple[int, int]) -> bool:
        del self.steps[before[0] :]
        for known in (self.values, self.shapes, self.complex, self.needed):
            del known[before[1] :]
        return False

    def _step(
        self, op: Op, parameters: Parameters, operands: tuple[int, ...], node: int, *, prepares: bool = True
    ) -> tuple[int, ...]:
        made = op.run([self.values[i] for i in operands], parameters)
        results = tuple(range(len(self.values), len(self.values) + len(made)))
        self.values.extend(made)
        self.shapes.extend(tuple(y.shape) for y in made)
        self.complex.extend(y.is_complex() for y in made)
        last = len(made) - op.discrete
        needed = any(self.needed[i] for i in operands)
        self.needed.extend(needed and k < last for k in range(len(made)))
        self.steps.append(Step(op, parameters, operands, results, node, prepares))
        return results

    def _fitted(self, op: Op, node: int, operands: list[int]) -> list[int]:
        """Operands of one dtype, that broadcast where they have to."""
        complexes = [self.complex[i] for i in operands]
        fitted = operands
        if any(complexes) and (not op.complex or op.domains):
            fitted = [
                self._step(adapters.REAL_PART, {}, (i,), node)[0] if c else i
                for i, c in zip(operands, complexes, strict=True)
            ]
        elif any(complexes) and not all(complexes):
            fitted = [
                i if c else self._step(adapters.AS_COMPLEX, {}, (i,), node)[0]
                for i, c in zip(operands, complexes, strict=True)
            ]
        if op.arity < 2 or not op.same_shape:
            return fitted
        shapes = [self.shapes[i] for i in fitted]
        for j, axes in enumerate(offending(shapes)):
            if axes:
                fitted[j] = self._step(adapters.MEAN, {"dim": axes}, (fitted[j],), node)[0]
        return fitted

    def _within(self, domain: Domain, node: int, value: int) -> int:
        if domain is Domain.REAL:
            return value
        return self._step(adapters.INTO[domain], {}, (value,), node)[0]

    def _scaled(self, node: int, value: int, largest: float) -> int:
        if largest <= LARGEST:
            return value
        factor = 2.0 ** -math.ceil(math.log2(largest / LARGEST))
        return self._step(adapters.SCALE, {"factor": factor}, (value,), node)[0]

    def finish(self) -> Trace:
        """The trace of all that was added."""
        used = {i for step in self.steps for i in step.operands}
        # Of an op with several results, those beside a used one get no cotangent unless they are used as well.
        outputs = [i for group in self.groups if not used.intersection(group) for i in group]
        return Trace(
            program=replace(self.program, nodes=tuple(self.settled)),
            steps=tuple(self.steps),
            values=tuple(self.values),
            needed=tuple(self.needed),
            outputs=tuple(outputs),
        )


def _largest(y: torch.Tensor) -> float:
    """Size of the largest element; not finite if one is not, or if there are none or too many of them."""
    if not 0 < y.numel() <= _MOST_ELEMENTS or y.dim() > _MOST_AXES:
        return math.inf
    return float(torch.linalg.vector_norm(y, torch.inf))


def offending(shapes: Sequence[Shape]) -> list[tuple[int, ...]]:
    """For each shape the axes (negative) along which it does not broadcast with those before it."""
    sizes: dict[int, int] = {}
    found = []
    for shape in shapes:
        axes = []
        for axis in range(-len(shape), 0):
            size = shape[axis]
            if size == 1:
                continue
            if sizes.setdefault(axis, size) != size:
                axes.append(axis)
        found.append(tuple(axes))
    return found
