"""A model as a whole beside its parts: which hand-written backward is right by itself and wrong where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradharness.model.subject import Gradients, Tensors
from gradharness.programs import graph, tape
from gradharness.programs.agreement import copies, worst_of
from gradharness.programs.op import Call, Op, Parameters
from gradharness.programs.opaque import OpaqueOp
from gradharness.programs.resolution import Step, Trace


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A gradient of a model that is not what its parts give.

    Attributes:
        leaf: Number of the leaf whose gradient is worst.
        got: Autograd's through the whole model.
        expected: What the parts give, each by itself.
        excess: Largest difference in units of its tolerance.
        name: Of the call to blame: with its backward run by itself, all gradients agree. Empty if it is no single one.
    """

    leaf: int
    got: torch.Tensor | None
    expected: torch.Tensor | None
    excess: float
    name: str


def misplaced(trace: Trace, cotangents: Sequence[torch.Tensor]) -> Misplaced | None:
    """How autograd of the whole differs from its parts; None where it does not.

    Args:
        trace: Of a model.
        cotangents: One for each of ``trace.outputs``; they are copied.

    Raises:
        OracleUnavailable: If autograd raises.
        RuleError: If a part's backward raises, or gives what does not fit.
    """
    expected = tape.backward(trace, copies(cotangents), _apart)
    got = graph.backward(trace, copies(cotangents))
    leaf, excess = worst_of(got, expected, cotangents)
    if excess <= 1:
        return None
    return Misplaced(leaf, got[leaf], expected[leaf], excess, _to_blame(trace, cotangents, expected))


def _apart(number: int, step: Step, call: Call, weights: Tensors) -> Gradients:
    """The step's VJP on copies: what it writes into is nobody else's."""
    return tape.checked_pull(number, step, call, copies(weights))


def _to_blame(trace: Trace, cotangents: Sequence[torch.Tensor], expected: Gradients) -> str:
    for number in range(len(trace.steps) - 1, -1, -1):
        step = trace.steps[number]
        if isinstance(step.op, OpaqueOp):
            cured = graph.backward(_with_own_backward(trace, number), copies(cotangents))
            if worst_of(cured, expected, cotangents)[1] <= 1:
                return step.op.name
    return ""


def _with_own_backward(trace: Trace, number: int) -> Trace:
    """The same steps, one of which runs its backward by itself, after a forward of its own."""
    step = trace.steps[number]

    def forward(*operands: torch.Tensor, **parameters: Any) -> Tensors:
        found = _ByItself.apply(step.op, parameters, *operands)  # type: ignore[no-untyped-call]
        return tuple(found)

    steps = list(trace.steps)
    steps[number] = replace(step, op=replace(step.op, forward=forward))
    return replace(trace, steps=tuple(steps))


class _ByItself(torch.autograd.Function):
    """An op whose backward gets copies of everything."""

    @staticmethod
    def forward(ctx: Any, op: Op, parameters: Parameters, *operands: torch.Tensor) -> Tensors:
        ctx.op, ctx.parameters, ctx.operands = op, parameters, copies(operands)
        outputs = tuple(y.clone() for y in op.run(copies(operands), parameters))
        ctx.mark_non_differentiable(*(y for y in outputs if not (y.is_floating_point() or y.is_complex())))
        ctx.outputs = copies(outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        call = Call(copies(ctx.operands), copies(ctx.outputs), ctx.parameters)
        return None, None, *ctx.op.pull(call, copies(cotangents))
