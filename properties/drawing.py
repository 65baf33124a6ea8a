"""Points for correct functions: ordinary ones, and those where a gradient check goes wrong most easily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch

from gradharness.inputs.recipe import Directions, Recipe, cotangents
from gradharness.inputs.styles import CotangentStyle
from gradharness.inputs.values import generator, short
from gradharness.model.case import Case
from gradharness.model.subject import Primals, Subject

Tensor = torch.Tensor


class Where(StrEnum):
    """Kinds of points."""

    ORDINARY = "ordinary"
    SPECIAL = "on or beside a kink or edge"
    TIES = "ties, exact or nearly"
    OFFSET = "offset 1e4 to 1e10"
    HUGE = "huge"
    TINY = "tiny"
    SATURATED = "saturated"


@dataclass(frozen=True, kw_only=True)
class Arg:
    """How one argument is drawn.

    Attributes:
        shape: Sizes; a letter stands for a drawn size.
        low: Values lie above; None for no such limit.
        high: Values lie below.
        specials: Values where something happens: kinks, edges, jumps.
        kind: "plain", "spd", "symmetric", "square", "index", "mask", "prob" or "complex".
        upper: Largest index plus one: a size, or a dim's letter.
        active: Whether it is differentiated.
    """

    shape: tuple[int | str, ...] = ("n", "m")
    low: float | None = None
    high: float | None = None
    specials: tuple[float, ...] = (0.0,)
    kind: str = "plain"
    upper: int | str = 3
    active: bool = True


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A function whose gradient is right.

    Attributes:
        name: In reports.
        function: The function; a torch function, or a Function's ``apply``.
        args: How its arguments are drawn.
        reference: The same function by other means, if there is one.
        family: For the counts.
        handwritten: Whether the backward is written by hand (then the own forward is an oracle too).
        smallest: Smallest drawn size.
    """

    name: str
    function: Callable[..., object]
    args: tuple[Arg, ...] = (Arg(),)
    reference: Callable[..., object] | None = None
    family: str = "elementwise"
    handwritten: bool = False
    smallest: int = 1
    largest: int = 5


@dataclass
class Draw:
    """Everything that is drawn for one point."""

    seed: int
    where: Where
    decades: int = 60
    g: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.g = generator(self.seed, f"point {self.where}")

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.g, dtype=torch.float64))

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.g))

    def normal(self, shape: Sequence[int]) -> Tensor:
        return short(torch.randn(tuple(shape), generator=self.g, dtype=torch.float64))


def primals(entry: Entry, seed: int, where: Where, dtype: torch.dtype) -> Primals:
    """The point of an entry for a seed; the same seed gives the same bits."""
    # A square of what float32 holds has to fit in it, too.
    draw = Draw(seed, where, decades=60 if dtype is torch.float64 else 12)
    sizes: dict[str, int] = {}
    values = []
    for arg in entry.args:
        for s in (*arg.shape, arg.upper):
            if isinstance(s, str) and s not in sizes:
                sizes[s] = draw.integer(entry.smallest, entry.largest)
        shape = [sizes[s] if isinstance(s, str) else s for s in arg.shape]
        values.append(_argument(draw, arg, shape, sizes).to(dtype=_dtype(arg, dtype)))
    names = tuple(f"x{i}" for i in range(len(values)))
    active = tuple((i,) for i, arg in enumerate(entry.args) if arg.active)
    return Primals(names, tuple(values), active)


def case(subject: Subject, point: Primals, seed: int) -> Case | None:
    """The case at a point; None where there is nothing to differentiate, or the forward is not finite."""
    if not all(bool(x.isfinite().all()) for x in point.leaves):
        return None  # a float32 cannot hold it
    linearization = subject.linearize(point)
    if not linearization.differentiable or not all(bool(y.isfinite().all()) for y in linearization.outputs):
        return None
    styles = list(CotangentStyle)
    recipe = Recipe(seed=seed, cotangent=styles[seed % len(styles)] if seed % 3 == 0 else CotangentStyle.NORMAL)
    like = linearization.cotangent_like
    return Case(
        primals=point,
        outputs=linearization.outputs,
        output_labels=linearization.labels,
        differentiable=linearization.differentiable,
        cotangents=cotangents(recipe, like),
        other_cotangents=cotangents(recipe, like, stream=1),
        directions=Directions(recipe, point.leaves),
        recipe=recipe.to_json(),
    )


def _dtype(arg: Arg, dtype: torch.dtype) -> torch.dtype:
    if arg.kind == "index":
        return torch.int64
    if arg.kind == "mask":
        return torch.bool
    return dtype.to_complex() if arg.kind == "complex" else dtype


def _argument(draw: Draw, arg: Arg, shape: list[int], sizes: dict[str, int]) -> Tensor:
    if arg.kind == "index":
        upper = sizes[arg.upper] if isinstance(arg.upper, str) else arg.upper
        return torch.randint(0, upper, tuple(shape), generator=draw.g)
    if arg.kind == "mask":
        return torch.rand(tuple(shape), generator=draw.g) < 0.5
    if arg.kind in ("spd", "symmetric", "square"):
        return _matrix(draw, arg, shape)
    if arg.kind == "prob":
        weights = torch.rand(tuple(shape), generator=draw.g, dtype=torch.float64) + 0.02
        return weights / weights.sum(-1, keepdim=True)
    if arg.kind == "complex":
        return torch.complex(_values(draw, arg, shape), _values(draw, arg, shape))
    return _values(draw, arg, shape)


def _values(draw: Draw, arg: Arg, shape: list[int]) -> Tensor:
    t = _moved(draw, arg, _base(draw, arg, shape))
    if arg.low is not None or arg.high is not None:
        t = t.clamp(arg.low, arg.high)
    return t


def _base(draw: Draw, arg: Arg, shape: list[int]) -> Tensor:
    if arg.low is not None and arg.high is not None:
        u = torch.rand(tuple(shape), generator=draw.g, dtype=torch.float64)
        return short(arg.low + (arg.high - arg.low) * (0.02 + 0.96 * u))
    t = draw.normal(shape)
    if arg.low is not None:
        return short(arg.low + 2.0**-6 + t.abs())
    return short(arg.high - 2.0**-6 - t.abs()) if arg.high is not None else t


def _moved(draw: Draw, arg: Arg, t: Tensor) -> Tensor:
    """The ordinary values, moved to where it hurts."""
    match draw.where:
        case Where.SPECIAL:
            t = _beside_specials(draw, arg, t)
        case Where.TIES:
            t = _tied(draw, t)
        case Where.OFFSET:
            sign = -1.0 if arg.high is not None and arg.low is None else 1.0
            t = t + sign * 10.0 ** [4, 8, 10][draw.integer(0, 2)]
        case Where.HUGE:
            t = t * 10.0 ** draw.uniform(2, draw.decades)
        case Where.TINY:
            t = t * 10.0 ** draw.uniform(-draw.decades, -3)
        case Where.SATURATED:
            t = t * draw.uniform(10, 200)
    return t


def _distance(draw: Draw, t: Tensor) -> Tensor:
    """Signed distances from 1e-12 to 1e-5."""
    exponent = -12 + 7 * torch.rand(t.shape, generator=draw.g, dtype=torch.float64)
    sign = torch.randint(0, 2, t.shape, generator=draw.g) * 2.0 - 1
    return sign * 10.0**exponent


def _beside_specials(draw: Draw, arg: Arg, t: Tensor) -> Tensor:
    specials = [*arg.specials, *(v for v in (arg.low, arg.high) if v is not None)]
    centers = torch.tensor(specials, dtype=torch.float64)
    centers = centers[torch.randint(0, len(specials), t.shape, generator=draw.g)]
    u = torch.rand(t.shape, generator=draw.g)
    beside = centers + _distance(draw, t) * centers.abs().clamp(min=1.0)
    return torch.where(u < 0.4, centers, torch.where(u < 0.8, beside, t))


def _tied(draw: Draw, t: Tensor) -> Tensor:
    for axis, size in enumerate(t.shape):
        if size > 1:
            t = t.index_select(axis, torch.randint(0, (size + 1) // 2, (size,), generator=draw.g))
    if draw.uniform(0, 1) < 0.5:
        t = torch.where(torch.rand(t.shape, generator=draw.g) < 0.5, t + _distance(draw, t), t)
    return t


def _matrix(draw: Draw, arg: Arg, shape: list[int]) -> Tensor:
    """Square matrices; singular, of repeated eigenvalues, or nearly so, where they are to be special."""
    n = shape[-1]
    root = draw.normal(shape)
    if draw.where in (Where.SPECIAL, Where.TIES):
        values = torch.ones(shape[:-1], dtype=torch.float64) * draw.uniform(0.5, 2)
        if draw.where is Where.SPECIAL:
            values = values * torch.randint(0, 2, values.shape, generator=draw.g)
        else:
            values = values + _distance(draw, values) * draw.integer(0, 1)
        q = torch.linalg.qr(root)[0]
        integers = torch.randint(-2, 3, tuple(shape), generator=draw.g).double()
        integers[..., -1, :] = integers[..., 0, :]  # an exactly singular one
        if arg.kind == "square":
            return integers if draw.where is Where.SPECIAL else q * values[..., None, :]
        made = q @ torch.diag_embed(values) @ q.mT
        return (made + made.mT) / 2 if arg.kind == "symmetric" else (made + made.mT) / 2 + torch.eye(n) * 2.0**-8
    if arg.kind == "spd":
        root = root @ root.mT / n + torch.eye(n, dtype=torch.float64) * 0.25
    elif arg.kind == "symmetric":
        root = root + root.mT
    scale = {Where.HUGE: 1e6, Where.TINY: 1e-6, Where.SATURATED: 50.0}.get(draw.where, 1.0)
    return root * scale
