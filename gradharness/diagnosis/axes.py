"""Operations of a backward that work along other dimensions than they have to: one of them, two, or all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from gradharness.diagnosis.changes import REDUCTIONS, Change, name_of
from gradharness.diagnosis.operations import Call, Changed, Place, Watching, aten, dims_of
from gradharness.model.verdict import Fault

Axes: TypeAlias = tuple[int, ...]

# Operations with the dimension that they work along as an argument, and where in the arguments it is.
_ALONG = {
    "aten::sum": 1,
    "aten::mean": 1,
    "aten::amax": 1,
    "aten::amin": 1,
    "aten::var": 1,
    "aten::std": 1,
    "aten::logsumexp": 1,
    "aten::cumsum": 1,
    "aten::cumprod": 1,
    "aten::logcumsumexp": 1,
    "aten::flip": 1,
    "aten::_softmax": 1,
    "aten::_log_softmax": 1,
    "aten::linalg_vector_norm": 2,
    "aten::norm": 2,
    "aten::unsqueeze": 1,
    "aten::select": 1,
}
_SEVERAL = REDUCTIONS | {"aten::logsumexp", "aten::linalg_vector_norm", "aten::norm"}  # along more than one at once
_TOTAL = {"aten::sum": aten.sum.dim_IntList, "aten::mean": aten.mean.dim}
_MOST_PAIRED = 8
_MOST_DIMS = 4


@dataclass(frozen=True, slots=True)
class _Use:
    """A place and the dimensions that it works along."""

    call: Call
    axes: Axes
    total: bool

    @property
    def place(self) -> Place:
        return self.call.place


def along_others(calls: Sequence[Call]) -> Iterator[Change]:
    """One operation along other dimensions; then two, and all that share theirs."""
    uses = [use for use in map(_use, calls) if use is not None]
    for few in (True, False):
        for use in uses:
            for other in _others(use, few=few):
                yield _change((use,), other)
    for use in uses:
        if use.total:
            for other in _others(use, few=True):
                yield _alone(use, other)
    together: dict[tuple[Axes, int], list[_Use]] = {}
    for use in uses:
        together.setdefault((use.axes, dims_of(use.call)), []).append(use)
    for group in together.values():
        yield from _together(sorted(group, key=lambda u: (u.place.line, u.place.instruction)))


def _together(group: list[_Use]) -> Iterator[Change]:
    reductions = [use for use in group if name_of(use.call) in REDUCTIONS]
    for one in group[:1]:
        for other in [*_others(one, few=True), *_others(one, few=False)]:
            for pair in combinations(reductions[:_MOST_PAIRED], 2):
                yield _change(pair, other)
            for several in (reductions, group):
                if len(several) > 1 + (several is reductions):
                    yield _change(several, other)


def _use(call: Call) -> _Use | None:
    """None where it works along no dimension, or has no other."""
    dims, name = dims_of(call), name_of(call)
    position = _ALONG.get(name)
    if position is None or not 2 <= dims <= _MOST_DIMS:
        return None
    if name in _TOTAL and len(call.arguments) == 1:
        return _Use(call, tuple(range(dims)), total=True)
    axes = call.arguments[position] if len(call.arguments) > position else None
    axes = [axes] if isinstance(axes, int) and not isinstance(axes, bool) else axes
    if not isinstance(axes, (list, tuple)) or not axes or not all(isinstance(a, int) for a in axes):
        return None
    return _Use(call, tuple(sorted(a % dims for a in axes)), total=False)


def _others(use: _Use, *, few: bool) -> Iterator[Axes]:
    """Single dimensions, or several at once."""
    dims = dims_of(use.call)
    counts = (1,) if few else range(2, dims + 1) if name_of(use.call) in _SEVERAL else ()
    for count in counts:
        yield from (axes for axes in combinations(range(dims), count) if axes != use.axes)


def _change(uses: Sequence[_Use], other: Axes) -> Change:
    first = uses[0]
    also = "" if len(uses) == 1 else "and another work " if len(uses) == 2 else f"and {len(uses) - 1} others work "
    words = f"{also or 'works '}along {_named(first.axes)} where {_due(other)} due"
    return Change(Fault.WRONG_AXIS, frozenset(use.place for use in uses), _along(other), words)


def _named(axes: Axes) -> str:
    return f"dimension {axes[0]}" if len(axes) == 1 else f"dimensions {', '.join(map(str, axes[:-1]))} and {axes[-1]}"


def _due(axes: Axes) -> str:
    return f"{_named(axes)} {'is' if len(axes) == 1 else 'are'}"


def _along(other: Axes) -> Changed:
    def change(_mode: Watching, call: Call) -> object:
        use, name = _use(call), name_of(call)
        if use is None or max(other) >= dims_of(call) or (len(other) > 1 and name not in _SEVERAL | {"aten::flip"}):
            return call.result
        if use.total:  # it is broadcast against what it was taken of
            return _TOTAL[name](call.arguments[0], other, keepdim=True)
        position = _ALONG[name]
        arguments = list(call.arguments)
        arguments[position] = list(other) if isinstance(arguments[position], (list, tuple)) else other[0]
        return call.operation(*arguments, **call.options)

    return change


def _alone(use: _Use, other: Axes) -> Change:
    """A sum that keeps what lies along the other dimensions."""

    def change(_mode: Watching, call: Call) -> object:
        return _TOTAL[name_of(call)](call.arguments[0], other)

    words = f"takes in all dimensions where {_named(other)} alone is due"
    return Change(Fault.EXTRA_REDUCTION, frozenset({use.place}), change, words)
