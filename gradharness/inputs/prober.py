"""Questions to the forward: does it accept the example with some of its sizes or values changed?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from gradharness.inputs import values
from gradharness.inputs.specs import IndexSpec, LeafSpec, TensorSpec
from gradharness.inputs.styles import SQUARE_KINDS, Kind, Style
from gradharness.numerics import tree

AxisId: TypeAlias = tuple[int, int]
"""Number of a leaf, number of its axis."""

Accepts: TypeAlias = Callable[[tuple[object, ...]], bool]


@dataclass(frozen=True, slots=True)
class ExampleLeaf:
    """A tensor of the example.

    Attributes:
        label: How reports call it.
        path: Where it sits; starts with the argument's number.
        value: The tensor, detached.
        spec: What its values show.
    """

    label: str
    path: tree.Path
    value: torch.Tensor
    spec: LeafSpec

    def resized(self, sizes: Sequence[int]) -> torch.Tensor:
        """The example cut or repeated to other sizes, its structure kept."""
        spec, t = self.spec, self.value
        if isinstance(spec, TensorSpec) and spec.kind in SQUARE_KINDS and sizes[-1] == sizes[-2]:
            return values.draw_tensor(spec, sizes, Style.NORMAL, values.generator(0, self.label)).to(t)
        t = values.resize(t, sizes)
        if isinstance(spec, TensorSpec) and spec.kind is Kind.UNIT_SUM:
            return t / t.sum(-1, keepdim=True)
        if isinstance(spec, IndexSpec):
            return self._integers(t, sizes)
        return t

    def _integers(self, t: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        n, own = sizes[-1] if sizes else 0, self.value.shape[-1] if sizes else 0
        if own > 1 and torch.equal(
            self.value.long().sort(-1).values, torch.arange(own, device=self.value.device).expand_as(self.value)
        ):
            # A permutation stays one.
            return torch.randperm(n, generator=values.generator(0, self.label)).expand(tuple(sizes)).to(t)
        return t.sort(-1).values if isinstance(self.spec, IndexSpec) and self.spec.sorted else t


class Prober:
    """Asks, remembers, and stops asking when the budget is spent.

    Args:
        examples: The arguments as given.
        leaves: The tensors in them.
        accepts: Runs the forward.
        budget: Largest number of calls.
    """

    def __init__(
        self, examples: Sequence[object], leaves: Sequence[ExampleLeaf], accepts: Accepts, budget: int
    ) -> None:
        self.examples = tuple(examples)
        self.leaves = tuple(leaves)
        self.calls = 0
        self.budget = budget
        self._accepts = accepts
        self._sizes: dict[frozenset[tuple[AxisId, int]], bool] = {}

    @property
    def spent(self) -> bool:
        """True if no more questions may be asked."""
        return self.calls >= self.budget

    def ask(self, arguments: tuple[object, ...]) -> bool:
        """Whether the forward accepts these arguments; False when the budget is spent."""
        if self.spent:
            return False
        self.calls += 1
        return self._accepts(arguments)

    def with_leaves(self, new: Mapping[int, torch.Tensor]) -> tuple[object, ...]:
        """Fresh copies of the example's arguments, some tensors replaced."""
        made: object = self.examples
        for number, leaf in enumerate(self.leaves):
            made = tree.replace(made, leaf.path, new.get(number, leaf.value).clone())
        return made if isinstance(made, tuple) else (made,)

    def resized(self, changes: Mapping[AxisId, int]) -> dict[int, torch.Tensor]:
        """The tensors whose sizes change."""
        new = {}
        for number in {leaf for leaf, _ in changes}:
            leaf = self.leaves[number]
            new[number] = leaf.resized([changes.get((number, a), s) for a, s in enumerate(leaf.value.shape)])
        return new

    def fits(self, changes: Mapping[AxisId, int]) -> bool:
        """Whether the forward accepts the example with these sizes."""
        key = frozenset(changes.items())
        if key not in self._sizes:
            if self.spent:
                return False
            self._sizes[key] = self.ask(self.with_leaves(self.resized(changes)))
        return self._sizes[key]

    def move(self, axes: Iterable[AxisId], size: int) -> bool:
        """Whether these axes can have this size together, all others staying."""
        return self.fits(dict.fromkeys(axes, size))

    def size(self, axis: AxisId) -> int:
        """The example's size of an axis."""
        return self.leaves[axis[0]].value.shape[axis[1]]
