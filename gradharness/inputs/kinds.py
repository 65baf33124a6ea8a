"""Kinds of tensors that a user may ask for by name: their words, the axes that they need, values, directions."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch

from gradharness.errors import SpecError
from gradharness.inputs.shapes import Axis, Shape, shape_text
from gradharness.inputs.styles import SQUARE_KINDS, SYMMETRIC_KINDS, Kind, Style

# The words of `tensor(..., kind=...)`. The other kinds are only ever inferred from examples.
KINDS: dict[str, Kind] = {
    "spd": Kind.SPD,
    "symmetric": Kind.SYMMETRIC,
    "lower": Kind.LOWER,
    "orthogonal": Kind.ORTHOGONAL,
    "invertible": Kind.INVERTIBLE,
    "sorted": Kind.SORTED,
    "simplex": Kind.UNIT_SUM,
    "unit": Kind.UNIT,
}
# Singular values of an invertible matrix lie within a factor of two of its scale: its condition number is four at most.
_SINGULAR_VALUES = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def parse_kind(word: object, shape: Shape, where: str) -> Kind:
    """The kind of a word, for a tensor of this shape.

    Args:
        word: One of ``KINDS``; None for no structure.
        shape: The tensor's axes.
        where: What is read, for the message.

    Raises:
        SpecError: If there is no such kind, or the axes do not fit it.
    """
    if word is None:
        return Kind.PLAIN
    if not isinstance(word, str) or word not in KINDS:
        close = difflib.get_close_matches(str(word), KINDS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SpecError(f"{where}: kind={word!r} is none; {hint}kinds: {', '.join(KINDS)}")
    kind = KINDS[word]
    if kind in SQUARE_KINDS and not _is_square(shape):
        written = shape_text(shape)
        raise SpecError(f"{where}: kind={word!r} needs two equal last dims, such as 'n n' or '*b n n', not {written!r}")
    if kind not in SQUARE_KINDS and not (shape and _is_fixed(shape[-1])):
        written = shape_text(shape)
        raise SpecError(f"{where}: kind={word!r} needs a last dim, such as 'n' or '*b n', not {written!r}")
    return kind


def _is_fixed(axis: Axis) -> bool:
    """Whether the axis is one dim that never broadcasts."""
    return not axis.variadic and not str(axis).startswith("#")


def _is_square(shape: Shape) -> bool:
    if len(shape) < 2 or not (_is_fixed(shape[-1]) and _is_fixed(shape[-2])) or shape[-1].name == "_":
        return False
    return (shape[-1].name, shape[-1].size) == (shape[-2].name, shape[-2].size)


def orthogonal(sizes: Sequence[int], style: Style, g: torch.Generator) -> torch.Tensor:
    """Orthogonal matrices: permutations with signs where simple, uniformly distributed ones elsewhere."""
    normal = torch.randn(tuple(sizes), generator=g, dtype=torch.float64)
    if style is Style.SIMPLE:
        n = sizes[-1]
        places = torch.rand((*sizes[:-2], n), generator=g).argsort(-1)
        signs = 2.0 * torch.randint(0, 2, (*sizes[:-2], n, 1), generator=g) - 1
        return torch.nn.functional.one_hot(places, max(n, 1))[..., :n].double() * signs
    q, r = torch.linalg.qr(normal)
    # Haar measure: the factor whose R has a positive diagonal (Mezzadri, Notices AMS 54, 2007).
    turned: torch.Tensor = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-2)
    return turned


def invertible(sizes: Sequence[int], style: Style, g: torch.Generator) -> torch.Tensor:
    """Matrices with singular values of 1/2, 1 and 2: their condition number is four at most."""
    left, right = orthogonal(sizes, style, g), orthogonal(sizes, style, g)
    chosen = torch.randint(0, len(_SINGULAR_VALUES), tuple(sizes[:-1]), generator=g)
    return (left * _SINGULAR_VALUES[chosen].unsqueeze(-2)) @ right


def unit(values: torch.Tensor) -> torch.Tensor:
    """Rows of unit length along the last axis, from any values; a row of zeros becomes the first unit vector."""
    if not values.numel():
        return values
    largest = values.abs().amax(-1, keepdim=True)
    first = torch.zeros_like(values)
    first[..., 0] = 1.0
    values = torch.where(largest > 0, values / torch.where(largest > 0, largest, 1.0), first)
    length: torch.Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return values / length


def along(kind: Kind, direction: torch.Tensor) -> torch.Tensor:
    """The direction as the kind of tensor allows it.

    Symmetric (and positive definite) matrices are moved to symmetric ones and lower triangular ones to lower triangular
    ones: functions of them may read one triangle alone. Every other kind is moved freely, since functions of it are
    defined around it as well.
    """
    if direction.dim() < 2 or direction.shape[-1] != direction.shape[-2]:
        return direction
    if kind is Kind.LOWER:
        return direction.tril()
    return direction.tril() + direction.tril(-1).mT if kind in SYMMETRIC_KINDS else direction
