"""Reverse mode by torch, with its exceptions named and its missing gradients typed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.model.subject import Gradients, Tensors
from gradharness.subjects.calls import call_backward


def attached(leaves: Sequence[torch.Tensor]) -> Tensors:
    """The same memory as fresh autograd leaves."""
    return tuple(leaf.detach().requires_grad_() for leaf in leaves)


def vector_jacobian(
    outputs: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
    *,
    retain: bool = False,
) -> Gradients:
    """``torch.autograd.grad`` with None for what is not connected; the graph is kept for another backward on demand.

    Raises:
        BackwardRaised: If a backward raises, or autograd refuses what it returned.
    """
    if not outputs or not leaves:
        return (None,) * len(leaves)

    def run() -> Gradients:
        return torch.autograd.grad(outputs, leaves, cotangents, retain_graph=retain, allow_unused=True)

    gradients: Gradients = call_backward(run, ())  # type: ignore[assignment]
    return gradients
