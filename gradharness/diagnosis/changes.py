"""What may be wrong with one operation of a backward, as changes that would mend it; the plainest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from gradharness.diagnosis.arrangements import reshaped_then_exchanged
from gradharness.diagnosis.operations import Call, Changed, Place, Watching, aten, dims_of
from gradharness.model.verdict import Fault

REDUCTIONS = frozenset({"aten::sum", "aten::mean", "aten::amax", "aten::amin", "aten::var", "aten::std"})
PRODUCTS = frozenset({"aten::mm", "aten::bmm", "aten::mv", "aten::addmm", "aten::baddbmm"})
_MOST_PAIRED = 8
_VIEWS = frozenset({"aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias"})
_TURNS = frozenset({"aten::t", "aten::transpose", "aten::permute", "aten::numpy_T", "aten::adjoint"})
_COMPARISONS = {
    "aten::gt": (aten.ge, aten.lt, ">", ">=", "<"),
    "aten::ge": (aten.gt, aten.le, ">=", ">", "<="),
    "aten::lt": (aten.le, aten.gt, "<", "<=", ">"),
    "aten::le": (aten.lt, aten.ge, "<=", "<", ">="),
}


@dataclass(frozen=True, slots=True)
class Change:
    """Another way to run the operations of some places.

    Attributes:
        fault: What is wrong, if this mends it.
        at: The places.
        apply: Gives the other result.
        words: What would be right, after the place: "sums over dimension 0 where 1 is due".
    """

    fault: Fault
    at: frozenset[Place]
    apply: Changed
    words: str

    @property
    def place(self) -> Place:
        """The first of the places in the code."""
        return min(self.at, key=lambda p: (p.line, p.instruction))


def name_of(call: Call) -> str:
    """What runs, whether in place or not."""
    return call.place.operation.removesuffix("_")


def structural(calls: Sequence[Call]) -> Iterator[Change]:
    """Other arrangements, other ways to write and to compare."""
    for call in calls:
        yield from _turned(call)
        yield from _moved(call)
        yield from _compared(call)
        yield from _corrected(call)
    yield from _directions(calls)


def written(calls: Sequence[Call]) -> Iterator[Change]:
    """Writing where adding is due, and rounding."""
    for call in calls:
        yield from _scattered(call)
        yield from _cast(call)


# --- where things are written, and in which precision ----------------------------------------------------------------


def _scattered(call: Call) -> Iterator[Change]:
    """Writing where adding is due."""
    added: Changed | None = None
    name = name_of(call)
    if name in ("aten::index_put", "aten::_index_put_impl"):
        if len(call.arguments) < 4 or not call.arguments[3]:
            added = lambda _m, c: torch.index_put(c.arguments[0], c.arguments[1], c.arguments[2], accumulate=True)  # noqa: E731
            words = "writes where it has to add up (accumulate=True): of an index that occurs again one copy is kept"
    elif name == "aten::index_copy":
        added = lambda _m, c: torch.index_add(*c.arguments[:4])  # noqa: E731
        words = "copies where it has to add (index_add): of an index that occurs again one copy is kept"
    elif name == "aten::scatter":
        added = lambda _m, c: torch.scatter_add(*c.arguments[:4])  # noqa: E731
        words = "writes where it has to add (scatter_add): of an index that occurs again one copy is kept"
    if added is not None:
        yield Change(Fault.DUPLICATES, frozenset({call.place}), added, words)


def _cast(call: Call) -> Iterator[Change]:
    """A conversion to fewer bits."""
    if name_of(call) != "aten::_to_copy" or not isinstance(call.result, torch.Tensor):
        return
    x = call.arguments[0]
    if x.is_floating_point() and call.result.is_floating_point() and call.result.element_size() < x.element_size():
        kind = str(call.result.dtype).removeprefix("torch.")
        yield Change(Fault.LOW_INTERNALS, frozenset({call.place}), lambda _m, c: c.arguments[0], f"rounds to {kind}")


# --- arrangement -----------------------------------------------------------------------------------------------------


def _turned(call: Call) -> Iterator[Change]:
    """An operand of a product that has to be transposed; a transpose that is not due."""
    at = frozenset({call.place})
    if name_of(call) in PRODUCTS:
        operands = [n for n, x in enumerate(call.arguments) if isinstance(x, torch.Tensor) and x.dim() >= 2]
        for n in operands:
            which = "first" if n == operands[0] else "second"
            words = f"takes its {which} operand as it is where the transposed one is due, or the other way round"
            yield Change(Fault.TRANSPOSED, at, _with(n, lambda x: x.mT), words)
        if len(operands) == 2:
            words = "multiplies in the wrong order"
            yield Change(Fault.TRANSPOSED, at, lambda _m, c: c.operation(c.arguments[1], c.arguments[0]), words)
            yield from _cut(call, operands)
    elif name_of(call) in _VIEWS and isinstance(call.result, torch.Tensor):
        for i, j in combinations(range(call.result.dim()), 2):
            words = f"reshapes where dimensions {i} and {j} of its result have to be exchanged after it"
            yield Change(Fault.TRANSPOSED, at, _exchanged_after(i, j), words)
        for i, j in combinations(range(dims_of(call)), 2):
            words = f"reshapes where dimensions {i} and {j} have to be exchanged before it"
            yield Change(Fault.TRANSPOSED, at, _exchanged_before(i, j), words)
    elif name_of(call) in _TURNS:
        yield Change(Fault.TRANSPOSED, at, lambda _m, c: c.arguments[0].clone(), "transposes where that is not due")
        if name_of(call) == "aten::permute":
            words = "permutes where the inverse permutation is due"
            yield Change(Fault.TRANSPOSED, at, _inverse_permutation, words)


def _cut(call: Call, operands: Sequence[int]) -> Iterator[Change]:
    """An operand of which a triangle alone is due."""
    for n in operands:
        which = "first" if n == operands[0] else "second"
        for words, cut in (("lower", torch.tril), ("upper", torch.triu)):
            words = f"takes the whole of its {which} operand where its {words} triangle is due"
            yield Change(Fault.WRONG_REGION, frozenset({call.place}), _with(n, cut), words)


def _exchanged_after(i: int, j: int) -> Changed:
    def change(_mode: Watching, call: Call) -> object:
        assert isinstance(call.result, torch.Tensor)
        return reshaped_then_exchanged(call.result, i, j).clone()

    return change


def _exchanged_before(i: int, j: int) -> Changed:
    def change(_mode: Watching, call: Call) -> object:
        assert isinstance(call.result, torch.Tensor)
        return call.arguments[0].transpose(i, j).reshape(call.result.shape)

    return change


def _with(position: int, function: Callable[[torch.Tensor], torch.Tensor]) -> Changed:
    def change(_mode: Watching, call: Call) -> object:
        arguments = list(call.arguments)
        arguments[position] = function(arguments[position])
        return call.operation(*arguments, **call.options)

    return change


def _inverse_permutation(_mode: Watching, call: Call) -> object:
    x, dims = call.arguments[0], list(call.arguments[1])
    inverse = [dims.index(i) for i in range(len(dims))]
    return x.permute(inverse).clone()


def _moved(call: Call) -> Iterator[Change]:
    """The other direction; one place further."""
    at, name = frozenset({call.place}), name_of(call)
    if name == "aten::roll":
        words = "shifts in the wrong direction"
        yield Change(
            Fault.WRONG_ELEMENTS, at, lambda _m, c: torch.roll(c.arguments[0], _negative(c), c.arguments[2]), words
        )
    elif name == "aten::flip":
        yield Change(Fault.WRONG_ELEMENTS, at, lambda _m, c: c.arguments[0].clone(), "reverses where that is not due")
    elif name == "aten::cumsum":
        words = "adds up in the wrong direction"
        yield Change(Fault.WRONG_ELEMENTS, at, _from_the_end, words)
    elif name == "aten::convolution":
        yield Change(Fault.TRANSPOSED, at, _with(1, _reversed_kernel), "needs its kernel reversed")
    elif name in ("aten::tril", "aten::triu"):
        for step in (1, -1):
            words = f"starts its triangle at the wrong diagonal: it has to be {'above' if step > 0 else 'below'}"
            yield Change(Fault.WRONG_REGION, at, _other_diagonal(step), words)
    elif name in ("aten::slice", "aten::select"):
        for step in (1, -1):
            words = f"is off by one: it has to start {'later' if step > 0 else 'earlier'}"
            yield Change(Fault.WRONG_ELEMENTS, at, _shifted(step), words)


def _other_diagonal(step: int) -> Changed:
    def change(_mode: Watching, call: Call) -> object:
        diagonal = call.arguments[1] if len(call.arguments) > 1 else 0
        return call.operation(call.arguments[0], diagonal + step)

    return change


def _negative(call: Call) -> list[int]:
    return [-s for s in call.arguments[1]]


def _from_the_end(_mode: Watching, call: Call) -> object:
    x, dim = call.arguments[:2]
    return x.flip(dim).cumsum(dim).flip(dim)


def _reversed_kernel(kernel: torch.Tensor) -> torch.Tensor:
    return kernel.flip([*range(2, kernel.dim())])


def _shifted(step: int) -> Changed:
    """As long a slice, further on."""

    def change(_mode: Watching, call: Call) -> object:
        arguments = list(call.arguments)
        if call.place.operation == "aten::select":
            arguments[2] += step
        elif isinstance(call.result, torch.Tensor):
            arguments += [0, 0, None][len(arguments) - 1 :] if len(arguments) < 4 else []
            n = arguments[0].shape[arguments[1]]
            start, end, _ = slice(arguments[2], arguments[3]).indices(n)
            arguments[2:4] = [max(start + step, 0), max(end + step, 0)]
        return call.operation(*arguments, **call.options)

    return change


def _directions(calls: Sequence[Call]) -> Iterator[Change]:
    """A slice that is filled up at the wrong end."""
    slices = [c for c in calls if name_of(c) == "aten::slice"][:_MOST_PAIRED]
    for call in calls:
        if name_of(call) in ("aten::cat", "aten::constant_pad_nd"):
            for one in slices:
                for step in (1, -1):
                    both = frozenset({one.place, call.place})
                    words = "and another, which fills it up, shift in the wrong direction"
                    yield Change(Fault.WRONG_ELEMENTS, both, _turned_round(step), words)


def _turned_round(step: int) -> Changed:
    def change(mode: Watching, call: Call) -> object:
        arguments = list(call.arguments)
        if name_of(call) == "aten::slice":
            return _shifted(step)(mode, call)
        if name_of(call) == "aten::cat":
            arguments[0] = list(reversed(arguments[0]))
        else:
            pads = arguments[1]
            arguments[1] = [p for low, high in zip(pads[::2], pads[1::2], strict=True) for p in (high, low)]
        return call.operation(*arguments, **call.options)

    return change


# --- comparisons and statistics --------------------------------------------------------------------------------------


def _compared(call: Call) -> Iterator[Change]:
    found = _COMPARISONS.get(name_of(call))
    if found is None:
        return
    near, opposite, sign, near_sign, opposite_sign = found
    at = frozenset({call.place})
    for function, other in ((near, near_sign), (opposite, opposite_sign)):
        yield Change(Fault.WRONG_REGION, at, calling(function), f"compares with {sign} where {other} is due")


def calling(function: Any) -> Changed:
    """Another function of the same arguments."""
    return lambda _mode, call: function(*call.arguments, **call.options)


def _corrected(call: Call) -> Iterator[Change]:
    """The variance with n where n - 1 is due, or the other way round."""
    if name_of(call) not in ("aten::var", "aten::std") or "correction" not in call.options:
        return
    correction = call.options["correction"]
    correction = 1 if correction is None else correction
    words = "divides by n - 1 where n is due" if correction else "divides by n where n - 1 is due"

    def change(_mode: Watching, c: Call) -> object:
        return c.operation(*c.arguments, **{**c.options, "correction": 1 - int(correction)})

    yield Change(Fault.CONSTANT_FACTOR, frozenset({call.place}), change, words)


# --- scale -----------------------------------------------------------------------------------------------------------


def scaled(place: Place, factor: float) -> Change:
    """The result of one place times a number."""

    def change(_mode: Watching, call: Call) -> object:
        return factor * call.result if isinstance(call.result, torch.Tensor) else call.result

    return Change(Fault.CONSTANT_FACTOR, frozenset({place}), change, "")
