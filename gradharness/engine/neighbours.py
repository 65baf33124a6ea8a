"""Recipes around a failing one: unlike it, to tell what the fault depends on, and simpler, to show it better."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gradharness.engine.looking import Look
from gradharness.inputs.domain import DimRule, Domain
from gradharness.inputs.plain import plain_recipe
from gradharness.inputs.recipe import CotangentStyle, Recipe
from gradharness.inputs.styles import Style

_SMALL = (1, 2, 3)
_SEEDS = (0, 1, 2)
_MANY = 64  # elements that tell enough of what depends on values
_FURTHER = 6
_SQUARE = 4
_MORE = 5  # by which a dim of a companion is larger than those of a plain case
_LARGEST = 2000  # product of all dims


def companions_of(look: Look, domain: Domain, seed: int) -> Iterator[Recipe]:
    """Cases like a failing one, and unlike it: other values, other sizes."""
    recipe = look.recipe
    plain = plain_recipe(domain, own=False)
    base = plain_recipe(domain, own=True) if recipe.example else recipe
    arguments = base.arguments if recipe.example else recipe.arguments
    general = replace(base, style=plain.style, styles=(), cotangent=CotangentStyle.NORMAL, arguments=arguments)
    yield replace(general, seed=seed + 1)
    yield replace(general, seed=seed + 2)
    yield replace(general, seed=seed + 3, style=base.style, styles=base.styles)
    yield replace(general, seed=seed + 4, sizes=plain.sizes)
    yield replace(general, seed=seed + 5, sizes=_sizes(domain, plain, -1))
    yield replace(general, seed=seed + 6, sizes=_sizes(domain, plain, 3))
    if recipe.arguments:  # the example's own flags, and others
        yield replace(general, seed=seed + 31, arguments=plain.arguments)
        yield replace(general, seed=seed + 32, sizes=plain.sizes, arguments=plain.arguments)
    for number, style in enumerate((Style.LARGE, Style.MIXED)):
        if style in domain.styles:
            yield replace(general, seed=seed + 7 + number, style=style)
    elements = max((x.numel() for x in look.primals.leaves), default=0)
    if elements * _FURTHER < _MANY:
        for number in range(_FURTHER):
            yield replace(general, seed=seed + 9 + number, style=(general.style, base.style)[number % 2])
    last = seed + 9 + (_FURTHER if elements * _FURTHER < _MANY else 0)
    for number, sizes in enumerate((_equal(domain, plain), _sizes(domain, plain, _MORE))):
        if math.prod(size for _, size in sizes) <= _LARGEST:
            yield replace(general, seed=last + number, sizes=sizes)


def _sizes(domain: Domain, plain: Recipe, change: int) -> tuple[tuple[str, int], ...]:
    rules = {rule.name: rule for rule in domain.dims}
    return tuple((name, _allowed(rules[name], max(1, size + change), size)) for name, size in plain.sizes)


def _equal(domain: Domain, plain: Recipe) -> tuple[tuple[str, int], ...]:
    """All dims of one size, so that what is transposed fits."""
    rules = {rule.name: rule for rule in domain.dims}
    return tuple((name, _allowed(rules[name], _SQUARE, size)) for name, size in plain.sizes)


def _allowed(rule: DimRule, size: int, otherwise: int) -> int:
    return size if rule.allows(size) else otherwise


def simpler(recipe: Recipe, domain: Domain) -> Iterator[Recipe]:
    """Recipes that may show the same fault in fewer and simpler numbers, the boldest first."""
    if recipe.example:
        base = plain_recipe(domain, own=True)
        yield from _of_one_size(base, domain)
        yield base
        return
    smaller = tuple(dict.fromkeys((*_of_one_size(recipe, domain), *_of_smaller_sizes(recipe, domain))))
    yield from smaller
    if any(sizes for _, sizes in recipe.batches):
        yield replace(recipe, batches=tuple((name, ()) for name, _ in recipe.batches))
    if recipe.styles:
        yield replace(recipe, styles=())
    if recipe.cotangent is not CotangentStyle.NORMAL:
        yield replace(recipe, cotangent=CotangentStyle.NORMAL)
    for style in domain.styles[: domain.styles.index(recipe.style)] if recipe.style in domain.styles else ():
        yield replace(recipe, style=style)
    yield from (replace(recipe, seed=seed) for seed in _SEEDS if seed < recipe.seed)
    # The fault may show for these sizes, but not with these very numbers.
    plain = plain_recipe(domain, own=True).style
    yield from (replace(r, seed=seed, style=plain, styles=()) for seed in _SEEDS for r in smaller)


def _of_one_size(recipe: Recipe, domain: Domain) -> Iterator[Recipe]:
    rules = {rule.name: rule for rule in domain.dims}
    for small in _SMALL:
        sizes = tuple(
            (name, _allowed(rules[name], min(size, small * rules[name].step), size)) for name, size in recipe.sizes
        )
        if sizes != recipe.sizes:
            yield replace(recipe, sizes=sizes)


def _of_smaller_sizes(recipe: Recipe, domain: Domain) -> Iterator[Recipe]:
    """One dim smaller, and all dims of one size smaller together."""
    rules = {rule.name: rule for rule in domain.dims}
    groups = [{name} for name, _ in recipe.sizes]
    groups += [{n for n, s in recipe.sizes if s == size} for size in sorted({s for _, s in recipe.sizes})]
    seen: set[tuple[tuple[str, int], ...]] = {recipe.sizes}
    for names in groups:
        own = next(s for n, s in recipe.sizes if n in names)
        for target in (*_SMALL, own // 2, 3 * own // 4, 7 * own // 8, own - 1):
            sizes = tuple(
                (n, _allowed(rules[n], target, s) if n in names and 0 < target < s else s) for n, s in recipe.sizes
            )
            if sizes not in seen:
                seen.add(sizes)
                yield replace(recipe, sizes=sizes)


def size_of(look: Look) -> tuple[int, int, int, int]:
    """What makes a witness easier to read: fewer elements, simpler values, a plain seed."""
    leaves = look.primals.leaves
    styles = list(Style)
    return (
        int(look.recipe.example and sum(x.numel() for x in leaves) > 4),
        sum(x.numel() for x in leaves),
        styles.index(look.recipe.style),
        look.recipe.seed,
    )
