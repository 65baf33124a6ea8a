"""Which sizes of an example may change, and which only together: found by trying."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gradharness.inputs.prober import AxisId, Prober
from gradharness.inputs.shapes import Broadcast
from gradharness.inputs.specs import TensorSpec
from gradharness.inputs.styles import SQUARE_KINDS

# Up to this many axes of equal size all their subsets are tried.
MAX_SUBSETS = 6


@dataclass(slots=True)
class Group:
    """Axes that always have the same size.

    Attributes:
        axes: Where they are.
        own: Their size in the example.
        minimum: Smallest accepted size that is known.
        maximum: Largest accepted size, if larger ones are rejected.
        step: Sizes are multiples of it.
        broadcast: Axes that may also be one.
        factors: Axes that are a multiple of the size, and which.
    """

    axes: list[AxisId]
    own: int
    minimum: int = 0
    maximum: int | None = None
    step: int = 1
    broadcast: dict[AxisId, Broadcast] = field(default_factory=dict)
    factors: dict[AxisId, int] = field(default_factory=dict)

    def at(self, size: int) -> dict[AxisId, int]:
        """Sizes of all axes where the group's is ``size``."""
        return {axis: size * self.factors.get(axis, 1) for axis in self.axes}


def find_groups(prober: Prober) -> list[Group]:
    """All groups of axes whose size can change, in order of appearance; every other axis is fixed."""
    by_size: dict[int, list[frozenset[AxisId]]] = {}
    for unit in _units(prober):
        by_size.setdefault(prober.size(next(iter(unit))), []).append(unit)
    groups: list[Group] = []
    for size in sorted(by_size, reverse=True):
        groups += _partition(prober, by_size[size], size) if size != 1 else []
    groups += _multiples(prober, by_size, groups)
    ones = by_size.get(1, [])
    ones = [unit for unit in ones if not _join_larger(prober, unit, groups)]
    groups += _growing(prober, ones)
    groups.sort(key=lambda group: min(group.axes))
    groups = _together(prober, groups)
    for group in groups:
        _limits(prober, group)
    for group in groups:
        _broadcasts(prober, group)
    return groups


def _units(prober: Prober) -> Iterator[frozenset[AxisId]]:
    """Axes that move as one: single ones, or both axes of a matrix that has to stay square."""
    for number, leaf in enumerate(prober.leaves):
        rank = leaf.value.dim()
        square = isinstance(leaf.spec, TensorSpec) and leaf.spec.kind in SQUARE_KINDS
        for axis in range(rank - 2 if square else rank):
            yield frozenset({(number, axis)})
        if square:
            yield frozenset({(number, rank - 2), (number, rank - 1)})


def _partition(prober: Prober, units: Sequence[frozenset[AxisId]], size: int) -> list[Group]:
    """The finest sets of axes of one size that can change together."""
    left = list(units)
    groups: list[Group] = []

    def take(chosen: Sequence[frozenset[AxisId]], movable: Callable[..., Group | None]) -> None:
        if all(unit in left for unit in chosen) and (group := movable(prober, chosen, size)):
            groups.append(group)
            left[:] = [unit for unit in left if unit not in chosen]

    many = len(left) > MAX_SUBSETS
    for count in range(1, 2 if many else len(left) + 1):
        for chosen in itertools.combinations(units, count):
            take(chosen, _movable)
    if many and left:
        for likely in list(_aligned(prober, left)):
            take(likely, _movable)
        if len(left) <= MAX_SUBSETS:
            groups += _partition(prober, left, size)
        return groups
    for unit in list(left):
        if any(_joined(prober, unit, group, size) for group in groups):
            left.remove(unit)
    for count in (1, 2, 3):
        for some in list(itertools.combinations(left, count)):
            take(some, _movable_in_steps)
    return groups


def _aligned(prober: Prober, left: list[frozenset[AxisId]]) -> Iterator[Sequence[frozenset[AxisId]]]:
    """Likely sets among many axes: those at the same place from the front or the back, pairs, then all that is left."""
    for from_end in (0, 1):
        found: dict[int, list[frozenset[AxisId]]] = {}
        for unit in left:
            number, axis = max(unit)
            found.setdefault(axis - from_end * prober.leaves[number].value.dim(), []).append(unit)
        yield from found.values()
    yield from itertools.combinations(list(left), 2)
    yield list(left)


def _movable(prober: Prober, units: Sequence[frozenset[AxisId]], size: int) -> Group | None:
    axes = sorted(axis for unit in units for axis in unit)
    if not axes or not prober.move(axes, size + 1):
        return None
    twice = prober.move(axes, 2 * size + 1) or (size > 2 and prober.move(axes, size - 1))
    return Group(axes, size) if twice else None


def _joined(prober: Prober, unit: frozenset[AxisId], group: Group, size: int) -> bool:
    """Joins an axis that can change only with a group that could do without it: rows, of which gather takes a part.

    That the forward accepts more rows than there are labels does not say that they are meant to differ.
    """
    if not _movable(prober, (frozenset(group.axes), unit), size):
        return False
    group.axes = sorted((*group.axes, *unit))
    return True


def _movable_in_steps(prober: Prober, units: Sequence[frozenset[AxisId]], size: int) -> Group | None:
    axes = sorted(axis for unit in units for axis in unit)
    if size > 1 and prober.move(axes, 2 * size) and prober.move(axes, 3 * size):
        steps = (d for d in range(2, size + 1) if size % d == 0 and (d == size or prober.move(axes, size + d)))
        return Group(axes, size, step=next(steps))
    return None


def _multiples(prober: Prober, by_size: dict[int, list[frozenset[AxisId]]], groups: list[Group]) -> list[Group]:
    """Axes that were left over, and others that are a multiple of them: gates, heads, halves."""
    taken = {axis for group in groups for axis in group.axes}
    left = {
        size: axes
        for size, units in sorted(by_size.items())
        if size > 1 and (axes := [axis for unit in units for axis in unit if axis not in taken])
    }
    found: list[Group] = []
    for small, large in itertools.combinations(left, 2):
        if large % small or small not in left or large not in left:
            continue
        factors = dict.fromkeys(left[large], large // small)
        group = Group(sorted(left[small] + left[large]), small, factors=factors)
        if prober.fits(group.at(small + 1)) and prober.fits(group.at(2 * small + 1)):
            found.append(group)
            del left[small], left[large]
    return found


def _join_larger(prober: Prober, unit: frozenset[AxisId], groups: list[Group]) -> bool:
    """An axis of size one that can instead have the size of a dim: the example broadcasts it."""
    if prober.move(unit, 2) and prober.move(unit, 3):
        return False
    for group in groups:
        joint = {**group.at(group.own + group.step), **dict.fromkeys(unit, group.own + group.step)}
        if prober.move(unit, group.own) and prober.fits(joint):
            group.axes += sorted(unit)
            group.broadcast |= dict.fromkeys(unit, Broadcast.DECLARED)
            return True
    return False


def _growing(prober: Prober, units: Sequence[frozenset[AxisId]]) -> list[Group]:
    """Groups among the axes of size one. Alone each may grow by broadcasting; two that differ tell whether they do."""
    alone = [unit for unit in units if prober.move(unit, 2) and prober.move(unit, 3)]
    groups = [Group(sorted(unit), 1) for unit in alone]
    merged: list[Group] = []
    for group in groups:
        home = next((other for other in merged if _must_agree(prober, other, group)), None)
        if home is None:
            merged.append(group)
        else:
            home.axes += group.axes
    left = [unit for unit in units if unit not in alone]
    return merged + _partition(prober, left, 1)


def _must_agree(prober: Prober, a: Group, b: Group) -> bool:
    differing = {**dict.fromkeys(a.axes, 2), **dict.fromkeys(b.axes, 3)}
    return not prober.fits(differing) and prober.move((*a.axes, *b.axes), 3)


def _together(prober: Prober, groups: list[Group]) -> list[Group]:
    """The groups that can change all at once; those that spoil it are dropped, their axes stay fixed."""

    def changed(chosen: Sequence[Group]) -> dict[AxisId, int]:
        return {axis: size for group in chosen for axis, size in group.at(group.own + group.step).items()}

    if not groups or prober.fits(changed(groups)):
        return groups
    kept: list[Group] = []
    for group in groups:
        if prober.fits(changed([*kept, group])):
            kept.append(group)
    return kept


def _limits(prober: Prober, group: Group) -> None:
    """Smallest and largest size. A size of one tells most: if it is rejected, the least accepted one is searched."""
    if group.step > 1:
        group.minimum = group.step
        return
    if not prober.fits(group.at(2 * group.own + 1)):
        group.maximum = group.own + 1
    if group.own == 1 or prober.fits(group.at(1)):
        return
    smaller = [size for size in (*range(2, 10), group.own // 2) if 1 < size < group.own]
    group.minimum = next((size for size in smaller if prober.fits(group.at(size))), group.own)


def _broadcasts(prober: Prober, group: Group) -> None:
    """Axes that can be one while the others of the group stay larger."""
    if len(group.axes) < 2:
        return
    size = group.own if group.own > 1 else 3
    for axis in group.axes:
        spec = prober.leaves[axis[0]].spec
        if (
            axis in group.broadcast
            or axis in group.factors
            or (isinstance(spec, TensorSpec) and spec.kind in SQUARE_KINDS)
        ):
            continue
        if prober.fits({**group.at(size), axis: 1}):
            group.broadcast[axis] = Broadcast.POSSIBLE
