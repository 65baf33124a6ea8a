"""Looks for a program in which a VJP under test is wrong, and makes it small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from gradharness.errors import OracleUnavailable
from gradharness.inputs.programs import DEFAULT, Knobs, draw_program, traced
from gradharness.programs.agreement import Disagreement, Guilty, disagreement
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.resolution import Trace
from gradharness.programs.shrinking import shrink
from gradharness.programs.source import source

_SEEDS = 24  # of values for a program of the guilty op alone
_STRIDE = 1_000_003  # between the seeds of one search and the next


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFinding:
    """A VJP that is wrong, and the smallest program that was found to show it.

    Attributes:
        program: The shrunk program; ``program.literal()`` replays it.
        original: As it was drawn.
        after: Number of programs that were looked at, this one included.
        guilty: The node to blame, and what is wrong there.
        disagreement: What differs in the leaves' gradients.
        source: The program as plain PyTorch source, with its gradients.
    """

    program: Program
    original: Program
    after: int
    guilty: Guilty
    disagreement: Disagreement
    source: str

    def __str__(self) -> str:
        lines = [f"the VJP of {self.guilty.op} {self.guilty.detail}, in a program of {len(self.program.nodes)} ops"]
        worst = worst_element(self.disagreement)
        lines += [worst] if worst else []
        return "\n".join([*lines, f"replay: {self.program.literal()!r}", self.source])


def worst_element(found: Disagreement) -> str:
    """``x0[1, 2]: -0.5, autograd has 0.5``; empty where nothing was compared."""
    if found.leaf is None or (found.expected is None and found.got is None):
        return ""
    expected = found.expected if found.expected is not None else torch.zeros_like(found.got)  # type: ignore[arg-type]
    got = found.got if found.got is not None else torch.zeros_like(expected)
    difference = torch.nan_to_num((got - expected).abs(), nan=torch.inf)
    index = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
    place = f"x{found.leaf}{list(index) if index else ''}"
    return f"{place}: {got[index].item():.6g}, autograd has {expected[index].item():.6g}"


def look(program: Program, ops: Catalogue) -> tuple[Trace, Disagreement] | None:
    """The program's steps and how its gradients differ; None where they agree, or nothing can be told."""
    trace, cotangents = traced(program, ops)
    try:
        found = disagreement(trace, cotangents)
    except OracleUnavailable:
        return None
    return None if found is None or found.guilty is None else (trace, found)


def search(ops: Catalogue, seed: int = 0, count: int = 400, knobs: Knobs = DEFAULT) -> ProgramFinding | None:
    """Looks at programs until one shows a wrong VJP, and shrinks that.

    Args:
        ops: The catalogue; its suspects come often, and all others are trusted.
        seed: Gives the same programs again.
        count: Most programs to look at.
        knobs: How large they are.

    Returns:
        The finding; None if there is none.
    """
    for number in range(count):
        program = draw_program(seed * _STRIDE + number, knobs, ops)
        if (seen := look(program, ops)) is not None:
            return _shrunk(ops, program, number + 1, seen)
    return None


def _shrunk(ops: Catalogue, original: Program, after: int, seen: tuple[Trace, Disagreement]) -> ProgramFinding:
    trace, found = seen
    assert found.guilty is not None
    wanted = found.guilty.op, found.guilty.wrong

    def attempt(program: Program) -> Program | None:
        again = look(program, ops)
        if again is None or again[1].guilty is None:
            return None
        guilty = again[1].guilty
        return again[0].program if (guilty.op, guilty.wrong) == wanted else None

    start = next((p for c in _alone(trace, found.guilty) if (p := attempt(c)) is not None), trace.program)
    smallest = shrink(start, attempt)
    last = look(smallest, ops)
    assert last is not None
    assert last[1].guilty is not None
    _, cotangents = traced(smallest, ops)
    return ProgramFinding(
        program=smallest,
        original=original,
        after=after,
        guilty=last[1].guilty,
        disagreement=last[1],
        source=source(last[0], cotangents),
    )


def _alone(trace: Trace, guilty: Guilty) -> Iterator[Program]:
    """The guilty op by itself, on leaves of the shapes that its operands had, with several seeds."""
    node = trace.program.nodes[guilty.node]
    made = {i: s for s in trace.steps if s.prepares and s.node == guilty.node for i in s.results}
    operands = []
    for number in trace.steps[guilty.step].operands:
        while number in made:  # the same steps will make it fit again
            number = made[number].operands[0]
        operands.append(number)
    numbers = sorted(set(operands))
    leaves = tuple(Leaf(tuple(x.shape), complex=x.is_complex()) for x in (trace.values[i] for i in numbers))
    back = tuple(len(numbers) - 1 - numbers.index(i) for i in operands)
    alone = Program(leaves, (Node(node.op, back, node.choice),), trace.program.seed)
    for k in range(_SEEDS):
        yield replace(alone, seed=trace.program.seed + k)
