"""Elements of tensors, drawn from a seed: styles, regions, structure. Short binary numbers throughout."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch

from gradharness.inputs import kinds
from gradharness.inputs.extreme_values import extreme, extreme_index
from gradharness.inputs.specs import IndexSpec, MaskSpec, TensorSpec
from gradharness.inputs.styles import SPECIAL_STYLES, SQUARE_KINDS, CotangentStyle, Kind, Style

Sizes = Sequence[int]
# Bits of a drawn number: few enough that x ± h·v is exact in float64, and that float32 holds the number itself.
BITS = 16
_SIMPLE = torch.tensor([0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.0, -2.0], dtype=torch.float64)
# Of the elements of a mask that are true.
_SHARES = {
    Style.SIMPLE: 1.0, Style.TINY: 0.1, Style.ZEROS: 0.1, Style.LARGE: 0.9, Style.BLANK: 0.0, Style.HUGE: 1.0,
}  # fmt: skip
_INTEGERS = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0], dtype=torch.float64)


def generator(seed: int, label: str) -> torch.Generator:
    """A stream of random numbers of its own for every label: another leaf's size does not change this one's values."""
    digest = hashlib.blake2b(f"{seed}/{label}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def short(t: torch.Tensor, bits: int = BITS) -> torch.Tensor:
    """The nearest numbers with ``bits`` significant bits."""
    mantissa, exponent = torch.frexp(t)
    return torch.ldexp(torch.round(mantissa * 2.0**bits) * 2.0**-bits, exponent)


def draw_tensor(spec: TensorSpec, sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    """Values for a floating (or complex) tensor, in float64 (or complex128).

    Args:
        spec: Region and structure.
        sizes: The shape.
        style: Kind of elements; a special one where the tensor's structure leaves it free, else a normal one.
        g: Source of randomness.
    """
    if style in SPECIAL_STYLES and spec.kind not in (Kind.PLAIN, Kind.SORTED):
        style = Style.NORMAL
    if spec.complex:
        real = _plain(spec, sizes, style, g)
        return torch.complex(real, _plain(spec, sizes, style, g))
    if spec.kind in SQUARE_KINDS and len(sizes) >= 2 and sizes[-1] == sizes[-2]:
        return _square(spec, sizes, style, g)
    if spec.kind in (Kind.UNIT_SUM, Kind.BINARY):
        return _unit_sum(sizes, style, g) if spec.kind is Kind.UNIT_SUM else _binary(sizes, g)
    if spec.kind is Kind.NEAR and spec.center is not None:
        return _near(spec.center, sizes, style, g)
    values = _plain(spec, sizes, style, g)
    if spec.kind is Kind.UNIT:
        return kinds.unit(values)
    return values.sort(-1).values if spec.kind is Kind.SORTED and sizes else values


def draw_index(spec: IndexSpec, sizes: Sizes, upper: int, style: Style, g: torch.Generator) -> torch.Tensor:
    """Integers from ``spec.low`` to ``upper`` (inclusive)."""
    count = math.prod(sizes)
    span = max(1, upper - spec.low + 1)
    if spec.unique:
        t = torch.cat([torch.randperm(span, generator=g) for _ in range(-(-count // span))] or [torch.empty(0).long()])
        t = t[:count]
    elif style is Style.SIMPLE:
        t = torch.arange(count) % span
    elif (ends := extreme_index(count, span, style, g)) is not None:
        t = ends
    else:
        t = torch.randint(0, max(1, span // 2) if style is Style.TIES else span, (count,), generator=g)
    if spec.cover and count >= span and not spec.unique:
        t[torch.randperm(count, generator=g)[:span]] = torch.arange(span)
    t = (t + spec.low).reshape(tuple(sizes))
    if spec.special and style is not Style.SIMPLE:
        chosen = torch.tensor(spec.special)[torch.randint(0, len(spec.special), tuple(sizes), generator=g)]
        t = torch.where(torch.rand(tuple(sizes), generator=g) < 0.25, chosen, t)
    return (_sorted(t, spec, upper) if spec.sorted else t).to(spec.dtype)


def draw_mask(spec: MaskSpec, sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    """Truth values: all true when simple, none when blank, else about half (or a tenth) of them."""
    t = torch.rand(tuple(sizes), generator=g) < _SHARES.get(style, 0.5)
    if style is Style.BLANK_ROW and len(sizes) > 1 and t.numel():
        t[torch.randint(0, sizes[0], (), generator=g)] = False
    if spec.nonempty and sizes and sizes[-1] > 0:
        chosen = torch.randint(0, sizes[-1], (*sizes[:-1], 1), generator=g)
        t = t.scatter(-1, chosen, torch.ones_like(chosen, dtype=torch.bool))
    return t


def draw_cotangent(sizes: Sizes, style: CotangentStyle, g: torch.Generator) -> torch.Tensor:
    """Values for a cotangent: signed, in general position, unless the style is a special one."""
    shape = tuple(sizes)
    if style is CotangentStyle.ONES:
        return torch.ones(shape, dtype=torch.float64)
    values = signed(shape, g)
    if style is CotangentStyle.LARGE:
        return values * 64
    if style is CotangentStyle.SMALL:
        return values * 2.0**-10
    if style is CotangentStyle.NORMAL or values.numel() == 0:
        return values
    keep = torch.zeros(values.numel(), dtype=torch.bool)
    if style is CotangentStyle.SPARSE:
        keep |= torch.rand(values.numel(), generator=g) < 0.1
    keep[torch.randint(0, values.numel(), (1,), generator=g)] = True
    if style is CotangentStyle.ONE_HOT:
        return keep.reshape(shape).double()
    return values * keep.reshape(shape)


def signed(sizes: Sizes, g: torch.Generator) -> torch.Tensor:
    """Signs times magnitudes in (0.5, 1.5), of 14 bits: neither small elements nor pairs that cancel."""
    # An odd multiple of 2^-13 in (-1, 1), moved away from zero by a half: one draw gives sign and magnitude.
    t = torch.randint(-(2**12), 2**12, tuple(sizes), generator=g, dtype=torch.float64).add_(0.5).mul_(2.0**-12)
    return t.add_(t.sign(), alpha=0.5)


def _plain(spec: TensorSpec, sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    if style in SPECIAL_STYLES:
        values = extreme(_plain(spec, sizes, Style.NORMAL, g), style, (spec.low, spec.high), g)
        return values if (spec.low, spec.high) == (None, None) else short(values)
    if spec.low is not None and spec.high is not None:
        return _between(spec.low, spec.high, sizes, style, g)
    values = _free(sizes, style, g) * spec.scale
    if spec.low is not None:
        return short(spec.low + values.abs() + spec.scale * 2.0**-10)
    if spec.high is not None:
        return short(spec.high - values.abs() - spec.scale * 2.0**-10)
    return values


def _normal(sizes: Sizes, g: torch.Generator) -> torch.Tensor:
    t = torch.randn(tuple(sizes), generator=g, dtype=torch.float64)
    return torch.round(t * 2.0**BITS) * 2.0**-BITS


def _pick(table: torch.Tensor, sizes: Sizes, g: torch.Generator) -> torch.Tensor:
    return table[torch.randint(0, len(table), tuple(sizes), generator=g)]


def _mixed(sizes: Sizes, g: torch.Generator) -> torch.Tensor:
    big = torch.round(10 + 90 * torch.rand(tuple(sizes), generator=g, dtype=torch.float64))
    values = _normal(sizes, g)
    return torch.where(torch.rand(tuple(sizes), generator=g) < 0.2, torch.copysign(big, values), values)


def _zeros(t: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Some elements zero, and now and then a whole row."""
    t = t * (torch.rand(t.shape, generator=g) > 0.3)
    if t.dim() >= 2 and t.numel() and torch.rand((), generator=g) < 0.5:
        t[torch.randint(0, t.shape[0], (), generator=g)] = 0
    return t


def _ties(t: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Elements repeated along each axis."""
    for axis, size in enumerate(t.shape):
        if size > 1:
            t = t.index_select(axis, torch.randint(0, (size + 1) // 2, (size,), generator=g))
    return t


_FREE: dict[Style, Callable[[Sizes, torch.Generator], torch.Tensor]] = {
    Style.SIMPLE: lambda s, g: _pick(_SIMPLE, s, g),
    Style.NORMAL: _normal,
    Style.INTEGERS: lambda s, g: _pick(_INTEGERS, s, g),
    Style.ZEROS: lambda s, g: _zeros(_normal(s, g), g),
    Style.TIES: lambda s, g: _ties(_normal(s, g), g),
    Style.OFFSET: lambda s, g: 30 + _normal(s, g),
    Style.LARGE: lambda s, g: 16 * _normal(s, g),
    Style.TINY: lambda s, g: 2.0**-10 * _normal(s, g),
    Style.MIXED: _mixed,
}


def _free(sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    return _FREE[style](sizes, g)


# Where in (0, 1) the values of a bounded region lie: start, length, and how many steps between (0: all numbers).
_WHERE: dict[Style, tuple[float, float, int]] = {
    Style.SIMPLE: (0.25, 0.5, 2),
    Style.INTEGERS: (0.125, 0.75, 6),
    Style.OFFSET: (0.75, 0.22, 0),
    Style.TINY: (0.004, 0.06, 0),
    Style.LARGE: (0.9, 0.09, 0),
}


def _between(low: float, high: float, sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    """Values inside an interval; over several octaves of one sign they are spread evenly in the exponent."""
    start, length, steps = _WHERE.get(style, (0.02, 0.96, 0))
    u = torch.rand(tuple(sizes), generator=g, dtype=torch.float64)
    u = start + length * (torch.floor(u * (steps + 1)) / steps if steps else u)
    if style is Style.TIES:
        u = _ties(u, g)
    if low > 0 and high / low > 4:
        return short(low * (high / low) ** u)
    if high < 0 and low / high > 4:
        return short(high * (low / high) ** u)
    return short(low + (high - low) * u)


def _square(spec: TensorSpec, sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    n = sizes[-1]
    if spec.kind is Kind.ORTHOGONAL:
        return kinds.orthogonal(sizes, style, g)
    if spec.kind is Kind.INVERTIBLE:
        return short(kinds.invertible(sizes, style, g), 24) * spec.scale
    values = _free(sizes, style, g) * spec.scale
    if spec.kind is Kind.SYMMETRIC:
        return values.tril() + values.tril(-1).mT
    if spec.kind is Kind.LOWER:
        # The diagonal stays away from zero: triangular matrices are factors.
        diagonal = short(spec.scale * (0.5 + torch.rand((*sizes[:-1],), generator=g, dtype=torch.float64)))
        return values.tril(-1) + torch.diag_embed(diagonal)
    root = short(values, 8)
    ridge = short(root.square().mean().reshape(()), 2) * 0.5 if values.numel() else root.new_ones(())
    product = root @ root.mT / max(1, n)
    return short((product + product.mT) / 2) + torch.eye(n, dtype=torch.float64) * (ridge + spec.scale * 2.0**-6)


def _binary(sizes: Sizes, g: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, tuple(sizes), generator=g).double()


def _unit_sum(sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    weights = _between(0.0, 1.0, sizes, style, g)
    return weights / weights.sum(-1, keepdim=True)


def _near(center: torch.Tensor, sizes: Sizes, style: Style, g: torch.Generator) -> torch.Tensor:
    values = resize(center, sizes)
    spread = float(center.std(correction=0)) if center.numel() > 1 else 0.0
    magnitude = float(center.abs().mean()) if center.numel() else 0.0
    width = (spread or magnitude) * (2.0**-10 if style in (Style.SIMPLE, Style.TINY) else 2.0**-5)
    return short(values + width * _normal(sizes, g).clamp(-2, 2), 20)


def _sorted(t: torch.Tensor, spec: IndexSpec, upper: int) -> torch.Tensor:
    if not t.dim() or not t.shape[-1]:
        return t
    t = t.sort(-1).values
    t[..., 0] = spec.low
    if spec.inclusive and t.shape[-1] > 1:
        t[..., -1] = upper
    return t


def resize(t: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """The tensor cut, or repeated from its start, to other sizes. An axis of size zero grows with ones."""
    for axis, size in enumerate(sizes):
        if t.shape[axis] == size:
            continue
        if t.shape[axis] == 0:
            t = t.new_ones((*t.shape[:axis], size, *t.shape[axis + 1 :]))
        else:
            t = t.index_select(axis, torch.arange(size, device=t.device) % t.shape[axis])
    return t
