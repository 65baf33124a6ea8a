"""Further draws of the same arguments: the batches that training goes on with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from gradharness.inputs.domain import Domain
from gradharness.inputs.recipe import Recipe, realize
from gradharness.inputs.seeds import derived_seed
from gradharness.inputs.sizes import SizeRange
from gradharness.inputs.strategies import Choices
from gradharness.model.subject import Primals

_DISTINCT = 16  # a long training goes through them again


@dataclass(frozen=True, slots=True)
class Batches:
    """Points made of one recipe; the same number gives the same point.

    Attributes:
        domain: Where the recipe was drawn from.
        recipe: What was drawn. One of the user's own values gives these for every batch.
        dtype: Of the tensors.
        device: Where they are put.
    """

    domain: Domain
    recipe: Recipe
    dtype: torch.dtype
    device: str
    _made: dict[tuple[int, int], Primals] = field(default_factory=dict)

    def at(self, number: int, keep: Sequence[str] = (), *, sizes: int = 0) -> Primals:
        """The point of a batch; number 0 is the recipe's own.

        Args:
            number: Which batch.
            keep: Names of arguments whose sizes are those of the recipe: the parameters.
            sizes: Which sizes the dims have that none of these has, as the last batch of an epoch is smaller; 0 for
                the recipe's own.
        """
        key = (_within(number), _within(sizes))
        if key not in self._made:
            recipe = self._recipe(*key, keep)
            self._made[key] = realize(self.domain, recipe, dtype=self.dtype, device=self.device)
        return self._made[key]

    def _recipe(self, number: int, sizes: int, keep: Sequence[str]) -> Recipe:
        if self.recipe.example:
            return self.recipe
        found = dict(self.recipe.sizes) | (self._sizes(sizes, keep) if sizes else {})
        seed = derived_seed(self.recipe.seed, "batch", number) if number else self.recipe.seed
        return replace(self.recipe, seed=seed, sizes=tuple(found.items()))

    def _sizes(self, number: int, keep: Sequence[str]) -> dict[str, int]:
        kept = {
            axis.name
            for _, path, spec in self.domain.leaves()
            if self.domain.names[int(path[0])] in keep
            for axis in spec.shape
        }
        choices = Choices(self.domain, SizeRange.ORDINARY, broadcast=False).sizes
        draw = random.Random(derived_seed(self.recipe.seed, "sizes", number))
        return {name: draw.choice(some) for name, some in choices.items() if name not in kept}


def _within(number: int) -> int:
    return 1 + (number - 1) % _DISTINCT if number else 0
