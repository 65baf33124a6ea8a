"""Which of several things are asked for: every subset, or a sample of them that changes from case to case."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TypeAlias

from gradharness.model.case import Case

MOST = 8  # subsets for one case

Subset: TypeAlias = tuple[int, ...]


def proper_subsets(count: int, case: Case) -> tuple[Subset, ...]:
    """Subsets of ``range(count)`` that are neither empty nor all, the smallest first; at most ``MOST``.

    Where there are more, they are single numbers and what is left without one, other ones for another case.
    """
    if 2**count - 2 <= MOST:
        return tuple(s for size in range(1, count) for s in combinations(range(count), size))
    seed = case.recipe.get("seed", 0)
    start = seed if isinstance(seed, int) else 0
    chosen = [(start + i) % count for i in range(min(count, MOST // 2))]
    return (*((n,) for n in chosen), *(tuple(_without(count, n)) for n in chosen))


def _without(count: int, left_out: int) -> Iterator[int]:
    return (n for n in range(count) if n != left_out)
