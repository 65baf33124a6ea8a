"""From a kept witness to a case of today's test, and from a look at it to what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from gradharness.engine.kept import KeptStatus, KeptWitness, Node, OpaqueNode, TensorNode, leaves
from gradharness.engine.plan import Item
from gradharness.engine.witness_file import recipe_of
from gradharness.errors import UsageError
from gradharness.inputs.domain import Domain, Origin
from gradharness.inputs.membership import sizes_in, why_outside
from gradharness.inputs.plain import plain_recipe
from gradharness.inputs.realization import Plan, fitted, shape_of
from gradharness.inputs.recipe import Recipe, realize
from gradharness.inputs.specs import IndexSpec
from gradharness.model.subject import Primals, Tensors
from gradharness.numerics import tree

_MOST = 2**25  # elements that a recipe may ask for where the file does not hold the values

Find: TypeAlias = Callable[[Item], Sequence[KeptWitness]]


@dataclass(frozen=True, slots=True)
class Known:
    """The kept witnesses of a test.

    Attributes:
        of: Those of an item.
        alone: Whether they are all that is looked at, and nothing is drawn.
    """

    of: Find
    alone: bool = False


NOTHING = Known(lambda _item: ())


@dataclass(frozen=True, slots=True)
class Given:
    """A case that is not drawn.

    Attributes:
        kept: Where it comes from.
        recipe: One of the domain: gives the tangents and whatever else a check needs beside the point.
        primals: The point, as it was kept.
        cotangents: As they were kept; empty where there are none.
    """

    kept: KeptWitness
    recipe: Recipe
    primals: Primals
    cotangents: Tensors


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a kept witness when it was looked at again.

    Attributes:
        kept: The witness, as it was before.
        status: What came of it.
        reason: Why it cannot be run, or is undecided; of a failing one, what has changed about it.
    """

    kept: KeptWitness
    status: KeptStatus
    reason: str = ""


def given(kept: KeptWitness, domain: Domain, *, dtype: torch.dtype, device: str) -> Given:
    """The kept values as a case of a domain. They are used as they are: what the recipe draws today may be other ones.

    Raises:
        UsageError: If they are none of this test's inputs any more; the message says why.
    """
    names = tuple(name for name, _ in kept.arguments())
    if names != domain.names:
        raise UsageError(f"its arguments were {', '.join(names)}, and are {', '.join(domain.names)} now")
    recipe, drawn = _drawn(kept, domain, dtype)
    values = tuple(
        _value(kept, name, node, None if drawn is None else drawn.values[number])
        for number, (name, node) in enumerate(kept.arguments())
    )
    if domain.origin is Origin.DECLARED and (reason := why_outside(domain, values)):
        raise UsageError(f"its values are none of the test's any more: {reason}")
    _insist_on_leaves(domain, values)
    if drawn is None:
        recipe = _instead(recipe, domain, values)
    primals = Primals(domain.names, values, domain.active).to(device=device)
    return Given(kept, recipe, primals, tuple(w.to(device) for w in kept.cotangents()))


def _drawn(kept: KeptWitness, domain: Domain, dtype: torch.dtype) -> tuple[Recipe, Primals | None]:
    """The recipe, and what it draws today; None if it is none of this domain, or would draw other shapes."""
    recipe = recipe_of(kept.entry)
    try:
        if not recipe.example and not _is_modest(kept, domain, recipe):
            return recipe, None
        return recipe, realize(domain, recipe, dtype=dtype)
    except (UsageError, RuntimeError, MemoryError, ValueError, TypeError):
        return recipe, None


def _is_modest(kept: KeptWitness, domain: Domain, recipe: Recipe) -> bool:
    """Whether a recipe asks for the shapes that the file holds, and for no more of what it does not hold."""
    shapes = {
        (number, *path): tuple(kept.tensors[node.name].shape)
        for number, (_, root) in enumerate(kept.arguments())
        for path, node in leaves(root)
        if isinstance(node, TensorNode)
    }
    arguments = dict(recipe.arguments)
    plan = Plan(
        sizes=fitted(domain, dict(recipe.sizes)),
        batches=dict(recipe.batches),
        broadcast=frozenset(recipe.broadcast),
        seed=recipe.seed,
        style_of=recipe.style_of,
        arguments=arguments,
    )
    more = 0
    for label, path, spec in domain.leaves():
        shape = shape_of(spec.shape, label, plan)
        if path not in shapes:
            more += math.prod(shape)
        elif shapes[path] not in (shape, (*shape, 2)):  # complex numbers are kept as pairs
            return False
        below = arguments.get(spec.below) if isinstance(spec, IndexSpec) and isinstance(spec.below, str) else None
        more += below if isinstance(below, int) else 0
    return more <= _MOST


def _value(kept: KeptWitness, name: str, root: Node, today: object) -> object:
    """An argument: the kept leaves, in today's container where that has the same places."""
    found = dict(leaves(root))
    opaque = [node for node in found.values() if isinstance(node, OpaqueNode)]
    if today is None or tuple(path for path, _ in tree.leaves(today)) != tuple(found):
        if opaque:
            raise UsageError(f"its argument {name} was {opaque[0].text}, which a file cannot hold")
        return kept.value(root)
    for path, node in found.items():
        if not isinstance(node, OpaqueNode):
            today = tree.replace(today, path, kept.value(node))
    return today


def _insist_on_leaves(domain: Domain, values: tuple[object, ...]) -> None:
    for label, path in zip(domain.differentiable, domain.active, strict=True):
        try:
            leaf = tree.get(values, path)
        except (KeyError, IndexError, TypeError):
            leaf = None
        if not isinstance(leaf, torch.Tensor) or not (leaf.is_floating_point() or leaf.is_complex()):
            raise UsageError(f"{label} is differentiated now, and was no floating tensor")


def _instead(recipe: Recipe, domain: Domain, values: tuple[object, ...]) -> Recipe:
    """A recipe of today's domain with the sizes of the values, for what is drawn beside them."""
    plain = plain_recipe(domain, own=True)
    sizes = dict(plain.sizes) | {n: s for n, s in sizes_in(domain, values).items() if n in dict(plain.sizes)}
    return replace(plain, sizes=tuple(sizes.items()), seed=recipe.seed)
