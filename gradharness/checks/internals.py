"""A float64 gradient that was computed in a lower precision, seen from its numbers: a warning, it may be meant."""

from __future__ import annotations

import torch

from gradharness.checks.base import Setting
from gradharness.comparison import root_mean_square
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault

# Round-off of float64 is seven digits below the lower end; what is above the upper end is wrong, and vjp says so.
_LOWEST, _HIGHEST = 1e-10, 1e-2
_LARGEST = 1000  # elements; what shows there shows in fewer
_FEW = 4  # elements that are numbers of the lower precision by chance


def float32_internals(setting: Setting, case: Case) -> tuple[Discrepancy, ...]:
    """One warning for each gradient that consists of numbers of a lower precision, while the true ones are none."""
    oracle = setting.trusted or setting.own
    large = case.elements > _LARGEST
    if setting.dtype is not torch.float64 or oracle is None or large:
        return ()
    try:
        expected = oracle.gradients(case).gradients
        got = setting.subject.linearize(case.primals).pullback(case.cotangents)
    except (OracleUnavailable, SubjectError):
        return ()
    found = []
    for label, g, e in zip(case.primals.labels, got, expected, strict=True):
        if g is None or g.shape != e.shape or g.numel() <= _FEW or g.dtype is not torch.float64:
            continue
        size = root_mean_square(e)
        if not size or not _LOWEST <= root_mean_square(g - e) / size <= _HIGHEST:
            continue
        name = next((n for n, d in _LOWER if torch.equal(g.to(d).to(g.dtype), g)), None)
        if name is not None:
            error = root_mean_square(g - e) / size
            detail = (
                f"gradient of {label} for float64 inputs is computed in {name}: it is off by {error:.1g} of its size"
            )
            found.append(Discrepancy(label=label, got=g, expected=e, fault=Fault.LOW_INTERNALS, detail=detail))
    return tuple(found)


_LOWER = (("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float32", torch.float32))
