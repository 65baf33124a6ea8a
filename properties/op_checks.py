"""Gives every op of the catalogue, with its hand-written VJP as the backward, to all checks, and prints ops x checks.

python -m properties.op_checks
python -m properties.op_checks --only softmax --checks vjp,mask --verbose

The subject is a ``torch.autograd.Function`` around the op: what people write, and the form that most checks have a
question for (``pair`` has no graph, so that accumulation, transforms, double_backward and program would say nothing).
The reference is the op's forward, differentiated by autograd. Parameters are worked out of the operands' shapes by the
op itself, so that the search may change the sizes; shapes that the op does not take are refused by both.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from gradharness import Report, Severity, Verdict, check, tensor
from gradharness.checks import all_checks
from gradharness.programs.op import Call, Domain, Op, Parameters, Shape
from gradharness.programs.ops import all_ops, find_op
from tests.programs.drawing import Case, cases, operands

CHECKS = tuple(c.name for c in all_checks())
NAMES = "xyzuvw"
_DRAWN = 40  # cases among which the choices are taken
_CHOICES = 2
_AXES = 2  # so many at least, if there is a choice
_CONDITION = 100.0  # up to which a matrix is well conditioned
_SMALLEST = 0.1  # from which a number is away from zero
_WIDE = 240  # of what is printed of a finding

# What a spec says of an operand. Of what is away from zero, either side is a domain of its own.
_SPECS: Mapping[Domain, tuple[dict[str, Any], ...]] = {
    Domain.REAL: ({},),
    Domain.POSITIVE: ({"low": 0.5, "high": 4.5},),
    Domain.UNIT: ({"low": -0.9, "high": 0.9},),
    Domain.NONZERO: ({"low": 0.5, "high": 4.5}, {"low": -4.5, "high": -0.5}),
    Domain.ABOVE_ONE: ({"low": 1.5, "high": 5.5},),
    Domain.SPD: ({"kind": "spd"},),
    Domain.WELL_CONDITIONED: ({"kind": "invertible"},),
    Domain.LOWER: ({"kind": "lower"},),
}


@dataclass(frozen=True, kw_only=True)
class Use:
    """One way of using an op.

    Attributes:
        op: Which.
        shapes: Of the operands; those of the search are others.
        choice: Of the parameters.
        dtype: Of the operands.
        number: Which of the op's uses this is.
    """

    op: Op
    shapes: tuple[Shape, ...]
    choice: int
    dtype: torch.dtype = torch.float64
    number: int = 0

    def __str__(self) -> str:
        parameters = self.op.parameters(self.shapes, self.choice) or {}
        kind = "" if self.dtype is torch.float64 else f", {self.dtype}"
        return f"{self.op.source(NAMES, parameters)} of {self.shapes}, choice {self.choice}{kind}"

    def parameters(self, values: Sequence[torch.Tensor]) -> Parameters:
        """Those for operands of these shapes.

        Raises:
            ValueError: If the op takes no such operands.
        """
        found = self.op.parameters([tuple(x.shape) for x in values], self.choice)
        if found is None:
            raise ValueError(f"{self.op.name} takes no operands of such shapes")
        return found

    def inputs(self, seed: int) -> Mapping[str, object] | tuple[torch.Tensor, ...]:
        """Example values, or specs: for the second use, and where only a spec can say what the domain is."""
        real = all(self.op.domain(i) is Domain.REAL for i in range(self.op.arity))
        tied = self.op.arity > 1 and not self.op.same_shape  # in ways that names of dims do not say
        if self.dtype.is_complex or (real and (tied or self.number != 1)):
            return tuple(self.examples(seed))
        return {name: self._spec(i) for i, name in enumerate(NAMES[: self.op.arity])}

    def examples(self, seed: int) -> list[torch.Tensor]:
        """Operands within their domains."""
        drawn = operands(Case(self.op, self.shapes, self.choice, {}), seed, dtype=self.dtype)
        return [x.clone().requires_grad_() for x in drawn]

    def _spec(self, operand: int) -> object:
        options = _SPECS[self.op.domain(operand)]
        # Sizes that are equal have to stay so, as far as anyone can tell.
        shape = " ".join(str(n) if n == 1 else chr(ord("a") + n) for n in self.shapes[operand])
        return tensor(shape, **options[self.number % len(options)])


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One of PyTorch's own, on which a correct VJP is bound to fail.

    Attributes:
        op: Whose uses show it.
        check: Which check finds it.
        meets: Whether a use can meet it.
        reason: What is wrong in PyTorch.
        shown: Whether this PyTorch still does it, without this package.
    """

    op: str
    check: str
    meets: Callable[[Use], bool]
    reason: str
    shown: Callable[[], bool]


def _batched_solve_is_wrong() -> bool:
    a = torch.eye(2, dtype=torch.float64) * torch.arange(1.0, 5.0, dtype=torch.float64).reshape(2, 2, 1, 1)
    b = torch.arange(1.0, 9.0, dtype=torch.float64).reshape(2, 2, 2) + torch.eye(2, dtype=torch.float64)
    one_by_one = torch.stack([torch.linalg.solve(*pair) for pair in zip(a, b[:, :, :1], strict=True)])
    return not torch.allclose(torch.func.vmap(torch.linalg.solve)(a, b[:, :, :1]), one_by_one)


DEFECTS = (
    Defect(
        op="solve",
        check="transforms",
        meets=lambda use: len(use.shapes[0]) != len(use.shapes[1]) > 1,
        reason="vmap of torch.linalg.solve mixes up the batch axes of A and B where one of them has more, silently so "
        "where the sizes agree (doubted in the review of pytorch/pytorch#82814)",
        shown=_batched_solve_is_wrong,
    ),
)


def _inside(x: torch.Tensor, domain: Domain) -> bool:
    if domain is Domain.WELL_CONDITIONED:
        return bool((torch.linalg.cond(x) <= _CONDITION).all())  # of zeros it is NaN
    return domain is not Domain.NONZERO or bool((x.abs() >= _SMALLEST).all())


def reference(use: Use) -> Callable[..., object]:
    """The op's forward, for autograd; it refuses complex operands outside of their domains, which no spec describes."""

    def forward(*values: torch.Tensor) -> object:
        if use.dtype.is_complex and not all(_inside(x, use.op.domain(i)) for i, x in enumerate(values)):
            raise ValueError(f"{use.op.name} takes no operands with such values")
        own = (values[0].clone(), *values[1:]) if use.op.in_place else values
        return use.op.forward(*own, **use.parameters(own))

    forward.__name__ = use.op.name
    return forward


def subject(use: Use) -> Callable[..., object]:
    """A Function of the op's forward and VJP; one that writes into its operand gets a copy, as a leaf cannot be."""
    function = _function(use)
    if not use.op.in_place:
        return function

    def forward(*values: torch.Tensor) -> object:
        return function.apply(values[0].clone(), *values[1:])

    forward.__name__ = use.op.name
    return forward


def _function(use: Use) -> type[torch.autograd.Function]:
    op = use.op

    class OpFunction(torch.autograd.Function):
        generate_vmap_rule = not op.in_place

        @staticmethod
        def forward(*values: torch.Tensor) -> object:
            return _viewed(op.forward(*values, **use.parameters(values)), () if op.in_place else values)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: object) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            ctx.parameters = use.parameters(inputs)
            ctx.save_for_backward(*inputs[op.in_place :], *outputs)
            if op.in_place:
                ctx.mark_dirty(inputs[0])
            if op.discrete:
                ctx.mark_non_differentiable(*outputs[-op.discrete :])

        @staticmethod
        def backward(ctx: Any, *cotangents: torch.Tensor) -> object:
            first = op.arity - op.in_place
            kept, outputs = ctx.saved_tensors[:first], ctx.saved_tensors[first:]
            inputs = (*outputs[: op.in_place], *kept)  # what was written into holds the result
            gradients = op.pull(Call(inputs, outputs, ctx.parameters), cotangents)
            # An op's VJP is not told which gradients are wanted.
            return tuple(g if wanted else None for g, wanted in zip(gradients, ctx.needs_input_grad, strict=True))

    OpFunction.__name__ = OpFunction.__qualname__ = op.name
    return OpFunction


def _plainness(case: Case) -> tuple[bool, bool]:
    """Whether operands that could differ in shape do not; whether the first one leaves little to vary."""
    first, *others = case.shapes
    return bool(others) and all(shape == first for shape in others), len(first) < _AXES or 1 in first


def _viewed(output: Any, inputs: Sequence[torch.Tensor]) -> object:
    """The output, with views in place of inputs that it consists of: autograd refuses to save these."""
    if isinstance(output, tuple):
        return tuple(_viewed(y, inputs) for y in output)
    return output.view_as(output) if any(output is x for x in inputs) else output


def uses(op: Op, seed: int = 0, choices: int = _CHOICES) -> list[Use]:
    """The simplest choice of the op's parameters, drawn ones, and one for complex operands where it takes these."""
    found = [c for c in cases(op, _DRAWN, seed) if all(n > 0 for shape in c.shapes for n in shape)]
    found.sort(key=lambda c: (not all(c.shapes), 1 in c.shapes[0]))  # axes to vary first
    taken, rest = found[:1], found[1:]
    random.Random(f"{op.name} {seed}").shuffle(rest)
    while rest and len(taken) < choices:
        known = [c.parameters for c in taken]
        taken.append(min(rest, key=lambda c: (c.parameters in known, *_plainness(c))))
        rest.remove(taken[-1])
    made = [Use(op=op, shapes=c.shapes, choice=c.choice, number=i) for i, c in enumerate(taken)]
    if op.complex:
        last = taken[-1]
        made.append(Use(op=op, shapes=last.shapes, choice=last.choice, dtype=torch.complex128, number=len(made)))
    return made


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the checks say of one op.

    Attributes:
        name: The op's.
        cells: For each check the worst of the op's uses: PASS, torch (a defect of PyTorch's own), warn, ``?``, FAIL, or
            ``-`` if it is never applicable.
        said: Every error, warning and undecided reason, with the use it is about.
        seconds: Time that it took.
        uses: How many there are.
    """

    name: str
    cells: Mapping[str, str]
    said: tuple[str, ...]
    seconds: float
    uses: int

    @property
    def told(self) -> tuple[str, ...]:
        """The first error or warning of each check."""
        first = {text.split(":")[0]: text for text in reversed(self.said) if not text.startswith(("?", "torch"))}
        return tuple(text[:_WIDE] for text in reversed(first.values()))

    @property
    def failed(self) -> bool:
        """Whether any check fails."""
        return "FAIL" in self.cells.values()


_ORDER = ("-", "PASS", "torch", "warn", "?", "FAIL")


def row(op: Op, seed: int = 0, checks: Sequence[str] | None = None, choices: int = _CHOICES) -> Row:
    """One op through all checks (or some)."""
    started = time.monotonic()
    cells = dict.fromkeys(checks or CHECKS, "-")
    said = []
    made = uses(op, seed, choices)
    for use in made:
        try:
            report = check(subject(use), use.inputs(seed), reference=reference(use), checks=checks, seed=seed)
        except Exception as error:  # what a user would see as a traceback
            said.append(f"FAIL {use}: {type(error).__name__}: {error}")
            cells = dict.fromkeys(cells, "FAIL")
            continue
        for name, cell, text in _told(report):
            if cell in ("FAIL", "warn") and any(d.op == op.name and d.check == name and d.meets(use) for d in DEFECTS):
                cell = "torch"
            cells[name] = max(cells[name], cell, key=_ORDER.index)
            if text:
                said.append(f"{cell} {name}: {use}: {text}")
    return Row(name=op.name, cells=cells, said=tuple(said), seconds=time.monotonic() - started, uses=len(made))


def _told(report: Report) -> Iterable[tuple[str, str, str]]:
    for result in report.results:
        if result.verdict is Verdict.SKIPPED:
            yield result.check, "-", ""
        elif result.verdict is Verdict.UNDECIDED:
            yield result.check, "?", result.reason
        elif result.verdict is Verdict.PASS and not result.findings:
            yield result.check, "PASS", ""
        for finding in result.findings:
            yield result.check, "FAIL" if finding.severity is Severity.ERROR else "warn", finding.message


def heading(checks: Sequence[str]) -> str:
    """The first line of the table."""
    return f"{'':24}" + " ".join(f"{name[:6]:6}" for name in checks)


def line(found: Row) -> str:
    """One line of the table."""
    return f"{found.name[:23]:24}" + " ".join(f"{cell:6}" for cell in found.cells.values())


def summary(rows: Sequence[Row], checks: Sequence[str]) -> str:
    """Counts for each check, and for the whole."""
    counts = {name: Counter(r.cells[name] for r in rows) for name in checks}
    lines = [f"{'':24}" + " ".join(f"{cell:>6}" for cell in reversed(_ORDER))]
    lines += [f"{name:24}" + " ".join(f"{counts[name][cell]:6}" for cell in reversed(_ORDER)) for name in checks]
    seconds = sum(r.seconds for r in rows)
    lines.append(
        f"{len(rows)} ops in {sum(r.uses for r in rows)} uses, {sum(r.failed for r in rows)} fail a check; "
        f"{seconds:.0f} s, {seconds / max(1, len(rows)):.2f} s per op"
    )
    return "\n".join(lines)


def chosen(only: str = "", count: int | None = None, seed: int = 0) -> list[Op]:
    """The ops whose name contains ``only``; so many of them, drawn without repetition, if a count is given."""
    found = [op for op in all_ops() if only in op.name]
    if count is None or count >= len(found):
        return found
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count]
    return [found[i] for i in order.tolist()]


def _quiet() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def _by_name(name: str, *how: Any) -> Row:
    return row(find_op(name), *how)


def rows(ops: Sequence[Op], *how: Any, jobs: int = 1) -> Iterable[Row]:
    """A row for each op, in order; ``how`` is what ``row`` takes after the op."""
    if jobs == 1:
        yield from (row(op, *how) for op in ops)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        waiting = [pool.submit(_by_name, op.name, *how) for op in ops]  # lambdas do not travel
        yield from (future.result() for future in waiting)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ops whose name contains this")
    parser.add_argument("--count", type=int, default=None, help="so many ops, drawn; all by default")
    parser.add_argument("--checks", default="", help="names of checks with commas between; all by default")
    parser.add_argument("--choices", type=int, default=_CHOICES, help="of parameters, for every op")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="reasons of what is undecided as well")
    options = parser.parse_args()
    _quiet()
    checks = tuple(options.checks.split(",")) if options.checks else None
    print(heading(checks or CHECKS))
    found = []
    ops = chosen(options.only, options.count, options.seed)
    for one in rows(ops, options.seed, checks, options.choices, jobs=options.jobs):
        found.append(one)
        print(line(one), flush=True)
        for text in one.told if not options.verbose else one.said:
            print(f"    {text}", flush=True)
    print(summary(found, checks or CHECKS))
    return 1 if any(r.failed for r in found) else 0


if __name__ == "__main__":
    sys.exit(main())
