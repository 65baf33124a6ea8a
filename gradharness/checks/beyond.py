"""Values beyond the region that the examples show: negative ones, where all examples are positive.

What is drawn stays in the region of the examples, since a subject may be meant for no other. Where its forward takes
negative numbers all the same, and its gradient is wrong there, that is worth a warning and no more.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gradharness.checks import vjp
from gradharness.checks.arbitration import moved
from gradharness.checks.base import Setting
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import Primals
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict

_REGION = 4  # elements of one sign from which on it is taken for a region


def beyond(setting: Setting, case: Case) -> Observation | None:
    """The warning, with the case where it shows; None if there is nothing to say."""
    if setting.declared:
        return None
    mirrored = [_mirrored(x) for x in case.primals.leaves]
    for number, leaf in enumerate(mirrored):
        if leaf is None:
            continue
        leaves = [leaf if i == number else x for i, x in enumerate(case.primals.leaves)]
        there = _there(setting, case, case.primals.at(leaves))
        if there is None or vjp.examine(setting, there).verdict is not Verdict.FAIL:
            continue
        label = case.primals.labels[number]
        detail = (
            f"the gradient is wrong for negative {label}, which the examples do not show and the forward accepts: "
            "declare the region, or give examples of both signs"
        )
        found = Discrepancy(label=label, fault=Fault.WRONG_REGION, detail=detail)
        return Observation(verdict=Verdict.PASS, warnings=(found,), at=there)
    return None


def _mirrored(leaf: torch.Tensor) -> torch.Tensor | None:
    one_sided = leaf.is_floating_point() and leaf.numel() >= _REGION and bool((leaf > 0).all())
    return -leaf if one_sided else None


def _there(setting: Setting, case: Case, primals: Primals) -> Case | None:
    """The case at the mirrored point, if forward and reference are finite there."""
    try:
        there, _ = moved(setting, case, primals)
        reference = setting.reference
        expected = there.outputs if reference is None else reference.outputs(primals.to(dtype=torch.float64))
    except (SubjectError, OracleUnavailable):
        return None
    finite = all(bool(y.isfinite().all()) for y in (*there.outputs, *expected))
    return replace(there, primals=primals) if finite else None
