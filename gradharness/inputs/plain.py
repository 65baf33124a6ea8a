"""Plain recipes: the first cases of a search, and companions of a failing one."""

from __future__ import annotations

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.strategies import SearchStrategy

from gradharness.inputs.domain import DimRule, Domain
from gradharness.inputs.recipe import Recipe
from gradharness.inputs.specs import StrategySpec
from gradharness.inputs.styles import Style


def plain_recipe(domain: Domain, *, own: bool, style: Style = Style.NORMAL, seed: int = 0) -> Recipe:
    """A recipe of ordinary sizes, without broadcasting.

    Args:
        domain: Where it is one of.
        own: True for the example's own sizes; else unlike sizes of three and more, so that no two dims are confused.
        style: Kind of elements.
        seed: Gives all elements.
    """
    rules = [rule for rule in domain.dims if not rule.variadic]
    return Recipe(
        sizes=tuple((rule.name, _size(rule, number, own=own)) for number, rule in enumerate(rules)),
        batches=tuple((rule.name, ()) for rule in domain.dims if rule.variadic),
        style=style if style in domain.styles else domain.styles[0],
        seed=seed,
        arguments=_arguments(domain),
    )


def trial_recipes(domain: Domain) -> tuple[Recipe, ...]:
    """A few recipes for a first try of a subject: the example, or small sizes."""
    if domain.examples is not None:
        return (Recipe(example=True),)
    return (plain_recipe(domain, own=False), plain_recipe(domain, own=True))


def _size(rule: DimRule, number: int, *, own: bool) -> int:
    wanted = [rule.own or 2, 2] if own else [3 + number % 3, rule.own or 3]
    return next((s for s in (*wanted, rule.minimum, rule.step) if s > 0 and rule.allows(s)), rule.own or 1)


def _arguments(domain: Domain) -> tuple[tuple[str, object], ...]:
    """Values of arguments that a strategy draws; choices stay at their first."""
    drawn: list[tuple[str, object]] = []
    for name, spec in zip(domain.names, domain.specs, strict=True):
        if isinstance(spec, StrategySpec):
            drawn.append((name, _simplest(spec.strategy)))
    return tuple(drawn)


def _simplest(strategy: SearchStrategy[object]) -> object:
    """The first value that Hypothesis draws, which is the strategy's simplest."""
    seen: list[object] = []

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=1,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def draw(value: object) -> None:
        seen.append(value)

    draw()
    return seen[0]
