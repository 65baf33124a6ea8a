"""Check ``value``: the forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.lines import COARSE
from gradharness.checks.roundoff import forward_roundoff
from gradharness.comparison import Compared, compare
from gradharness.errors import SubjectError
from gradharness.judge import Ruling, level_of, out_of_budget, rule
from gradharness.model.case import Case
from gradharness.model.subject import Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics.rounding import moved_by_value

# A formula may amplify its inputs' rounding as much as the reference does, and a few times more by its own operations.
_CONDITIONING_MARGIN = 8.0


def examine(setting: Setting, case: Case) -> Observation:
    """Forward with grad beside forward without, then both beside the reference."""
    plain = setting.subject.outputs(case.primals)
    found = _beside_itself(setting, case, plain)
    if found:
        return Observation(verdict=Verdict.FAIL, discrepancies=found)
    if setting.reference is None or setting.surrogate:  # a surrogate's reference has its gradient, not its values
        return Observation(verdict=Verdict.PASS)
    return _beside_reference(setting, case)


def _beside_itself(setting: Setting, case: Case, plain: Tensors) -> tuple[Discrepancy, ...]:
    if len(plain) != len(case.outputs):
        detail = f"the forward gives {len(case.outputs)} outputs with grad and {len(plain)} without"
        return (Discrepancy(label="output", fault=Fault.WRONG_FORWARD, detail=detail),)
    compared = [compare(n, _real(a), _real(b)) for n, a, b in zip(case.output_labels, case.outputs, plain, strict=True)]
    rulings = [rule(c, 0.0, setting.tolerance) for c in compared]
    found = out_of_budget(compared, rulings, "the forward without grad")
    return tuple(_wrong_forward(d, "the forward gives another result when gradients are recorded") for d in found)


def _beside_reference(setting: Setting, case: Case) -> Observation:
    assert setting.reference is not None
    primals = case.primals.to(dtype=torch.float64)
    try:
        expected = setting.reference.outputs(primals)
    except SubjectError as error:
        return Observation(verdict=Verdict.SKIPPED, reason=f"reference: {error}")
    if len(expected) != len(case.outputs):
        detail = f"the subject returns {len(case.outputs)} outputs, the reference {len(expected)}"
        found = Discrepancy(label="output", fault=Fault.WRONG_FORWARD, detail=detail)
        return Observation(verdict=Verdict.FAIL, discrepancies=(found,))
    compared, rulings = _ruled(setting, case, expected, [0.0] * len(expected))
    if any(r.excess > 1 for r in rulings):
        compared, rulings = _ruled(setting, case, expected, _conditioning(setting, case, primals, expected))
    wrong = out_of_budget(compared, rulings, "reference")
    if wrong:
        found_all = tuple(_wrong_forward(d, _difference_in_words(d)) for d in wrong)
        return Observation(verdict=Verdict.FAIL, discrepancies=found_all)
    if all(t.numel() == 0 for t in expected):
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    level = level_of(rulings)
    if level.resolution > setting.tolerance.coarsest:
        return Observation(verdict=Verdict.UNDECIDED, reason=COARSE.format(level.resolution))
    # Outputs that are all zero have no size that an error could be held against.
    sized = level.resolution > 0
    return Observation(
        verdict=Verdict.PASS,
        resolution=level.resolution if sized else None,
        error=level.error if sized else None,
    )


def _ruled(
    setting: Setting, case: Case, expected: Tensors, bounds: Sequence[torch.Tensor | float]
) -> tuple[list[Compared], list[Ruling]]:
    compared = [
        compare(n, _real(a), _real(b)) for n, a, b in zip(case.output_labels, case.outputs, expected, strict=True)
    ]
    return compared, [rule(c, b, setting.tolerance) for c, b in zip(compared, bounds, strict=True)]


def _conditioning(setting: Setting, case: Case, primals: Primals, expected: Tensors) -> list[torch.Tensor]:
    """How far round-off can move the reference's outputs.

    The largest change when the primals move by an ulp or two of the subject's dtype; and, where an output vanishes by
    cancellation, the smallest part of the output's size beside the point that is resolved at all.
    """
    assert setting.reference is not None
    factor = torch.finfo(setting.dtype).eps / torch.finfo(torch.float64).eps
    spread = [torch.zeros_like(_real(y).abs()) for y in expected]
    for pattern in range(3):
        there = _elsewhere(setting, primals, [(moved_by_value(x, pattern) - x) * factor for x in primals.leaves])
        for total, here, y in zip(spread, expected, there, strict=False):
            if y.shape == here.shape:
                torch.maximum(total, torch.nan_to_num((_real(y) - _real(here)).abs(), nan=0.0), out=total)
    own = forward_roundoff(setting.subject, case.primals, case.outputs)
    theirs = forward_roundoff(setting.reference, primals, expected)
    bounds = [_CONDITIONING_MARGIN * (s + a + b) for s, a, b in zip(spread, own, theirs, strict=True)]
    beside = _elsewhere(
        setting, primals, [v.to(x.dtype) for v, x in zip(case.directions[2], primals.leaves, strict=True)]
    )
    smallest = setting.tolerance.rtol * setting.tolerance.floor
    sizes = [float(_real(y).abs().square().mean().sqrt()) if y.numel() else 0.0 for y in beside]
    return [b + smallest * s for b, s in zip(bounds, sizes or [0.0] * len(bounds), strict=True)]


def _elsewhere(setting: Setting, primals: Primals, steps: list[torch.Tensor]) -> Tensors:
    """The reference's outputs at a moved point; none where it rejects that."""
    assert setting.reference is not None
    try:
        return setting.reference.outputs(primals.at([x + s for x, s in zip(primals.leaves, steps, strict=True)]))
    except SubjectError:
        return ()


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Integer and boolean outputs are compared as float64, which holds them exactly below 2^53."""
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.to(torch.float64)


def _wrong_forward(found: Discrepancy, detail: str) -> Discrepancy:
    return replace(found, fault=Fault.WRONG_FORWARD, detail=detail)


def _difference_in_words(found: Discrepancy) -> str:
    assert found.got is not None
    assert found.expected is not None
    if found.got.shape != found.expected.shape:
        return (
            f"the forward returns {found.label} of shape {tuple(found.got.shape)}, "
            f"the reference one of shape {tuple(found.expected.shape)}"
        )
    return f"the forward's {found.label} differs from the reference's"


CHECK = Check(
    name="value",
    proves="The forward equals the reference's, and is the same with and without gradients recorded.",
    cannot="Without a reference it cannot know what the forward should compute.",
    causes=(
        (
            "the forward was rewritten and its backward with it, so that they agree with each other only",
            "hold the forward against the formula that it is meant to compute",
        ),
        (
            "another branch runs where gradients are recorded",
            "compute the same numbers with and without grad",
        ),
    ),
    examine=examine,
)
