"""Small programs around a subject: what its inputs come from, and what is done with its outputs.

Whatever comes before gives the same values, bit for bit; whatever comes after is plain torch. So the gradients are
known: the backward by itself, at the very same primals and cotangents, between two parts that autograd knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from gradharness.inputs.programs import Knobs, draw_program
from gradharness.model.case import Case
from gradharness.model.subject import Tensors
from gradharness.programs.catalogue import catalogue
from gradharness.programs.program import Leaf, Program
from gradharness.programs.resolution import LARGEST, Trace, resolve
from gradharness.programs.source import step_source

After: TypeAlias = Callable[
    [Sequence[torch.Tensor], Sequence[torch.Tensor], Sequence[torch.Tensor]], list[torch.Tensor]
]
_CHAIN = Knobs(least=1, most=3, leaves=1, complex=0)


@dataclass(frozen=True, slots=True)
class Context:
    """A program with a subject in it.

    Attributes:
        why: How the subject stands in it, as in "where …".
        after: ``after(ys, branches, xs)``: what is done with the subject's outputs. Branches are tensors like the
            outputs, of zeros and made before them; xs are the subject's inputs.
        lines: The body of the same as source; it ends in a ``return``.
        before: For each leaf the number of what it goes through first; empty for nothing.
    """

    why: str
    after: After
    lines: tuple[str, ...]
    before: tuple[int, ...] = ()


# What gives the same values, as code and as the text of it.
BEFORE: tuple[tuple[Callable[[torch.Tensor], torch.Tensor], str], ...] = (
    (lambda x: (x * -1) * -1, "{0} * -1 * -1"),
    (lambda x: torch.cat([x[None], x[None] * 0])[0], "torch.cat([{0}[None], {0}[None] * 0])[0]"),
    (lambda x: x[None].expand(2, *x.shape)[1], "{0}[None].expand(2, *{0}.shape)[1]"),
    (lambda x: x.clone().mul_(1), "{0}.clone().mul_(1)"),
    (lambda x: torch.stack([x, x * 0], -1)[..., 0], "torch.stack([{0}, {0} * 0], -1)[..., 0]"),
    (
        lambda x: x.permute([*range(x.dim())][::-1]).clone().permute([*range(x.dim())][::-1]),
        "{0}.permute([*range({0}.dim())][::-1]).clone().permute([*range({0}.dim())][::-1])",
    ),
)

_STRIDED = 4  # from this one on there are gaps, or another order of axes


def _simple(why: str, after: After, text: str) -> Context:
    return Context(why, after, (f"return {text}",))


_SIMPLE = (
    _simple(
        "its output is summed up, so that its cotangent is expanded from one number",
        lambda ys, _bs, _xs: [y.sum() for y in ys],
        "[y.sum() for y in ys]",
    ),
    _simple(
        "its output is stacked with another tensor, so that its cotangent is strided",
        lambda ys, _bs, _xs: [torch.stack([y, torch.zeros_like(y)], -1) for y in ys],
        "[torch.stack([y, torch.zeros_like(y)], -1) for y in ys]",
    ),
    _simple(
        "another branch is added to its output, so that both share one cotangent",
        lambda ys, bs, _xs: [y + b for y, b in zip(ys, bs, strict=True)],
        "[y + b for y, b in zip(ys, branches)]",
    ),
    _simple(
        "another branch is added to its output twice, so that cotangents are shared and added up",
        lambda ys, bs, _xs: [(y + b) + y for y, b in zip(ys, bs, strict=True)],
        "[(y + b) + y for y, b in zip(ys, branches)]",
    ),
    _simple("its output is used twice", lambda ys, _bs, _xs: [y.sin() * y for y in ys], "[y.sin() * y for y in ys]"),
    _simple(
        "the next op writes into its output",
        lambda ys, _bs, _xs: [y.mul_(0.5) for y in ys],
        "[y.mul_(0.5) for y in ys]",
    ),
    _simple("its cotangent is zero", lambda ys, _bs, _xs: [y * 0 for y in ys], "[y * 0 for y in ys]"),
)
_SEVERAL = (
    _simple("only its first output is used", lambda ys, _bs, _xs: [ys[0] * 1], "[ys[0] * 1]"),
    _simple("only its last output is used", lambda ys, _bs, _xs: [ys[-1] * 1], "[ys[-1] * 1]"),
)


def contexts(case: Case) -> Iterator[Context]:
    """The programs of a case, the simplest first; ``chain`` is to come after them."""
    yield from _SIMPLE
    if len(case.cotangents) > 1:
        yield from _SEVERAL
    leaves = case.primals.leaves
    start = seed_of(case)
    for first, count in ((0, len(BEFORE)), (_STRIDED, len(BEFORE) - _STRIDED)):
        before = tuple(first + (start + i) % count for i in range(len(leaves)))
        yield Context("its inputs are results of other ops", lambda ys, _bs, _xs: [*ys], ("return ys",), before)


def seed_of(case: Case) -> int:
    """The seed that the case was drawn from."""
    seed = case.recipe.get("seed", 0)
    return seed if isinstance(seed, int) else 0


def chain(case: Case, ys: Tensors, xs: Tensors) -> Context | None:
    """A few random ops on outputs and inputs; None where they take none of them.

    Args:
        case: Gives the seed.
        ys: The subject's outputs.
        xs: Its inputs.
    """
    values = [*ys, *xs]
    factors = [_factor(t) for t in values]
    leaves = tuple(Leaf(tuple(t.shape), complex=t.is_complex()) for t in values)
    program = Program(leaves, draw_program(seed_of(case), _CHAIN).nodes, 0)
    trace = resolve(program, [t * f for t, f in zip(values, factors, strict=True)], catalogue())
    # What the ops make of other values only is no context of the subject.
    if not trace.ops or not _reaches(trace, len(ys)):
        return None

    def after(
        outputs: Sequence[torch.Tensor], _branches: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        scaled = [t * f for t, f in zip([*outputs, *inputs], factors, strict=True)]
        return list(trace.run(scaled))

    numbers = [f"x{i} = [*ys, *xs][{i}] * {f!r}" for i, f in enumerate(factors)]
    steps = [step_source(trace, step) for step in trace.steps]
    results = ", ".join(f"v{i - len(values)}" for i in trace.outputs)
    before = tuple((seed_of(case) + i) % len(BEFORE) for i in range(len(xs)))
    return Context(
        f"it stands before {' and '.join(trace.ops)}", after, (*numbers, *steps, f"return [{results}]"), before
    )


def _factor(t: torch.Tensor) -> float:
    largest = float(t.abs().max()) if t.numel() else 0.0
    if not math.isfinite(largest) or largest <= LARGEST:
        return 1.0
    return 2.0 ** -math.ceil(math.log2(largest / LARGEST))


def _reaches(trace: Trace, count: int) -> bool:
    """Whether an output depends on one of the first ``count`` leaves."""
    reached = set(range(count))
    for step in trace.steps:
        if reached.intersection(step.operands):
            reached.update(step.results)
    return bool(reached.intersection(trace.outputs))
