"""What a stand-alone script has to show, and what it asks of the source that it calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a script has to show.

    Attributes:
        title: One sentence that says what is wrong.
        arguments: (name, value) of every argument.
        active: Labels of the differentiated tensors, such as ``x`` or ``xs[0]``.
        outputs: Labels of the outputs that have a cotangent, such as ``output`` or ``output['loss']``.
        cotangents: One per differentiable output.
        label: The gradient (an active label) or the output that is wrong; anything else just runs backward.
        expected: The right value; None if no oracle gave every element.
        bound: Allowed absolute error.
        steps: Lines in place of the comparison, where a plain backward does not show the fault.
        repeats: How often to look at a gradient: one that is another each time may be right by chance.
    """

    title: str
    arguments: tuple[tuple[str, object], ...]
    active: tuple[str, ...]
    outputs: tuple[str, ...]
    cotangents: Sequence[torch.Tensor]
    label: str
    expected: torch.Tensor | None = None
    bound: torch.Tensor | float = 0.0
    steps: tuple[str, ...] = ()
    repeats: int = 1

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the outputs that have a cotangent, as many as there are cotangents."""
        if len(self.outputs) == len(self.cotangents):
            return self.outputs
        count = len(self.cotangents)
        return ("output",) if count == 1 else tuple(f"output[{i}]" for i in range(count))

    @property
    def results(self) -> str:
        """The outputs that have a cotangent, as a list's source."""
        return f"[{', '.join(self.labels)}]"

    @property
    def alone(self) -> int | None:
        """Number of the argument that is the only differentiated tensor; None where there are several, or parts."""
        names = [name for name, _ in self.arguments]
        return names.index(self.active[0]) if len(self.active) == 1 and self.active[0] in names else None

    @property
    def is_output(self) -> bool:
        """Whether an output is wrong, not a gradient."""
        return self.label == "output" or self.label.startswith("output[")


class SubjectSource(Protocol):
    """How a script gets at a subject, and how it calls its forward and its backward.

    Attributes:
        definitions: Lines that import or define what the other lines use.
        missing: What has to be filled in; empty if nothing has.
        traced: Whether the gradients come from autograd, so that leaves require grad.
        names: That the definitions take.
    """

    @property
    def definitions(self) -> tuple[str, ...]:
        """Lines that import or define what the other lines use."""
        ...

    @property
    def missing(self) -> str:
        """What has to be filled in."""
        ...

    @property
    def traced(self) -> bool:
        """Whether leaves require grad."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """Names that are taken."""
        ...

    def forward(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Lines that give ``output`` its value, from the source of each argument."""
        ...

    def backward(self, failure: Failure, arguments: Sequence[str], number: int) -> tuple[str, ...]:
        """Lines after these that give ``got`` the gradient of a number."""
        ...

    def start(self, failure: Failure) -> tuple[str, ...]:
        """Lines that define ``start``, as ``Discrepancy.steps`` has it."""
        ...
