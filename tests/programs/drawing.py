"""Shapes, operands and cotangents for any op of the catalogue, from a written seed."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradharness.model.subject import Gradients, Tensors
from gradharness.programs.op import Call, Domain, Op, Parameters, Shape
from gradharness.programs.ops.choosing import broadcast

LAYOUTS = ("contiguous", "permuted", "strided", "expanded")

_SINGLE: tuple[Shape, ...] = (
    (2, 3), (), (3,), (1,), (2, 3, 4), (1, 1), (4, 4), (0,), (2, 1), (1, 3), (2, 2, 1, 3), (2, 0), (1, 2, 1), (2, 4, 4),
    (6,), (0, 3), (2, 3, 2, 2), (3, 1, 4), (5, 2), (1, 2, 6, 6),
)  # fmt: skip
_NAMES = (1, 2, 3, 4)


@dataclass(frozen=True)
class Case:
    """An op, and operands' shapes that it takes with the parameters of one choice."""

    op: Op
    shapes: tuple[Shape, ...]
    choice: int
    parameters: Parameters

    def __str__(self) -> str:
        return f"{self.op.source('abcdef', self.parameters)} of {self.shapes}, choice {self.choice}"


def cases(op: Op, count: int, seed: int = 0) -> list[Case]:
    """Up to ``count`` different cases, the simplest first; the first choices are among them for the first shapes."""
    generator = random.Random(f"{op.name} {seed}")
    found: dict[str, Case] = {}
    for shapes in _groups(op, generator):
        if op.same_shape and broadcast(*shapes) is None:
            continue
        for choice in (len(found), generator.randrange(10_000)) if found else (0, 1, 2):
            parameters = op.parameters(shapes, choice)
            if parameters is not None:
                found.setdefault(f"{shapes} {parameters}", Case(op, shapes, choice, parameters))
        if len(found) >= count:
            break
    return list(found.values())[:count]


def _groups(op: Op, generator: random.Random) -> Iterator[tuple[Shape, ...]]:
    """Shapes for all operands: written ones, then drawn ones."""
    for shape in _SINGLE:
        yield (shape,) * op.arity
        if op.arity > 1:
            yield tuple(_narrowed(shape, generator) for _ in range(op.arity))
    for attempt in range(3000):
        if op.arity == 1:
            yield _drawn(generator, generator.randrange(5))
        elif attempt % 3:
            yield _tied(op.arity, generator)
        else:
            whole = _drawn(generator, generator.randrange(5))[0]
            yield tuple(_narrowed(whole, generator) for _ in range(op.arity))


def _drawn(generator: random.Random, rank: int) -> tuple[Shape]:
    return (tuple(generator.choice((1, 2, 3, 4, 6)) for _ in range(rank)),)


def _narrowed(shape: Shape, generator: random.Random) -> Shape:
    """A shape that broadcasts to this one: some sizes made 1, some leading dimensions left out."""
    kept = shape[generator.choice((0, 0, generator.randint(0, len(shape)))) :]
    return tuple(generator.choice((n, n, 1)) for n in kept)


def _tied(arity: int, generator: random.Random) -> tuple[Shape, ...]:
    """Shapes that share sizes, as a product's or a convolution's do."""
    sizes = [generator.choice(_NAMES) for _ in range(3)]
    return tuple(tuple(generator.choice(sizes) for _ in range(generator.randint(1, 4))) for _ in range(arity))


# -------------------------------------------------------------------------------------------------------------- values


def randn(shape: Sequence[int], seed: int, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def laid_out(shape: Sequence[int], seed: int, layout: str, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal numbers in memory as the layout says; one where all stride is 0 along every other dimension."""
    shape = tuple(shape)
    if layout == "permuted":
        return randn(shape[::-1], seed, dtype=dtype).permute(tuple(range(len(shape) - 1, -1, -1)))
    if layout == "strided" and shape:
        return randn((*shape[:-1], 2 * shape[-1] + 1), seed, dtype=dtype)[..., 1::2]
    if layout == "expanded":
        return randn([1 if i % 2 == 0 else n for i, n in enumerate(shape)], seed, dtype=dtype).expand(shape)
    return randn(shape, seed, dtype=dtype)


def _eye(x: torch.Tensor) -> torch.Tensor:
    return torch.eye(x.shape[-1], dtype=x.dtype)


_INTO: dict[Domain, Callable[[torch.Tensor], torch.Tensor]] = {
    Domain.REAL: lambda x: x,
    Domain.POSITIVE: lambda x: x * x.conj() / 4 + 0.5,
    Domain.UNIT: lambda x: 0.9 * x.tanh(),
    Domain.NONZERO: lambda x: x + 0.5 * x.sgn(),
    Domain.ABOVE_ONE: lambda x: x * x.conj() / 4 + 1.5,
    Domain.SPD: lambda x: x @ x.mH / 4 + _eye(x),
    Domain.WELL_CONDITIONED: lambda x: x / 4 + 3 * _eye(x),
    Domain.LOWER: lambda x: x.tril(-1) / 4 + torch.diag_embed(x.diagonal(0, -2, -1).abs().square() / 4 + 0.5),
}


_MATRICES = (Domain.SPD, Domain.WELL_CONDITIONED, Domain.LOWER)


def within(x: torch.Tensor, domain: Domain, layout: str = "contiguous") -> torch.Tensor:
    """The operand brought into the domain, laid out as it was."""
    if domain is Domain.REAL:
        return x
    inside = _INTO[domain](x)
    if layout != "expanded":
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(inside)
    if domain in _MATRICES:  # these are not alike along any dimension
        return inside
    return inside[tuple(slice(0, 1 if stride == 0 else None) for stride in x.stride())].expand(x.shape)


def operands(case: Case, seed: int, layout: str = "contiguous", *, dtype: torch.dtype = torch.float64) -> Tensors:
    """Operands of the case's shapes, each within its domain."""
    drawn = [laid_out(shape, 100 * seed + i, layout, dtype=dtype) for i, shape in enumerate(case.shapes)]
    return tuple(within(x, case.op.domain(i), layout) for i, x in enumerate(drawn))


def cotangents(outputs: Tensors, seed: int, layout: str = "contiguous") -> Tensors:
    """One for each output: normal numbers, or zeros where the output holds indices."""
    return tuple(
        laid_out(y.shape, 7000 + 100 * seed + k, layout, dtype=y.dtype)
        if y.is_floating_point() or y.is_complex()
        else torch.zeros_like(y)
        for k, y in enumerate(outputs)
    )


# ------------------------------------------------------------------------------------------------------------- running


def own(op: Op, values: Sequence[torch.Tensor]) -> Tensors:
    """The operands, with a copy for what an in-place op writes into."""
    return (values[0].clone(), *values[1:]) if op.in_place else tuple(values)


def called(case: Case, values: Sequence[torch.Tensor], parameters: Parameters | None = None) -> Call:
    """Forward, as the tape records it: the first operand of an in-place op holds the result afterwards."""
    chosen = case.parameters if parameters is None else parameters
    with torch.no_grad():
        inputs = own(case.op, values)
        return Call(inputs, case.op.run(inputs, chosen), chosen)


def by_hand(case: Case, values: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> Gradients:
    with torch.no_grad():
        return case.op.pull(called(case, values), weights)


def by_autograd(case: Case, values: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> Tensors:
    """The gradients for the operands, zeros where one takes none; equal operands count as different leaves."""
    leaves = [x.detach().requires_grad_() for x in values]
    outputs = case.op.run(own(case.op, leaves), case.parameters)
    pairs = [(y, g) for y, g in zip(outputs, weights, strict=True) if y.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(x) for x in leaves)
    ys, gs = zip(*pairs, strict=True)
    return torch.autograd.grad(ys, leaves, gs, allow_unused=True, materialize_grads=True)


def error(mine: Any, right: torch.Tensor, weights: Sequence[torch.Tensor]) -> float:
    """The largest difference, relative to the largest element and to a hundredth of the largest cotangent."""
    mine = torch.zeros_like(right) if mine is None else mine
    if not right.numel():
        return 0.0
    sizes = [float(g.abs().max()) / 100 for g in weights if g.numel()]
    return float((mine - right).abs().max()) / max(float(right.abs().max()), *sizes, 1e-300)
