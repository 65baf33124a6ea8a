"""Many recipes at once, drawn uniformly from one seed.

Hypothesis's own distribution favours small and repeated values, and costs about a millisecond a draw; over random
programs, uniform draws found planted faults in five to eight times fewer examples. So a search is sampled here, and
Hypothesis draws what only it can: the values of users' own strategies, and their shrinking once something has failed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st

from gradharness.inputs.domain import Domain
from gradharness.inputs.recipe import MAX_SEED, Recipe
from gradharness.inputs.sizes import SizeRange
from gradharness.inputs.specs import ChoiceSpec, StrategySpec
from gradharness.inputs.strategies import COTANGENTS, Choices
from gradharness.inputs.styles import EXTREME_STYLES, SPECIAL_STYLES, Style

T = TypeVar("T")


def sample(
    domain: Domain,
    sizes: SizeRange,
    count: int,
    seed: int,
    *,
    broadcast: bool = False,
    styles: tuple[Style, ...] = (),
) -> tuple[Recipe, ...]:
    """Recipes for the primals and cotangents of a domain; the same arguments give the same recipes.

    Args:
        domain: Where primals are drawn from.
        sizes: Ordinary sizes, or one edge (or long) size at a time, every one before any comes again.
        count: How many.
        seed: From which all is drawn.
        broadcast: Whether axes that could be one, though neither spec nor example says so, are one at times.
        styles: Styles of values, each one before any comes again; empty for all that the domain accepts, at random.
    """
    return tuple(_Sampler(domain, sizes, seed, broadcast=broadcast, styles=styles).recipes(count))


class _Sampler:
    def __init__(
        self, domain: Domain, sizes: SizeRange, seed: int, *, broadcast: bool, styles: tuple[Style, ...]
    ) -> None:
        self.domain = domain
        self.choices = Choices(domain, sizes, broadcast=broadcast)
        self.random = random.Random(f"{seed} {sizes.name}")
        self.seed = seed
        # Special values are asked for outright; ordinary ones have to be among those that the domain accepts.
        self.styles = tuple(s for s in styles if s in SPECIAL_STYLES or s in domain.styles)
        self.labels = tuple(label for label, _, _ in domain.leaves())

    def recipes(self, count: int) -> Iterator[Recipe]:
        drawn = {name: self._values(spec, count) for name, spec in self._strategies()}
        edges = self._edges(count)
        # Where sizes come in turn, all of them come with the first style before any comes with the next one.
        styles = self._in_turn(self.styles, count)
        if styles and edges:
            styles = [self.styles[n // len(self.choices.edges) % len(self.styles)] for n in range(count)]
        for number in range(count):
            yield Recipe(
                sizes=self._sizes(edges[number] if edges else None),
                batches=tuple((name, self._batch()) for name in self.choices.batches),
                broadcast=self._broadcast(),
                seed=self.random.randint(0, MAX_SEED),
                **self._style(styles[number] if styles else None),
                arguments=tuple(self._argument(name, spec, drawn, number) for name, spec in self._drawn()),
                cotangent=self.random.choice(COTANGENTS),
            )

    def _edges(self, count: int) -> Sequence[tuple[str, int]]:
        """Edge sizes in random order, each once before any comes again."""
        return self._in_turn(self.choices.edges, count)

    def _in_turn(self, choices: Sequence[T], count: int) -> list[T]:
        found: list[T] = []
        while choices and len(found) < count:
            found += self.random.sample(choices, len(choices))
        return found

    def _style(self, style: Style | None) -> dict[str, Any]:
        """Fields of the recipe. Extreme values come in one tensor alone as often as in all of them."""
        if style is None:
            return {"style": self.random.choice(self.domain.styles)}
        if style not in EXTREME_STYLES or len(self.labels) < 2 or self.random.random() < 0.5:
            return {"style": style}
        usual = Style.NORMAL if Style.NORMAL in self.domain.styles else self.domain.styles[0]
        return {"style": usual, "styles": ((self.random.choice(self.labels), style),)}

    def _sizes(self, edge: tuple[str, int] | None) -> tuple[tuple[str, int], ...]:
        if edge is None:
            return tuple((name, self.random.choice(sizes)) for name, sizes in self.choices.sizes.items())
        chosen, size = edge
        companions = self.choices.companions
        sizes = {name: size if name == chosen else self.random.choice(companions[name]) for name in companions}
        return tuple(self.choices.bounded(sizes, chosen).items())

    def _batch(self) -> tuple[int, ...]:
        return tuple(self.random.randint(1, 3) for _ in range(self.random.randint(0, 2)))

    def _broadcast(self) -> tuple[str, ...]:
        return tuple(place for place in self.choices.places if self.random.random() < 0.5)

    def _drawn(self) -> Iterator[tuple[str, ChoiceSpec | StrategySpec]]:
        for name, spec in zip(self.domain.names, self.domain.specs, strict=True):
            if isinstance(spec, StrategySpec) or (isinstance(spec, ChoiceSpec) and len(spec.values) > 1):
                yield name, spec

    def _strategies(self) -> Iterator[tuple[str, StrategySpec]]:
        yield from ((name, spec) for name, spec in self._drawn() if isinstance(spec, StrategySpec))

    def _argument(
        self, name: str, spec: ChoiceSpec | StrategySpec, drawn: dict[str, list[object]], number: int
    ) -> tuple[str, object]:
        if isinstance(spec, ChoiceSpec):
            return name, self.random.randrange(len(spec.values))
        return name, drawn[name][number % len(drawn[name])]

    def _values(self, spec: StrategySpec, count: int) -> list[object]:
        """Values of a user's strategy, as Hypothesis draws them."""
        seen: list[object] = []

        @hypothesis.seed(self.seed)
        @hypothesis.settings(
            max_examples=count,
            phases=(Phase.generate,),
            database=None,
            deadline=None,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(st.tuples(spec.strategy))
        def draw(value: tuple[object]) -> None:
            seen.append(value[0])

        draw()
        return seen
