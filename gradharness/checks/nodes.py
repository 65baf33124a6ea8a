"""Any subject as a node of autograd's graph: its own where it has one, else one made of its pullback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradharness.model.case import Case
from gradharness.model.subject import Primals, Subject, Tensors
from gradharness.subjects.reverse import attached


class _Pullback(torch.autograd.Function):
    """The subject's forward, with its pullback as backward."""

    @staticmethod
    def forward(ctx: Any, subject: Subject, primals: Primals, *leaves: torch.Tensor) -> Tensors:
        linearization = subject.linearize(primals.at([x.detach() for x in leaves]))
        ctx.pullback = linearization.pullback
        # Copies: what the next op writes into is its own, as with any op that keeps its outputs.
        return tuple(y.clone() for y in linearization.cotangent_like)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *ctx.pullback(cotangents)


def outputs_of(subject: Subject, primals: Primals, leaves: Tensors) -> Tensors:
    """The outputs that take a cotangent, with their graph back to the leaves.

    Args:
        subject: Which.
        primals: The point; its leaves are replaced.
        leaves: In their place.

    Raises:
        SubjectError: If its forward raises.
    """
    traced = subject.traced(primals, leaves)
    if traced is not None:
        return traced
    return tuple(_Pullback.apply(subject, primals, *leaves))  # type: ignore[no-untyped-call]


def graph_of(subject: Subject, case: Case) -> Tensors | None:
    """The outputs with the graph that autograd records by itself; None where it records none."""
    return subject.traced(case.primals, attached([x.clone() for x in case.primals.leaves]))


def made_of_pullback(labels: Sequence[str]) -> tuple[str, ...]:
    """Lines of a script that define ``Subject``, a Function, for a subject without a graph of its own.

    Args:
        labels: Names of the differentiated arguments.
    """
    return (
        "class Subject(torch.autograd.Function):",
        "    @staticmethod",
        "    def forward(ctx, *xs):",
        f"        ctx.pull = start({{**arguments, **dict(zip({list(labels)!r}, xs))}}, xs)",
        "        return tuple(t.detach().clone() for t in ctx.pull.outputs)",
        "    backward = staticmethod(lambda ctx, *ws: tuple(ctx.pull(ws)))",
    )
