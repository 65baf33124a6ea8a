"""Hypothesis strategies of recipes: a handful of draws each, never an element."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from gradharness.inputs.domain import DimRule, Domain
from gradharness.inputs.recipe import MAX_SEED, Recipe
from gradharness.inputs.shapes import Broadcast
from gradharness.inputs.sizes import (
    EDGE_COMPANIONS,
    EDGE_SIZES,
    LONG_COMPANIONS,
    LONG_SIZES,
    MAX_ELEMENTS,
    ORDINARY_SIZES,
    SizeRange,
)
from gradharness.inputs.specs import ChoiceSpec, IndexSpec, StrategySpec
from gradharness.inputs.styles import CotangentStyle, Style

# How often each kind is drawn; general position tells most.
COTANGENTS = (CotangentStyle.NORMAL,) * 6 + tuple(CotangentStyle)[1:]
_WEIGHT = {Style.SIMPLE: 2, Style.NORMAL: 5}
_SAME_STYLE = 3


def recipes(
    domain: Domain, sizes: SizeRange = SizeRange.ORDINARY, *, broadcast: bool = False, styles: tuple[Style, ...] = ()
) -> SearchStrategy[Recipe]:
    """Recipes for the primals and cotangents of a domain.

    Args:
        domain: Where primals are drawn from.
        sizes: Ordinary sizes, or one edge or long size at a time.
        broadcast: Whether axes that could be one, though neither spec nor example says so, are one at times.
        styles: Styles of values; empty for all that the domain accepts.

    Returns:
        A strategy that shrinks to small sizes, seed 0 and simple values.
    """
    return _Drawing(domain, sizes, broadcast=broadcast, styles=styles or domain.styles).strategy()


class Choices:
    """What there is to choose from in a domain: everything that does not change from draw to draw.

    Attributes:
        sizes: Ordinary sizes of every dim.
        companions: Sizes of a dim while another one has an edge size.
        edges: (dim, edge size) pairs, the small sizes first, or the long size of every dim; empty for ordinary sizes.
        batches: Names of the variadic dims.
        places: Axes that may be of size one.
    """

    def __init__(self, domain: Domain, sizes: SizeRange, *, broadcast: bool) -> None:
        self._domain = domain
        long = sizes is SizeRange.LONG
        self._dims = tuple(rule for rule in domain.dims if not rule.variadic)
        self.batches = tuple(rule.name for rule in domain.dims if rule.variadic)
        self.sizes = {rule.name: _ordinary(rule) for rule in self._dims}
        self.companions = {
            rule.name: _companions(rule, LONG_COMPANIONS if long else EDGE_COMPANIONS) for rule in self._dims
        }
        self.edges = {SizeRange.EDGE: self._edges, SizeRange.LONG: self._long}.get(sizes, tuple)()
        self.places = tuple(p for p, b in domain.broadcasts() if broadcast or b is Broadcast.DECLARED)

    def _edges(self) -> tuple[tuple[str, int], ...]:
        below = {spec.below for _, _, spec in self._domain.leaves() if isinstance(spec, IndexSpec)}
        pairs = [
            (size, rule.name)
            for rule in self._dims
            for size in EDGE_SIZES
            if rule.allows(size) and not (size == 0 and rule.name in below)
        ]
        return tuple((name, size) for size, name in sorted(pairs, key=lambda pair: pair[0]))

    def _long(self) -> tuple[tuple[str, int], ...]:
        found = ((rule.name, next((s for s in LONG_SIZES if rule.allows(s)), 0)) for rule in self._dims)
        return tuple((name, size) for name, size in found if size)

    def bounded(self, sizes: dict[str, int], chosen: str) -> dict[str, int]:
        """The sizes, with the companions (and at last the edge itself) made smaller until all tensors are small."""
        for name in (*(n for n in sizes if n != chosen), chosen):
            while self._elements(sizes) > MAX_ELEMENTS and sizes[name] > self.companions[name][0]:
                smaller = [s for s in (*EDGE_SIZES, *self.companions[name]) if s < sizes[name]]
                allowed = [s for s in smaller if s in self.companions[name] or (name == chosen and s > 4)]
                if not allowed:
                    break
                sizes = {**sizes, name: max(allowed)}
        return sizes

    def _elements(self, sizes: Mapping[str, int]) -> int:
        total = 0
        for _, _, spec in self._domain.leaves():
            total += math.prod(a.size if a.size is not None else sizes.get(a.name, 4) for a in spec.shape)
        return total


class _Drawing:
    """Draws recipes with Hypothesis."""

    def __init__(self, domain: Domain, sizes: SizeRange, *, broadcast: bool, styles: tuple[Style, ...]) -> None:
        self.domain = domain
        self.choices = Choices(domain, sizes, broadcast=broadcast)
        self.seeds = st.integers(0, MAX_SEED)
        self.styles = st.sampled_from(styles)
        self.cotangents = st.sampled_from(COTANGENTS)
        self.batch = st.lists(st.integers(1, 3), max_size=2).map(tuple)

    def strategy(self) -> SearchStrategy[Recipe]:
        return st.composite(self.recipe)()

    def recipe(self, draw: DrawFn) -> Recipe:
        sizes = self._edge_sizes(draw) if self.choices.edges else self._ordinary_sizes(draw)
        return Recipe(
            sizes=tuple(sizes.items()),
            batches=tuple((name, draw(self.batch)) for name in self.choices.batches),
            broadcast=self._broadcast(draw),
            seed=draw(self.seeds),
            style=draw(self.styles),
            arguments=self._arguments(draw),
            cotangent=draw(self.cotangents),
        )

    def _ordinary_sizes(self, draw: DrawFn) -> dict[str, int]:
        return {name: draw(st.sampled_from(sizes)) for name, sizes in self.choices.sizes.items()}

    def _edge_sizes(self, draw: DrawFn) -> dict[str, int]:
        chosen, edge = draw(st.sampled_from(self.choices.edges))
        sizes = {
            name: edge if name == chosen else draw(st.sampled_from(companions))
            for name, companions in self.choices.companions.items()
        }
        return self.choices.bounded(sizes, chosen)

    def _broadcast(self, draw: DrawFn) -> tuple[str, ...]:
        places = self.choices.places
        if not places:
            return ()
        bits = draw(st.integers(0, 2 ** len(places) - 1))
        return tuple(place for i, place in enumerate(places) if bits >> i & 1)

    def _arguments(self, draw: DrawFn) -> tuple[tuple[str, object], ...]:
        chosen: list[tuple[str, object]] = []
        for name, spec in zip(self.domain.names, self.domain.specs, strict=True):
            if isinstance(spec, ChoiceSpec) and len(spec.values) > 1:
                chosen.append((name, draw(st.integers(0, len(spec.values) - 1))))
            elif isinstance(spec, StrategySpec):
                chosen.append((name, draw(spec.strategy)))
        return tuple(chosen)


def _ordinary(rule: DimRule) -> tuple[int, ...]:
    own = () if rule.own is None else (rule.own,)
    # The example's own size is more likely than each other one: there everything is known to fit.
    sizes = sorted({s * rule.step for s in ORDINARY_SIZES if rule.allows(s * rule.step)} | set(own))
    return (*(sizes or [rule.minimum or 1]), *own)


def _companions(rule: DimRule, choices: tuple[int, ...]) -> tuple[int, ...]:
    sizes = [s * rule.step for s in choices if rule.allows(s * rule.step)]
    return tuple(sizes) or (rule.minimum or rule.own or 1,)
