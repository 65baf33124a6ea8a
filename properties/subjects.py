"""Correct subjects as a user would hand them to ``gradharness.check``: with specs, or with example values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from gradharness import index, mask, tensor
from properties.drawing import Arg, Entry, Where, primals

Inputs = tuple[object, ...] | Mapping[str, object]

# Families whose functions accept every size from one on (and most of them zero): their inputs are told by specs, which
# also say which axes go together.
_SPECIFIED = ("elementwise", "binary", "products", "indexing and masks", "linear algebra")
# An expansion by cofactors takes n! steps, and sizes grow.
_SLOW_REFERENCES = {"det"}
_KINDS = {"square": "invertible", "spd": "spd", "symmetric": "symmetric"}


@dataclass(frozen=True, kw_only=True)
class Correct:
    """A subject that is right.

    Attributes:
        name: In reports.
        subject: As ``check`` takes it.
        inputs: Makes specs or example values, from a seed.
        options: Further keywords of ``check``.
    """

    name: str
    subject: object
    inputs: Callable[[int], Inputs]
    options: Mapping[str, Any] = field(default_factory=dict)


def correct(name: str, subject: object, *inputs: object, **options: Any) -> Correct:
    """A subject with example values, each a shape or a function of a generator; or with specs, as one mapping."""
    if len(inputs) == 1 and isinstance(inputs[0], dict):
        specs = inputs[0]
        return Correct(name=name, subject=subject, inputs=lambda _: specs, options=options)

    def examples(seed: int) -> tuple[object, ...]:
        g = torch.Generator().manual_seed(seed)
        return tuple(_example(one, g) for one in inputs)

    return Correct(name=name, subject=subject, inputs=examples, options=options)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Callable[[torch.Generator], torch.Tensor]:
    """Normal numbers."""
    return lambda g: torch.randn(shape, generator=g, dtype=dtype).requires_grad_()


def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Callable[[torch.Generator], torch.Tensor]:
    """Uniform numbers."""
    return lambda g: (low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)).requires_grad_()


def integers(*shape: int, below: int) -> Callable[[torch.Generator], torch.Tensor]:
    """Integers from zero on."""
    return lambda g: torch.randint(below, shape, generator=g)


def truths(*shape: int) -> Callable[[torch.Generator], torch.Tensor]:
    """Truth values."""
    return lambda g: torch.rand(shape, generator=g) < 0.5


def fixed(value: Any) -> Callable[[torch.Generator], Any]:
    """Always the same value."""
    return lambda g: value


def spd(n: int) -> Callable[[torch.Generator], torch.Tensor]:
    """A symmetric positive definite matrix."""

    def make(g: torch.Generator) -> torch.Tensor:
        root = torch.randn(n, n, generator=g, dtype=torch.float64)
        product = root @ root.T / n + 0.5 * torch.eye(n, dtype=torch.float64)
        return ((product + product.T) / 2).requires_grad_()

    return make


def of_entry(entry: Entry) -> Correct:
    """An entry of the catalogue, told by specs where they can say what it accepts."""
    told = entry.reference and len(entry.name) % 2 and entry.name not in _SLOW_REFERENCES
    reference = {"reference": entry.reference} if told else {}
    specs = _specs(entry)
    if specs is not None:
        return correct(entry.name, entry.function, specs, **reference)

    def examples(seed: int) -> tuple[object, ...]:
        point = primals(entry, seed, Where.ORDINARY, torch.float64)
        pairs = zip(entry.args, point.values, strict=True)
        return tuple(value.requires_grad_() if arg.active else value for arg, value in pairs)

    return Correct(name=entry.name, subject=entry.function, inputs=examples, options=reference)


def _example(one: object, g: torch.Generator) -> object:
    return normal(*one)(g) if isinstance(one, tuple) else one(g) if callable(one) else one


def _specs(entry: Entry) -> dict[str, object] | None:
    dims = {size for arg in entry.args for size in arg.shape}
    bounded = all(arg.upper in dims for arg in entry.args if arg.kind == "index")
    if entry.family not in _SPECIFIED or entry.smallest > 1 or not bounded:
        return None
    return dict(zip(_names(entry), map(_spec, entry.args), strict=True))


def _names(entry: Entry) -> list[str]:
    try:
        parameters = list(inspect.signature(entry.function).parameters)
    except ValueError:  # a builtin
        parameters = []
    return [parameters[i] if i < len(parameters) else f"x{i}" for i in range(len(entry.args))]


def _spec(arg: Arg) -> object:
    shape = " ".join(str(size) for size in arg.shape)
    if arg.kind == "index":
        return index(shape, below=arg.upper)
    if arg.kind == "mask":
        return mask(shape)
    dtype = torch.complex128 if arg.kind == "complex" else None
    return tensor(shape, low=arg.low, high=arg.high, dtype=dtype, grad=arg.active, kind=_KINDS.get(arg.kind))
