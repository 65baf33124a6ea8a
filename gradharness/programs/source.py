"""A program as plain PyTorch source: what a person reads, and a script that shows a difference without gradharness."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.programs.resolution import Step, Trace


def tensor_source(tensor: torch.Tensor) -> str:
    """An expression that gives the tensor again, bit for bit."""
    return f"torch.tensor({tensor.tolist()!r}, dtype={tensor.dtype})"


def _name(trace: Trace, value: int) -> str:
    first = len(trace.program.leaves)
    return f"x{value}" if value < first else f"v{value - first}"


def step_source(trace: Trace, step: Step) -> str:
    """One line: ``v3 = torch.sin(v2)``."""
    results = ", ".join(_name(trace, i) for i in step.results)
    comma = "," if len(step.results) == 1 and step.op.outputs != 1 else ""
    return f"{results}{comma} = {step.op.source([_name(trace, i) for i in step.operands], step.parameters)}"


def source(trace: Trace, cotangents: Sequence[torch.Tensor] | None = None) -> str:
    """The program, from its leaves to ``outputs`` and, where cotangents are given, to ``gradients``.

    Args:
        trace: The steps.
        cotangents: One for each of ``trace.outputs``.

    Returns:
        Source that needs only torch, and what a definition of the user's refers to. It leaves ``outputs`` (a tuple),
        and ``gradients`` with one for each leaf that requires grad, or None where no output depends on it.
    """
    lines = ["import torch", ""]
    for text in dict.fromkeys(step.op.definition for step in trace.steps if step.op.definition):
        lines += [*text.splitlines(), ""]
    for i, (x, leaf) in enumerate(zip(trace.leaves, trace.program.leaves, strict=True)):
        lines.append(f"x{i} = {tensor_source(x)}{'.requires_grad_()' if leaf.active else ''}")
    lines += [step_source(trace, step) for step in trace.steps]
    lines.append(f"outputs = ({''.join(_name(trace, i) + ', ' for i in trace.outputs).rstrip()})")
    if cotangents is not None:
        lines += _backward(trace, cotangents)
    return "\n".join(lines) + "\n"


def _backward(trace: Trace, cotangents: Sequence[torch.Tensor]) -> list[str]:
    pairs = [(i, w) for i, w in zip(trace.outputs, cotangents, strict=True) if trace.needed[i]]
    outputs = ", ".join(_name(trace, i) for i, _ in pairs)
    weights = ", ".join(tensor_source(w) for _, w in pairs)
    leaves = ", ".join(f"x{i}" for i in trace.active)
    return [f"gradients = torch.autograd.grad([{outputs}], [{leaves}], [{weights}], allow_unused=True)"]
