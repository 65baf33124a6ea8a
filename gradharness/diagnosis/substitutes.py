"""Other operands, other functions and other factors that would mend one operation of a backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gradharness.diagnosis.changes import PRODUCTS, REDUCTIONS, Change, calling, name_of
from gradharness.diagnosis.operations import Call, Changed, Place, Watching, aten, writes
from gradharness.model.verdict import Fault

_UNARY = frozenset(
    f"aten::{name}"
    for name in "sin cos tan exp log sqrt rsqrt sigmoid tanh erf reciprocal abs sign relu square expm1 log1p".split()  # noqa: SIM905
)
_EXCHANGED = {
    "aten::sin": aten.cos,
    "aten::cos": aten.sin,
    "aten::sqrt": aten.rsqrt,
    "aten::rsqrt": aten.sqrt,
    "aten::tanh": aten.sigmoid,
    "aten::sigmoid": aten.tanh,
    "aten::log": aten.exp,
}


def substitutes(calls: Sequence[Call], known: dict[str, torch.Tensor]) -> Iterator[Change]:
    """A factor too many or too few, one function in place of another, one operand in place of another."""
    first: dict[Place, Call] = {}
    for call in calls:
        first.setdefault(call.place, call)
    plain = [c for c in first.values() if not (c.operation.is_view or writes(c.operation))]
    plain = [c for c in plain if isinstance(c.result, torch.Tensor)]
    for call in plain:
        at, name = frozenset({call.place}), name_of(call)
        if name in ("aten::mul", "aten::div"):
            yield from _without_a_factor(call)
        if name in _UNARY:
            short = name.removeprefix("aten::")
            yield Change(
                Fault.WRONG_FORMULA, at, lambda _m, c: c.arguments[0].clone(), f"takes {short} where that is not due"
            )
        if name in _EXCHANGED:
            other = _EXCHANGED[name]
            words = f"takes {name.removeprefix('aten::')} where {other.__name__} is due"
            yield Change(Fault.WRONG_FORMULA, at, calling(other), words)
    yield from _missing_factors(plain, known)
    for call in plain:
        yield from _other_operands(call, known)
    yield from _missing_results(plain, known)


def _without_a_factor(call: Call) -> Iterator[Change]:
    at = frozenset({call.place})
    a, b = call.arguments[:2]
    if not isinstance(b, torch.Tensor):
        return
    result = call.result
    assert isinstance(result, torch.Tensor)
    division = name_of(call) == "aten::div"
    if isinstance(a, torch.Tensor) and a.shape == result.shape:
        words = "divides by what is no divisor here" if division else "has its second factor too many"
        yield Change(Fault.EXTRA_FACTOR, at, lambda _m, c: c.arguments[0].clone(), words)
    if b.shape == result.shape and not division:
        yield Change(Fault.EXTRA_FACTOR, at, lambda _m, c: c.arguments[1].clone(), "has its first factor too many")
    other = aten.mul if division else aten.div
    words = "divides where it has to multiply" if division else "multiplies where it has to divide"
    yield Change(Fault.WRONG_FORMULA, at, calling(other), words)


def _other_operands(call: Call, known: dict[str, torch.Tensor]) -> Iterator[Change]:
    seen: list[torch.Tensor] = []
    for operand in call.arguments:
        if not isinstance(operand, torch.Tensor) or any(_same(operand, s) for s in seen):
            continue
        seen.append(operand)
        called = next((name for name, t in known.items() if _same(t, operand)), "")
        for name, tensor in known.items():
            if tensor.shape == operand.shape and tensor.dtype == operand.dtype and not _same(tensor, operand):
                words = f"takes {called or 'something else'} where {name} is due"
                yield Change(Fault.WRONG_OPERAND, frozenset({call.place}), _in_place_of(len(seen) - 1, name), words)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and ((a.data_ptr() == b.data_ptr() and a.stride() == b.stride()) or torch.equal(a, b))


def _in_place_of(number: int, name: str) -> Changed:
    """Another tensor wherever the operand of this number (equal ones counted once) stands."""

    def change(mode: Watching, call: Call) -> object:
        seen: list[torch.Tensor] = []
        for operand in call.arguments:
            if isinstance(operand, torch.Tensor) and not any(_same(operand, s) for s in seen):
                seen.append(operand)
        old, new = seen[number], mode.known[name]
        arguments = [new if isinstance(a, torch.Tensor) and _same(a, old) else a for a in call.arguments]
        return call.operation(*arguments, **call.options)

    return change


def _missing_factors(calls: Sequence[Call], known: dict[str, torch.Tensor]) -> Iterator[Change]:
    """Results that lack a primal, an output or a cotangent as a factor or divisor."""
    for call in calls:
        for name, factor in known.items():
            if _fits(factor, call.result):
                yield from _multiplied(call.place, name, f"the factor {name}")
    for call in calls:
        if name_of(call) in REDUCTIONS | PRODUCTS:
            yield from _missing_within(call, known)


def _missing_within(call: Call, known: dict[str, torch.Tensor]) -> Iterator[Change]:
    """A factor that is due before the sum is taken."""
    for position, operand in enumerate(call.arguments):
        for name, factor in known.items():
            if _fits(factor, operand):

                def change(mode: Watching, call: Call, position: int = position, name: str = name) -> object:
                    arguments = list(call.arguments)
                    arguments[position] = arguments[position] * mode.known[name]
                    return call.operation(*arguments, **call.options)

                words = f"lacks the factor {name} under the sum"
                yield Change(Fault.MISSING_FACTOR, frozenset({call.place}), change, words)


def _missing_results(calls: Sequence[Call], known: dict[str, torch.Tensor]) -> Iterator[Change]:
    """Results that lack what the backward has computed before."""
    for number, call in enumerate(calls):
        for before in calls[:number]:
            if _fits(before.result, call.result) and not _is_known(before.result, known):
                yield from _multiplied(call.place, before.place, f"the factor {before.place}")


def _is_known(result: object, known: dict[str, torch.Tensor]) -> bool:
    return isinstance(result, torch.Tensor) and any(_same(result, t) for t in known.values())


def _fits(factor: object, result: object) -> bool:
    if not isinstance(factor, torch.Tensor) or not isinstance(result, torch.Tensor):
        return False
    if not (result.is_floating_point() and factor.is_floating_point()) or factor.dim() > result.dim():
        return False
    try:
        return factor.expand(result.shape).shape == result.shape
    except RuntimeError:
        return False


def _multiplied(at: Place, factor: Place | str, words: str) -> Iterator[Change]:
    for power, how in ((1, words), (-1, f"{words} in its denominator"), (-2, f"{words} squared in its denominator")):

        def change(mode: Watching, call: Call, power: int = power) -> object:
            tensor = mode.known.get(factor) if isinstance(factor, str) else mode.result(factor)
            result = call.result
            assert isinstance(result, torch.Tensor)
            return result if tensor is None else result * tensor**power

        yield Change(Fault.MISSING_FACTOR, frozenset({at}), change, f"lacks {how}")
