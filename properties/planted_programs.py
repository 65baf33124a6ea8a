"""Faults planted in catalogue VJPs, and after how many programs each is found, shrunk and blamed on the right node.

python -m properties.planted_programs --seeds 3 --count 400
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gradharness.engine.program_search import ProgramFinding, search
from gradharness.model.subject import Gradients
from gradharness.programs.catalogue import catalogue
from gradharness.programs.op import Call, Op, unbroadcast

Tensor = torch.Tensor
Bent = Callable[[Op, Call, list[Tensor]], Gradients]


@dataclass(frozen=True)
class Planted:
    """A fault of one op.

    Attributes:
        op: Whose VJP.
        what: In words.
        bent: The faulty VJP, which may use the right one.
    """

    op: str
    what: str
    bent: Bent

    def __str__(self) -> str:
        return f"{self.op}: {self.what}"


def times(factor: float, when: Callable[[Call], object] = lambda call: True) -> Bent:
    """The right gradients times a factor, where the call is such (a truth value, or a mask of the first operand)."""

    def bent(op: Op, call: Call, cotangents: list[Tensor]) -> Gradients:
        mask = when(call)
        gradients = op.pull(call, cotangents)
        if isinstance(mask, Tensor):
            first = gradients[0]
            return (None if first is None else torch.where(mask, factor * first, first), *gradients[1:])
        return tuple(None if g is None else factor * g for g in gradients) if mask else gradients

    return bent


def dropped(place: int) -> Bent:
    """No gradient for one operand."""

    def bent(op: Op, call: Call, cotangents: list[Tensor]) -> Gradients:
        return tuple(None if i == place else g for i, g in enumerate(op.pull(call, cotangents)))

    return bent


def _swapped(op: Op, call: Call, cotangents: list[Tensor]) -> Gradients:
    g = cotangents[0]
    x, y = call.inputs
    return unbroadcast((g * x).expand_as(call.y), x.shape), unbroadcast((g * y).expand_as(call.y), y.shape)


def _first_row_only(op: Op, call: Call, cotangents: list[Tensor]) -> Gradients:
    """Instead of the sum over a broadcast axis."""
    g = cotangents[0]
    made = []
    for x in call.inputs:
        part = g
        while part.dim() > x.dim():
            part = part[0]
        for axis in range(x.dim()):
            if x.shape[axis] == 1:
                part = part.narrow(axis, 0, 1)
        made.append(part)
    return tuple(made)


def _writes_cotangent(op: Op, call: Call, cotangents: list[Tensor]) -> Gradients:
    right = op.pull(call, cotangents)[0]
    assert right is not None
    g = cotangents[0]
    return (g.copy_(right) if g.shape == right.shape and g.is_contiguous() else right,)


def _writes_operand(op: Op, call: Call, cotangents: list[Tensor]) -> Gradients:
    right = op.pull(call, cotangents)
    if call.x.is_contiguous():
        call.x.copy_(call.x.cos())
    return right


def _dim(call: Call) -> int:
    dim = call.parameters.get("dim", 0)
    return min(dim) if isinstance(dim, (tuple, list)) else int(dim or 0)


EVERYWHERE: tuple[Planted, ...] = (
    Planted("sin", "the sign", times(-1)),
    Planted("tanh", "1 - y instead of 1 - y²", lambda op, c, w: (w[0] * (1 - c.y),)),
    Planted("exp", "the cotangent itself", lambda op, c, w: (w[0],)),
    Planted("log", "a factor of two", times(2)),
    Planted("sigmoid", "y instead of y (1 - y)", lambda op, c, w: (w[0] * c.y,)),
    Planted("square", "x instead of 2 x", times(0.5)),
    Planted("mul", "the operands swapped", _swapped),
    Planted("div", "nothing for the divisor", dropped(1)),
    Planted("sub", "the second operand's sign", lambda op, c, w: (op.pull(c, w)[0], _minus(op.pull(c, w)[1]))),
    Planted("mean", "a sum's gradient", lambda op, c, w: (_scaled_up(op, c, w),)),
    Planted("softplus", "one per mille too large", times(1.001)),
    Planted("logsumexp", "half of it", times(0.5)),
)
IN_A_REGION: tuple[Planted, ...] = (
    Planted("permute", "the order of axes, where there are three", times(-1, lambda c: c.x.dim() >= 3)),
    Planted("gelu", "where x > 2", times(0.9, lambda c: c.x > 2)),
    Planted("leaky_relu", "where x < 0", times(0.5, lambda c: c.x < 0)),
    Planted("silu", "where |x| < 0.25", times(1.1, lambda c: c.x.abs() < 0.25)),
    Planted("sum", "of tensors with three axes", times(2, lambda c: c.x.dim() == 3)),
    Planted("square", "of scalars", times(2, lambda c: c.x.dim() == 0)),
    Planted("amax", "where an axis has size one", times(0, lambda c: 1 in c.x.shape)),
    Planted("add", "one row for the sum over a broadcast axis", _first_row_only),
    Planted("mul", "where the second operand has fewer axes", times(2, lambda c: c.x.dim() > c.inputs[1].dim() > 0)),
    Planted("prod", "along a negative dim", times(-1, lambda c: _dim(c) < 0)),
    Planted("var", "along a negative dim", times(1.5, lambda c: _dim(c) < 0)),
    Planted("mul", "of one tensor by itself", times(0.5, lambda c: c.x is c.inputs[1])),
    Planted("add", "of one tensor and itself", times(0.5, lambda c: c.x is c.inputs[1])),
    Planted("cos", "writes into its cotangent, which another use shares", _writes_cotangent),
    Planted("atan", "writes into its operand, which another op saved", _writes_operand),
    Planted("narrow", "not from the start", times(-1, lambda c: c.parameters.get("start", 0) != 0)),
)
FAULTS = (*EVERYWHERE, *IN_A_REGION)


def _minus(g: Tensor | None) -> Tensor | None:
    return None if g is None else -g


def _scaled_up(op: Op, call: Call, cotangents: list[Tensor]) -> Tensor:
    (right,) = op.pull(call, cotangents)
    assert right is not None
    return right * (call.x.numel() / call.y.numel() + 0.5)


@dataclass(frozen=True)
class Hunt:
    """One fault, one seed, and what came of it."""

    fault: Planted
    seed: int
    finding: ProgramFinding | None
    seconds: float

    @property
    def named(self) -> bool:
        return self.finding is not None and self.finding.guilty.op == self.fault.op

    @property
    def small(self) -> bool:
        return self.finding is not None and len(self.finding.program.nodes) <= 2


def hunt(fault: Planted, seed: int, count: int) -> Hunt:
    """Looks for one fault."""
    right = catalogue().find(fault.op)
    ops = catalogue().replaced(fault.op, lambda call, *cotangents: fault.bent(right, call, list(cotangents)))
    started = time.perf_counter()
    finding = search(ops, seed=seed, count=count)
    return Hunt(fault, seed, finding, time.perf_counter() - started)


def table(hunts: list[Hunt]) -> str:
    """The figures, and every hunt that is not as it should be."""
    found = [h.finding for h in hunts if h.finding is not None]
    after = [f.after for f in found]
    lines = [
        f"planted faults        {len({h.fault for h in hunts})}, {len(hunts)} hunts",
        f"found                 {len(found)}",
        f"programs until found  median {statistics.median(after)}, largest {max(after)}",
        f"one or two ops        {sum(h.small for h in hunts) / len(hunts):.1%}",
        f"guilty node named     {sum(h.named for h in hunts) / len(hunts):.1%}",
        f"seconds a hunt        median {statistics.median(h.seconds for h in hunts):.2f}",
    ]
    for h in hunts:
        if not (h.named and h.small):
            blamed = f"{h.finding.guilty.op}, {len(h.finding.program.nodes)} ops" if h.finding else "not found"
            lines.append(f"seed {h.seed}: {h.fault}: {blamed}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--only", default="", help="faults whose text contains this")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = [f for f in FAULTS if options.only in str(f)]
    hunts = [hunt(fault, seed, options.count) for fault in chosen for seed in range(options.seeds)]
    if options.verbose:
        for h in hunts:
            print(h.seed, h.fault, f"{h.seconds:.2f} s", h.finding, sep="\n")
    print(table(hunts))
    return 0 if all(h.finding for h in hunts) else 1


if __name__ == "__main__":
    sys.exit(main())
