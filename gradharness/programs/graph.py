"""The same steps by torch.autograd: the truth that the hand-written VJPs are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradharness.errors import OracleUnavailable, first_line
from gradharness.model.subject import Gradients, Tensors
from gradharness.programs.resolution import Step, Trace


def backward(trace: Trace, cotangents: Sequence[torch.Tensor]) -> Gradients:
    """The gradients of the leaves, by autograd.

    Args:
        trace: The steps.
        cotangents: One for each of ``trace.outputs``.

    Returns:
        One for each leaf; None where it requires no grad, or nothing depends on it.

    Raises:
        OracleUnavailable: If autograd itself raises.
    """
    leaves = _attached(trace)
    with torch.enable_grad():
        outputs = trace.run(leaves)
    active = [leaves[i] for i in trace.active]
    found = iter(_gradients(outputs, active, cotangents))
    return tuple(next(found) if leaf.active else None for leaf in trace.program.leaves)


def cotangents_of(trace: Trace, cotangents: Sequence[torch.Tensor]) -> Gradients:
    """The cotangent of every value of the program, by autograd; None where none arrives.

    Args:
        trace: The steps.
        cotangents: One for each of ``trace.outputs``.

    Raises:
        OracleUnavailable: If autograd itself raises.
    """
    values: list[torch.Tensor] = list(_attached(trace))
    # An in-place step gives its operand another place in the graph: the old one is kept here.
    edges = [_edge(x) for x in values]
    with torch.enable_grad():
        for step in trace.steps:
            operands = [values[i] for i in step.operands]
            made = step.op.run(operands, step.parameters)
            if not step.op.in_place:
                # What is returned as it came would be one tensor for two values.
                made = tuple(y.view_as(y) if any(y is x for x in operands) else y for y in made)
            values.extend(made)
            edges.extend(_edge(y) for y in made)
    wanted = [i for i, edge in enumerate(edges) if edge is not None]
    found = _gradients([values[i] for i in trace.outputs], [edges[i] for i in wanted], cotangents)
    by_number = dict(zip(wanted, found, strict=True))
    return tuple(by_number.get(i) for i in range(len(values)))


def local(step: Step, operands: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]) -> Gradients:
    """What the step alone makes of its cotangents, by autograd of its forward.

    Args:
        step: Op and parameters.
        operands: As they were before forward.
        cotangents: One for each result.

    Returns:
        One for each operand; None where nothing depends on it.

    Raises:
        OracleUnavailable: If autograd itself raises.
    """

    def forward(*leaves: torch.Tensor) -> Tensors:
        taken = [x.clone() if step.op.in_place else x for x in leaves]
        return step.op.run(taken, step.parameters)

    return pulled(forward, operands, cotangents)


def pulled(
    forward: Callable[..., Tensors], operands: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]
) -> Gradients:
    """What a single call makes of its cotangents, by autograd.

    Args:
        forward: The call; a tuple of tensors for the operands.
        operands: Its arguments.
        cotangents: One for each result.

    Returns:
        One for each operand; None where nothing depends on it, or it holds integers.

    Raises:
        OracleUnavailable: If autograd itself raises.
    """
    with torch.enable_grad():
        leaves = [x.detach() for x in operands]
        floating = [x.requires_grad_() for x in leaves if x.is_floating_point() or x.is_complex()]
        outputs = forward(*leaves)
    found = dict(zip(map(id, floating), _gradients(outputs, floating, cotangents), strict=True))
    return tuple(found.get(id(x)) for x in leaves)


def _attached(trace: Trace) -> Tensors:
    pairs = zip(trace.leaves, trace.program.leaves, strict=True)
    return tuple(x.detach().requires_grad_(leaf.active) for x, leaf in pairs)


def _edge(tensor: torch.Tensor) -> GradientEdge | None:
    return get_gradient_edge(tensor) if tensor.requires_grad else None


def _gradients(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor] | Sequence[GradientEdge | None],
    cotangents: Sequence[torch.Tensor],
) -> Gradients:
    pairs = [(y, w) for y, w in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not pairs or not inputs:
        return (None,) * len(inputs)
    ys, ws = zip(*pairs, strict=True)
    try:
        return torch.autograd.grad(ys, inputs, ws, allow_unused=True)  # type: ignore[arg-type]
    except RuntimeError as error:  # some of torch's own backwards refuse operands that their forwards take
        raise OracleUnavailable(f"autograd: {first_line(error)}") from error
