"""Looks for a program in which a VJP under test is wrong, and makes it small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from gradharness.engine.program_script import script
from gradharness.errors import OperandsRefused, OracleUnavailable, UsageError
from gradharness.inputs.programs import DEFAULT, Knobs, draw_program, traced
from gradharness.inputs.seeds import program_seed
from gradharness.model.subject import Tensors
from gradharness.programs.agreement import Disagreement, Guilty, Wrong, disagreement
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.own import OwnForward
from gradharness.programs.program import Leaf, Node, Program
from gradharness.programs.resolution import Trace
from gradharness.programs.shrinking import shrink
from gradharness.programs.source import source, step_source

_SEEDS = 24  # of values for a program of the guilty op alone
_ALONE = 4  # one program in so many is of the op under test alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFinding:
    """A VJP that is wrong, and the smallest program that was found to show it. Its text is the report.

    Attributes:
        program: The shrunk program; ``program.literal()`` replays it.
        original: As it was drawn.
        after: Number of programs that were looked at, this one included.
        guilty: The node to blame, and what is wrong there.
        line: The node's line in ``source``.
        disagreement: What differs in the leaves' gradients.
        source: The program as plain PyTorch source, with its gradients.
        reproducer: A script that exits with 1 while the VJP is wrong, and needs torch and the VJP's file; empty for
            an op of the catalogue's own, and where the VJP is in no file.
    """

    program: Program
    original: Program
    after: int
    guilty: Guilty
    line: str
    disagreement: Disagreement
    source: str
    reproducer: str = ""

    @property
    def title(self) -> str:
        """The finding in one line."""
        count = len(self.program.nodes)
        ops = f"{count} op" if count == 1 else f"{count} ops"
        return f"the VJP of {self.guilty.op} {self.guilty.detail}, in a program of {ops}"

    def __str__(self) -> str:
        worst = worst_element(self.disagreement)
        place = f"guilty: node {self.guilty.node}, {self.line}"
        lines = [self.title, place, *([worst] if worst else [])]
        alone = [f"The VJP alone, as a script:\n\n{self.reproducer}"] if self.reproducer else []
        return "\n".join([*lines, f"replay: {self.program.literal()!r}", self.source, *alone])


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


@dataclass(frozen=True, slots=True)
class Seen:
    """One program that was looked at.

    Attributes:
        trace: Its steps.
        cotangents: One for each of its outputs.
        found: How its gradients differ; None where they agree.
        reason: Why nothing can be told; empty where something can.
    """

    trace: Trace
    cotangents: Tensors
    found: Disagreement | None = None
    reason: str = ""

    def tried(self, names: Sequence[str]) -> bool:
        """Whether something could be told of an op of one of these names."""
        return not self.reason and not set(names).isdisjoint(self.trace.ops)

    @property
    def guilty(self) -> Guilty | None:
        """Whose VJP is wrong; None where none is, or nothing can be told."""
        return None if self.found is None else self.found.guilty


def see(program: Program, ops: Catalogue) -> Seen:
    """One program, by hand-written VJPs beside autograd.

    Raises:
        UnknownNameError: If a node names an op that the catalogue has not.
    """
    trace, cotangents = traced(program, ops)
    try:
        found = disagreement(trace, cotangents)
    except (OracleUnavailable, OperandsRefused) as error:
        return Seen(trace, cotangents, reason=str(error))
    unsure = found is not None and found.guilty is None
    return Seen(trace, cotangents, found, "round-off or a kink may explain the difference" if unsure else "")


def look(program: Program, ops: Catalogue) -> tuple[Trace, Disagreement] | None:
    """The program's steps and how its gradients differ; None where they agree, or nothing can be told."""
    seen = see(program, ops)
    return None if seen.found is None or seen.guilty is None else (seen.trace, seen.found)


def drawn(ops: Catalogue, number: int, *, seed: int = 0, knobs: Knobs = DEFAULT) -> Program:
    """The program of this number in a search; where ops are under test, some programs are of one of them alone."""
    alone = bool(ops.suspects) and number % _ALONE == 0
    return draw_program(program_seed(seed, number), replace(knobs, least=1, most=1) if alone else knobs, ops)


def search(
    ops: Catalogue, *, seed: int = 0, count: int = 400, knobs: Knobs = DEFAULT, first: int = 0
) -> ProgramFinding | None:
    """Looks at programs until one shows a wrong VJP, and shrinks that.

    Args:
        ops: The catalogue; its suspects come often, and all others are trusted.
        seed: Gives the same programs again.
        count: Most programs to look at.
        knobs: How large they are.
        first: Number of the program to begin with.

    Returns:
        The finding; None if there is none.

    Raises:
        UsageError: If none of the programs could use an op under test.
    """
    used = not ops.suspects
    for number in range(first, first + count):
        seen = see(drawn(ops, number, seed=seed, knobs=knobs), ops)
        if seen.guilty is not None:
            return shrunk(seen, ops, after=number - first + 1)
        used = used or seen.tried(ops.suspects)
    if not used:
        raise UsageError(never_used(ops, count))
    return None


def never_used(ops: Catalogue, count: int) -> str:
    """What to say of ops under test that were part of no program that could tell.

    Args:
        ops: The catalogue.
        count: Number of programs that were looked at.
    """
    refusals = [f.refusal for n in ops.suspects if isinstance(f := ops.find(n).forward, OwnForward) and f.refusal]
    why = f"its forward raised {refusals[0]}" if refusals else "it takes no operands of shapes that programs have"
    return f"nothing was tried: none of {count} programs could use {', '.join(ops.suspects)}: {why}"


def shrunk(seen: Seen, ops: Catalogue, *, after: int = 1) -> ProgramFinding:
    """The smallest program that shows the same op to be wrong in the same way.

    Args:
        seen: Has somebody to blame.
        ops: The catalogue that it was seen with.
        after: Number of programs that were looked at, this one included.
    """
    assert seen.guilty is not None
    wanted = blamed(seen.guilty)

    def attempt(program: Program) -> Program | None:
        again = see(program, ops)
        return again.trace.program if again.guilty is not None and blamed(again.guilty) == wanted else None

    original = seen.trace.program
    start = next((p for c in _alone(seen.trace, seen.guilty) if (p := attempt(c)) is not None), original)
    last = see(shrink(start, attempt), ops)
    return finding(last, ops, original=original, after=after)


def finding(seen: Seen, ops: Catalogue, *, original: Program | None = None, after: int = 1) -> ProgramFinding:
    """The finding of a program as it is, without making it smaller.

    Args:
        seen: Has somebody to blame.
        ops: The catalogue that it was seen with.
        original: As it was drawn, if it was another one.
        after: Number of programs that were looked at, this one included.
    """
    assert seen.found is not None
    assert seen.guilty is not None
    found = ProgramFinding(
        program=seen.trace.program,
        original=seen.trace.program if original is None else original,
        after=after,
        guilty=seen.guilty,
        line=step_source(seen.trace, seen.trace.steps[seen.guilty.step]),
        disagreement=seen.found,
        source=source(seen.trace, seen.cotangents),
    )
    trusted = seen.guilty.op not in ops.suspects
    alone = script(seen.trace, seen.cotangents, seen.guilty, trusted=trusted, title=found.title)
    return replace(found, reproducer=alone)


def blamed(guilty: Guilty) -> tuple[str, Wrong]:
    """What makes two findings one: the op, and which way it is wrong."""
    return guilty.op, guilty.wrong


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
