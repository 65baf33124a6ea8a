"""The reverse tape: cotangents from the outputs to the leaves, by the ops' own VJPs and without autograd.

A value that several steps used has the sum of what they send back as its cotangent; contributions are added in the
order in which the tape meets them, that is from the last step to the first, and always into a new tensor: what a VJP
returns may be its own cotangent, a view of it, or the same tensor for two operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from gradharness.errors import RuleError
from gradharness.model.subject import Gradients, Tensors
from gradharness.programs.op import Call
from gradharness.programs.resolution import Step, Trace

Pull: TypeAlias = Callable[[int, Step, Call, Tensors], Gradients]


def checked_pull(number: int, step: Step, call: Call, cotangents: Tensors) -> Gradients:
    """The step's VJP, one gradient or None for each operand.

    Args:
        number: Of the step.
        step: Whose VJP.
        call: As forward was called.
        cotangents: One for each result.

    Raises:
        RuleError: If the VJP raises, or returns another number of gradients or other shapes.
    """
    try:
        gradients = step.op.pull(call, cotangents)
    except Exception as error:  # somebody's rule may raise anything
        raise RuleError(number, step.op.name, f"raised {type(error).__name__}: {error}") from error
    if len(gradients) != len(step.operands):
        raise RuleError(number, step.op.name, f"gave {len(gradients)} gradients for {len(step.operands)} operands")
    for place, (gradient, x) in enumerate(zip(gradients, call.inputs, strict=True)):
        if gradient is None:
            continue
        if not isinstance(gradient, torch.Tensor):
            raise RuleError(number, step.op.name, f"gave {type(gradient).__name__} for operand {place}")
        if gradient.shape != x.shape:
            shapes = f"{tuple(gradient.shape)} for operand {place} of shape {tuple(x.shape)}"
            raise RuleError(number, step.op.name, f"gave a gradient of shape {shapes}")
    return gradients


def backward(trace: Trace, cotangents: Sequence[torch.Tensor], pull: Pull = checked_pull) -> Gradients:
    """The gradients of the leaves.

    Args:
        trace: What forward did.
        cotangents: One for each of ``trace.outputs``, of its shape and dtype. They are given to VJPs as they are.
        pull: Calls a step's VJP; another one may look on.

    Returns:
        One for each leaf: of its shape; None where the leaf requires no grad, or no cotangent came.

    Raises:
        RuleError: As ``checked_pull``.
    """
    received: list[torch.Tensor | None] = [None] * len(trace.values)
    for value, cotangent in zip(trace.outputs, cotangents, strict=True):
        received[value] = cotangent if trace.needed[value] else None
    with torch.no_grad():
        for number in range(len(trace.steps) - 1, -1, -1):
            step = trace.steps[number]
            if all(received[i] is None for i in step.results):
                continue
            call = Call(
                tuple(trace.values[i] for i in step.operands),
                tuple(trace.values[i] for i in step.results),
                step.parameters,
            )
            weights = tuple(_or_zero(received[i], trace.values[i]) for i in step.results)
            for i, gradient in zip(step.operands, pull(number, step, call, weights), strict=True):
                if gradient is not None and trace.needed[i]:
                    received[i] = gradient if (sofar := received[i]) is None else sofar + gradient
    return tuple(received[i] if leaf.active else None for i, leaf in enumerate(trace.program.leaves))


def _or_zero(cotangent: torch.Tensor | None, value: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(value) if cotangent is None else cotangent
