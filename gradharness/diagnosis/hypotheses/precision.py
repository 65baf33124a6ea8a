"""Computed in fewer bits than it has: what came is right but for rounding."""

from __future__ import annotations

import torch

from gradharness.diagnosis.asking import again, due_at
from gradharness.diagnosis.evidence import Evidence, Explanation, Sample
from gradharness.diagnosis.operations import Watching, run
from gradharness.model.case import Case
from gradharness.model.verdict import Fault

_FORMATS = (torch.bfloat16, torch.float16, torch.float32)  # the fewest bits of precision first
_LARGEST_ERROR = 0.05  # relative to the tensor's largest element; a few operations in bfloat16 stay below
_ROUNDINGS = 64  # units in the last place of the narrow format that a chain of operations may be off
_FEWEST = 2  # wrong elements that have to be short where the right ones are not: one in 2**29 is by chance
_EXACT = 1e-12
_TELLING = 1e-7  # a gradient that is only rounded to fewer bits moves by more, where its cotangent grows by a third


def explain(evidence: Evidence) -> Explanation | None:
    """All errors are small, and the numbers are those of a narrower format."""
    samples = evidence.samples
    if not all(s.elementwise and bool(s.got.isfinite().all()) and not s.got.is_complex() for s in samples):
        return None
    worst = max(_error(s) for s in samples)
    if worst > _LARGEST_ERROR or evidence.setting.dtype is not torch.float64:
        return None
    for dtype in _FORMATS:
        if worst <= _ROUNDINGS * torch.finfo(dtype).eps and _shows(evidence, dtype):
            return _told(evidence, str(dtype).removeprefix("torch."), worst)
    narrow = _cast(evidence)
    return _told(evidence, narrow, worst) if narrow and _is_rounded(evidence) else None


def _told(evidence: Evidence, narrow: str, worst: float) -> Explanation:
    where = _place(evidence, narrow)
    message = f"gradient of {evidence.label} is right but for rounding: it is computed in {narrow}{where}"
    details = (f"the largest error is {worst:.2g} of the largest element",)
    return Explanation(Fault.LOW_INTERNALS, message, details)


def _error(sample: Sample) -> float:
    size = float(torch.nan_to_num(sample.expected).abs().max())
    return float(torch.nan_to_num(sample.got - sample.expected).abs().max()) / size if size else float("inf")


def _shows(evidence: Evidence, dtype: torch.dtype) -> bool:
    """Whether every number has only the bits of a format, or comes of primals and cotangents that have."""
    got, expected = (torch.cat([getattr(s, name)[s.wrong] for s in evidence.samples]) for name in ("got", "expected"))
    short, due_short = (_round(x, dtype) == x for x in (got, expected))
    if bool(short.all()) and int((short & ~due_short).sum()) >= _FEWEST:
        return True
    return all(_comes_of(evidence, s, dtype) for s in evidence.samples)


def _comes_of(evidence: Evidence, sample: Sample, dtype: torch.dtype) -> bool:
    """Whether it is the right gradient of rounded primals or cotangents, closer by far than of the true ones."""
    primals, cotangents = sample.case.primals, sample.case.cotangents
    rounded = primals.at([_round(x, dtype) for x in primals.leaves])
    weights = tuple(_round(w, dtype) for w in cotangents)
    error = float(torch.nan_to_num(sample.got - sample.expected).abs().max())
    for point, cotangent in ((rounded, weights), (rounded, cotangents), (primals, weights)):
        there = due_at(evidence, sample.case.with_cotangents(cotangent), point)
        if there is not None and float(torch.nan_to_num(sample.got - there).abs().max()) <= 1e-3 * error:
            return True
    return False


def _round(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype).to(x.dtype) if x.is_floating_point() else x


def _is_rounded(evidence: Evidence) -> bool:
    """Whether twice the cotangent gives exactly twice the gradient, and three times it does not."""
    sample = evidence.first
    doubled, tripled = (again(evidence, sample.case, [c * w for w in sample.case.cotangents]) for c in (2.0, 3.0))
    if doubled is None or tripled is None:
        return False
    size = float(sample.got.abs().max())
    exact = float((doubled - 2 * sample.got).abs().max()) <= _EXACT * size
    return exact and float((tripled - 3 * sample.got).abs().max()) > _TELLING * size


def _cast(evidence: Evidence) -> str:
    """The narrowest format that the backward converts to; empty if none is seen."""
    found = {dtype for dtype, _ in _casts(evidence)}
    return next((str(d).removeprefix("torch.") for d in _FORMATS if d in found), "")


def _place(evidence: Evidence, narrow: str) -> str:
    for dtype, where in _casts(evidence):
        if str(dtype) == f"torch.{narrow}":
            return f", by {where}"
    return ""


def _casts(evidence: Evidence) -> list[tuple[torch.dtype, str]]:
    """Conversions to fewer bits in the backward: the format, and where."""
    case: Case = evidence.first.case
    mode = Watching()
    run(evidence.setting.subject, case, mode, case.primals.labels.index(evidence.label))
    found = []
    for call in mode.calls:
        x = call.arguments[0] if call.arguments else None
        if call.place.operation == "aten::_to_copy" and isinstance(x, torch.Tensor) and x.is_floating_point():
            result = call.result
            if isinstance(result, torch.Tensor) and result.element_size() < x.element_size():
                found.append((result.dtype, str(call.place)))
    return found
