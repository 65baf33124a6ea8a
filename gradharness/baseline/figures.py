"""The figures of an entry: by how much each may grow, and what has to be equal for that to mean anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gradharness.baseline.model import Entry, Key
from gradharness.errors import UnknownNameError, UsageError

# Errors below this many units in the last place are round-off, which any other order of a sum changes.
_ULPS = 8
_BESIDE = 1e-9
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of an entry that is compared.

    Attributes:
        name: As in the file and in ``--fail-on``.
        words: As in messages.
        factor: Growth that fails unless asked for otherwise; None to compare only when asked.
        inclusive: Whether growth by just this factor fails too.
        needs: Names of the environment that have to be equal; the threshold does not carry over where they are not.
        claims: Whether having none now, where there was one, is a loss.
    """

    name: str
    words: str
    factor: float | None
    inclusive: bool = False
    needs: tuple[str, ...]
    claims: bool = False

    def of(self, entry: Entry) -> float | None:
        """Its value."""
        value: float | None = getattr(entry, self.name)
        return value

    def floor(self, key: Key) -> float:
        """Below this nothing is told apart."""
        return _ULPS * _EPSILON.get(key.dtype, 0.0) if self.name == "error" else 0.0

    def text(self, value: float | None) -> str:
        """A value as messages have it."""
        if value is None:
            return "none"
        return (
            f"{value:.0f} bytes" if self.name == "saved" else f"{value:.0f}" if self.name == "calls" else f"{value:.2g}"
        )


_DRAWN = ("gradharness", "profile", "seed", "strict")  # what decides which cases are looked at, and how closely
FIGURES = (
    Figure(name="error", words="error level", factor=2.0, inclusive=True, needs=(*_DRAWN, "torch", "machine", "cuda")),
    Figure(name="resolution", words="resolution", factor=2.0, needs=_DRAWN, claims=True),
    Figure(name="saved", words="saved bytes", factor=1.1, needs=("torch",)),
    Figure(name="cost", words="cost ratio", factor=1.5, needs=("torch", "python", "threads", "processor", "cuda")),
    Figure(name="calls", words="calls", factor=None, needs=_DRAWN),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The growth that fails, by name of a figure; what is not in it is not compared."""

    factors: Mapping[str, float]

    def factor(self, figure: Figure) -> float | None:
        """None where it is not compared."""
        return self.factors.get(figure.name)

    def exceeded(self, figure: Figure, key: Key, was: float, now: float) -> bool:
        """Whether a figure has grown beyond its limit."""
        factor, least = self.factor(figure), figure.floor(key)
        if factor is None or now <= least:
            return False
        limit = factor * max(was, least)
        # A level of two digits times a factor is a number just beside the one that is meant.
        return now >= limit * (1 - _BESIDE) if figure.inclusive and limit > 0 else now > limit * (1 + _BESIDE)


def limits(texts: Iterable[str] = ()) -> Limits:
    """The limits of ``--fail-on``; figures that it does not name keep their own.

    Args:
        texts: Such as ``error:2x`` or ``cost:off``; several with commas between them too.

    Raises:
        UnknownNameError: There is no figure of that name.
        UsageError: A factor is no number above one, or a figure is named twice.
    """
    factors = {figure.name: figure.factor for figure in FIGURES}
    named: set[str] = set()
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, colon, value = (word.strip() for word in part.partition(":"))
        if name not in factors:
            raise UnknownNameError("figure in --fail-on", name, factors)
        if name in named:
            raise UsageError(f"--fail-on names {name} twice: give each figure once")
        named.add(name)
        factors[name] = _factor(part, value if colon else "")
    return Limits({name: factor for name, factor in factors.items() if factor is not None})


def _factor(part: str, value: str) -> float | None:
    if value == "off":
        return None
    try:
        factor = float(value.removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not (1 < factor < math.inf):
        raise UsageError(f"--fail-on {part!r}: give a factor above 1, such as {part.partition(':')[0]}:2x, or off")
    return factor
