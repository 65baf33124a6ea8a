"""Check ``contract``: what backward returns, before autograd sums, casts and hides it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradharness.checks.base import Check, Setting
from gradharness.model.case import Case
from gradharness.model.subject import RawInput, RawReturn, TensorMeta
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict


def examine(setting: Setting, case: Case) -> Observation:
    """Count, type, shape, dtype and device of every returned gradient."""
    errors: list[Discrepancy] = []
    warnings: list[Discrepancy] = []
    for returned in setting.subject.raw_returns(case.primals, case.cotangents):
        errors.extend(_count(returned))
        for number, given in enumerate(returned.inputs):
            value = returned.returned[number] if number < len(returned.returned) else None
            for fatal, found in _one(returned, given, value):
                (errors if fatal else warnings).append(found)
    verdict = Verdict.FAIL if errors else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=tuple(errors), warnings=tuple(warnings))


def _count(returned: RawReturn) -> Iterator[Discrepancy]:
    inputs, values = len(returned.inputs), len(returned.returned)
    surplus = returned.returned[inputs:]
    # autograd allows trailing None.
    if returned.coerced and (values < inputs or any(v is not None for v in surplus)):
        detail = f"{returned.place} returns {values} gradients for {inputs} inputs"
        yield Discrepancy(label=returned.place, fault=Fault.WRONG_COUNT, detail=detail)


def _one(returned: RawReturn, given: RawInput, value: object) -> Iterator[tuple[bool, Discrepancy]]:
    """(whether it is an error, what is wrong) for one gradient. A missing one is the vjp check's business."""
    where = f"{returned.place} returns for {given.label}"
    if value is None:
        return
    if not isinstance(value, torch.Tensor):
        detail = f"{where} {_shown(value)} ({type(value).__name__}): a gradient is a tensor or None"
        yield True, Discrepancy(label=given.label, fault=Fault.WRONG_TYPE, detail=detail)
        return
    if given.like is None:
        if not given.needed:
            detail = f"{where} a gradient that nobody asked for (an integer input, or one without requires_grad)"
            yield False, Discrepancy(label=given.label, got=value, fault=Fault.UNEXPECTED_GRADIENT, detail=detail)
        return
    yield from _shape(returned, given, value, given.like)
    yield from _dtype(returned, where, (given, value), given.like)
    if value.device != given.like.device:
        detail = f"{where} a gradient on {value.device}, the input is on {given.like.device}"
        yield True, Discrepancy(label=given.label, got=value, fault=Fault.WRONG_DEVICE, detail=detail)


def _shape(
    returned: RawReturn, given: RawInput, value: torch.Tensor, like: TensorMeta
) -> Iterator[tuple[bool, Discrepancy]]:
    shape = tuple(value.shape)
    if shape == like.shape:
        return
    summed = _sums_to(shape, like.shape)
    if summed and returned.coerced:
        return  # autograd sums it over the broadcast dimensions, so that it comes out right
    detail = f"{returned.place} returns for {given.label} a gradient of shape {shape}, the input has {like.shape}"
    fault = Fault.MISSING_REDUCTION if summed else Fault.WRONG_SHAPE
    yield True, Discrepancy(label=given.label, got=value, fault=fault, detail=detail)


def _sums_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether ``target`` broadcasts to ``shape``, so that a sum leads back."""
    if len(shape) < len(target):
        return False
    tail = shape[len(shape) - len(target) :]
    return all(t in (s, 1) for s, t in zip(tail, target, strict=True))


def _dtype(
    returned: RawReturn, where: str, gradient: tuple[RawInput, torch.Tensor], like: TensorMeta
) -> Iterator[tuple[bool, Discrepancy]]:
    given, value = gradient
    if value.dtype == like.dtype:
        return
    detail = f"{where} a gradient in {_name(value.dtype)}, the input is in {_name(like.dtype)}"
    # A wider gradient loses nothing when autograd casts it down.
    narrower = _digits(value.dtype) < _digits(like.dtype) or like.dtype.is_complex != value.dtype.is_complex
    if narrower:
        detail += f": digits beyond {_name(value.dtype)} are lost"
    steps = _dtype_steps(returned, returned.inputs.index(given), like)
    yield narrower, Discrepancy(label=given.label, got=value, fault=Fault.WRONG_DTYPE, detail=detail, steps=steps)


def _dtype_steps(returned: RawReturn, number: int, like: TensorMeta) -> tuple[str, ...]:
    """The dtype of one gradient in a script, as backward returns it."""
    told = (f"print('expected', {like.dtype}, 'got', got.dtype)", f"sys.exit(int(got.dtype != {like.dtype}))")
    if not returned.coerced:
        number = sum(given.needed for given in returned.inputs[:number])
        return (f"got = start(arguments, leaves)(cotangents)[{number}]", *told)
    return (*_RAW.format(name=returned.place.partition(".")[0] + "Backward", number=number).splitlines(), *told)


# Wraps the backward of a Function in the graph, so that its return is seen before autograd casts it.
_RAW = """\
outputs, seen = outputs_of(arguments), []
nodes = [t.grad_fn for t in outputs]
for node in nodes:  # grows while it is walked
    nodes += [parent for parent, _ in node.next_functions if parent is not None]
cls = next(type(node)._forward_cls for node in nodes if type(node).__name__ == {name!r})
own_backward = cls.backward
cls.backward = staticmethod(lambda *given: seen.append(own_backward(*given)) or seen[0])
torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
got = (seen[0] if isinstance(seen[0], tuple) else seen)[{number}]"""


def _digits(dtype: torch.dtype) -> float:
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0
    return 1.0 / torch.finfo(dtype).eps


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


CHECK = Check(
    name="contract",
    proves="Every gradient comes as a tensor of its input's shape, dtype and device, and there is one per input.",
    cannot="It says nothing about values.",
    causes=(
        (
            "backward computes in a narrower dtype than its input has",
            "cast the result back to the input's dtype, and compute in it where digits count",
        ),
        (
            "a return value is missing for an argument that needs no gradient",
            "return None in its place",
        ),
    ),
    examine=examine,
    weight=0.5,
)
