"""One draw, written down: plain data from which the same primals, cotangents and tangents come again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar, overload

import torch

from gradharness.errors import UsageError
from gradharness.inputs import kinds as structures
from gradharness.inputs import realization, values
from gradharness.inputs.domain import Domain
from gradharness.inputs.styles import CotangentStyle, Kind, Style
from gradharness.model.subject import Primals, Tensors

__all__ = [
    "CotangentStyle",
    "Directions",
    "Kind",
    "Recipe",
    "Style",
    "cotangents",
    "directions",
    "example_recipe",
    "realize",
]

S = TypeVar("S", bound=StrEnum)
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All choices of one draw. The first value of every field is the simplest.

    Attributes:
        sizes: (dim, size) of every dim.
        batches: (variadic dim, its sizes).
        broadcast: Places of the axes that have size one whatever their dim's size, such as ``bias:0``.
        seed: Gives all elements.
        style: Kind of elements of all tensors.
        styles: (leaf's label, style) of tensors with a style of their own.
        arguments: (argument, number of its choice), or (argument, drawn value) for a strategy.
        cotangent: Kind of elements of the cotangents.
        example: True for the user's own values in place of drawn ones.
    """

    sizes: tuple[tuple[str, int], ...] = ()
    batches: tuple[tuple[str, tuple[int, ...]], ...] = ()
    broadcast: tuple[str, ...] = ()
    seed: int = 0
    style: Style = Style.SIMPLE
    styles: tuple[tuple[str, Style], ...] = ()
    arguments: tuple[tuple[str, Any], ...] = field(default=())
    cotangent: CotangentStyle = CotangentStyle.NORMAL
    example: bool = False

    def style_of(self, label: str) -> Style:
        """Style of the tensor of this label."""
        return dict(self.styles).get(label, self.style)

    def to_json(self) -> dict[str, object]:
        """Plain data. A strategy's value that JSON cannot say becomes ``{"repr": …}`` and does not come back."""
        return {
            "sizes": dict(self.sizes),
            "batches": {name: list(sizes) for name, sizes in self.batches},
            "broadcast": list(self.broadcast),
            "seed": self.seed,
            "style": str(self.style),
            "styles": {label: str(style) for label, style in self.styles},
            "arguments": {name: _plain(value) for name, value in self.arguments},
            "cotangent": str(self.cotangent),
            "example": self.example,
        }

    @classmethod
    def from_json(cls, data: object) -> Recipe:
        """The recipe that ``to_json`` wrote.

        Raises:
            UsageError: If the data is not that of a recipe.
        """
        if not isinstance(data, Mapping):
            raise UsageError(f"recipe: expected an object, not {type(data).__name__}; give what Recipe.to_json() wrote")
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                raise UsageError(f"recipe: unknown field {key!r}; known: {', '.join(sorted(known))}")
        return cls(
            sizes=tuple((name, _natural(size, f"sizes.{name}")) for name, size in _object(data, "sizes").items()),
            batches=tuple((name, _naturals(v, f"batches.{name}")) for name, v in _object(data, "batches").items()),
            broadcast=tuple(_text(v, "broadcast") for v in _list(data.get("broadcast", []), "broadcast")),
            seed=_natural(data.get("seed", 0), "seed"),
            style=_member(Style, data.get("style", Style.SIMPLE), "style"),
            styles=tuple((k, _member(Style, v, f"styles.{k}")) for k, v in _object(data, "styles").items()),
            arguments=tuple((name, _value(v, name)) for name, v in _object(data, "arguments").items()),
            cotangent=_member(CotangentStyle, data.get("cotangent", CotangentStyle.NORMAL), "cotangent"),
            example=_boolean(data.get("example", False), "example"),
        )


def example_recipe(domain: Domain, *, seed: int = 0) -> Recipe | None:
    """The recipe of the user's own values, with cotangents and tangents from ``seed``; None if there are none."""
    return None if domain.examples is None else Recipe(example=True, seed=seed)


def realize(
    domain: Domain, recipe: Recipe, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Primals:
    """The primals of a recipe; the same recipe gives the same bits.

    Args:
        domain: Where the recipe was drawn from.
        recipe: What was drawn.
        dtype: Real floating dtype of the tensors (complex ones get the matching complex dtype).
        device: Where all tensors are put.

    Returns:
        The point, detached.

    Raises:
        UsageError: If the recipe is not one of this domain.
    """
    if recipe.example:
        if domain.examples is None:
            raise UsageError("recipe: example is true, but there are no example inputs; use a recipe with sizes")
        made = tuple(realization.copies(value, dtype, device) for value in domain.examples)
    else:
        plan = realization.Plan(
            sizes=realization.fitted(domain, dict(recipe.sizes)),
            batches=dict(recipe.batches),
            broadcast=frozenset(recipe.broadcast),
            seed=recipe.seed,
            style_of=recipe.style_of,
            arguments=dict(recipe.arguments),
        )
        made = realization.arguments(domain, plan, dtype, device)
    return Primals(domain.names, made, domain.active)


def cotangents(recipe: Recipe, outputs_like: Sequence[torch.Tensor], stream: int = 0) -> Tensors:
    """One cotangent per output, in its shape, dtype and device.

    Args:
        recipe: Gives seed and style.
        outputs_like: The outputs that take a cotangent.
        stream: Other numbers give independent draws; from 1 on the style is always the general one.
    """
    style = recipe.cotangent if stream == 0 else CotangentStyle.NORMAL
    drawn = []
    for number, like in enumerate(outputs_like):
        g = values.generator(recipe.seed, f"cotangent {stream}.{number}")
        w = values.draw_cotangent(like.shape, style, g)
        if like.is_complex():
            w = torch.complex(w, values.draw_cotangent(like.shape, style, g))
        drawn.append(w.to(dtype=like.dtype, device=like.device))
    return tuple(drawn)


class Directions(Sequence[Tensors]):
    """Tangents, made when asked for: ``v = σ · sign · U(0.5, 1.5)``, σ being each tensor's spread.

    Args:
        recipe: Gives the seed.
        leaves: The tensors that are moved.
        kinds: Structure of each leaf; a symmetric matrix is moved within the symmetric ones. Empty for none.
        count: How many there are.
    """

    __slots__ = ("_count", "_kinds", "_leaves", "_lengths", "_made", "_seed")

    def __init__(
        self, recipe: Recipe, leaves: Sequence[torch.Tensor], *, kinds: Sequence[Kind] = (), count: int = 16
    ) -> None:
        self._seed = recipe.seed
        self._leaves = tuple(leaves)
        self._kinds = tuple(kinds) or (Kind.PLAIN,) * len(self._leaves)
        self._count = count
        self._lengths: tuple[float, ...] = ()  # one per leaf, once a direction has been asked for
        self._made: dict[int, Tensors] = {}

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, item: int) -> Tensors: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Tensors]: ...
    def __getitem__(self, item: int | slice) -> Tensors | Sequence[Tensors]:
        if isinstance(item, slice):
            return tuple(self[i] for i in range(*item.indices(self._count)))
        if not -self._count <= item < self._count:
            raise IndexError(f"direction {item} of {self._count}")
        number = item % self._count
        if number not in self._made:
            self._made[number] = self._drawn(number)
        return self._made[number]

    def _drawn(self, number: int) -> Tensors:
        # A power of two leaves the drawn numbers as short as they are.
        self._lengths = self._lengths or tuple(2.0 ** round(math.log2(spread(leaf))) for leaf in self._leaves)
        return tuple(
            _tangent(leaf, kind, values.generator(self._seed, f"direction {number}.{i}"), length)
            for i, (leaf, kind, length) in enumerate(zip(self._leaves, self._kinds, self._lengths, strict=True))
        )


def directions(domain: Domain, recipe: Recipe, primals: Primals, *, count: int = 16) -> Directions:
    """Tangents at a point of the domain, which keep the structure of symmetric and triangular matrices."""
    kinds = {path: getattr(spec, "kind", Kind.PLAIN) for _, path, spec in domain.leaves()}
    return Directions(recipe, primals.leaves, kinds=[kinds.get(p, Kind.PLAIN) for p in domain.active], count=count)


def spread(t: torch.Tensor) -> float:
    """Length of a step in each element: standard deviation, but no less than a sixteenth of the rms."""
    if t.numel() == 0:
        return 1.0
    flat = t.detach().to(torch.complex128 if t.is_complex() else torch.float64).reshape(-1)
    square = float(torch.vdot(flat, flat).real) / flat.numel()
    mean = math.hypot(*torch.view_as_real(flat.mean()).tolist()) if flat.is_complex() else float(flat.mean())
    # Cancellation is no matter: where it sets in, the sixteenth of the rms is larger.
    std, rms = math.sqrt(max(square - mean * mean, 0.0)), math.sqrt(square)
    sigma = max(std, rms / 16, 2.0**-10 if rms == 0 else 0.0)
    return sigma if 0 < sigma < math.inf else 1.0


def _tangent(leaf: torch.Tensor, kind: Kind, g: torch.Generator, length: float) -> torch.Tensor:
    v = values.signed(leaf.shape, g)
    v = torch.complex(v, values.signed(leaf.shape, g)) if leaf.is_complex() else structures.along(kind, v)
    return v.mul_(length).to(dtype=leaf.dtype, device=leaf.device)


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        plain = [_plain(item) for item in value]
        return {"repr": repr(value)} if any(isinstance(item, dict) for item in plain) else plain
    return {"repr": repr(value)}


def _object(data: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = data.get(name, {})
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"recipe: {name} must be an object, not {value!r}")
    return value


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise UsageError(f"recipe: {name} must be a list, not {value!r}")
    return value


def _natural(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"recipe: {name} must be a whole number from 0 on, not {value!r}")
    return value


def _naturals(value: object, name: str) -> tuple[int, ...]:
    return tuple(_natural(item, name) for item in _list(value, name))


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"recipe: {name} must hold text, not {value!r}")
    return value


def _boolean(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"recipe: {name} must be true or false, not {value!r}")
    return value


def _member(enum: type[S], value: object, name: str) -> S:
    try:
        return enum(_text(value, name))
    except ValueError:
        raise UsageError(f"recipe: {name} must be one of {', '.join(enum)}, not {value!r}") from None


def _value(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        raise UsageError(f"recipe: argument {name!r} was {value.get('repr')}, which JSON cannot hold; draw it again")
    return value
