"""Check ``linearity``: wᵀJ is linear in the cotangent w. Exact up to round-off, in any dtype, with no oracle at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.roundoff import MARGIN, own_roundoff
from gradharness.checks.steps import allowing, expecting, spelled
from gradharness.checks.steps import compared as compared_in_script
from gradharness.comparison import Compared, compare
from gradharness.judge import Level, passing, rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict

# Powers of two, so that scaling is exact; negative, large and small at once, so that |w|, w², clamping and dropping
# of signs all show in one comparison.
_FIRST, _SECOND = -64.0, 0.5


def examine(setting: Setting, case: Case) -> Observation:
    """G(a·w1 + b·w2) against a·G(w1) + b·G(w2), G(0) against 0, and several outputs against each alone."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    first = _gradients(setting, case, case.cotangents)
    second = _gradients(setting, case, case.other_cotangents)
    joint = [_FIRST * a + _SECOND * b for a, b in zip(case.cotangents, case.other_cotangents, strict=True)]
    together = _gradients(setting, case, joint)
    found, level = _linear(setting, case, (first, second), together, None)
    if found:  # before blaming the subject, measure how far round-off moves its gradient
        noise = own_roundoff(setting, case, joint)
        found, level = _linear(setting, case, (first, second), together, noise)
    found += _at_zero(setting, case, first)
    if len(case.cotangents) > 1 and not found:
        found += _outputs_apart(setting, case, first)
    if found:
        return Observation(verdict=Verdict.FAIL, discrepancies=tuple(found))
    return passing(level)


def _gradients(setting: Setting, case: Case, cotangents: Sequence[torch.Tensor]) -> Gradients:
    """Copies: a later call may write into what an earlier one has returned, which `state` tells."""
    gradients = setting.subject.linearize(case.primals).pullback(cotangents)
    return tuple(g.clone() if isinstance(g, torch.Tensor) else g for g in gradients)


def _filled(case: Case, gradients: Gradients) -> Tensors:
    """None is no gradient, and no gradient is zero."""
    return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, case.primals.leaves, strict=True))


def _linear(
    setting: Setting, case: Case, parts: tuple[Gradients, Gradients], together: Gradients, noise: Tensors | None
) -> tuple[list[Discrepancy], Level]:
    found, level = [], Level()
    first, second = (_filled(case, g) for g in parts)
    for number, (label, a, b, got) in enumerate(zip(case.primals.labels, first, second, together, strict=True)):
        if a.shape != b.shape:
            continue  # the contract check names shapes
        expected = _FIRST * a + _SECOND * b
        compared = compare(label, got, expected)
        # Both terms carry round-off, also where they cancel.
        bound = setting.tolerance.allowed(_FIRST * a) + setting.tolerance.allowed(_SECOND * b)
        if noise is not None:
            bound = bound + MARGIN * noise[number]
        ruling = rule(compared, bound, setting.tolerance)
        level = level.worse(ruling)
        if ruling.excess > 1:
            steps = _sum_steps(case, number, ruling.tolerance)
            words = _in_words(setting, case, parts[0])
            found.append(_not_linear(compared, ruling.tolerance, ruling.excess, words, steps))
    return found, level


def _in_words(setting: Setting, case: Case, first: Gradients) -> str:
    """Which simple law is broken, tried one after the other on the case's own cotangents."""
    base = _filled(case, first)
    for factor, words in ((-1.0, "G(-w) is not -G(w)"), (2.0, "G(2w) is not 2·G(w)"), (64.0, "G(64w) is not 64·G(w)")):
        scaled = _filled(case, _gradients(setting, case, [factor * w for w in case.cotangents]))
        same = [_within(setting, got, factor * expected) for got, expected in zip(scaled, base, strict=True)]
        if not all(same):
            unchanged = all(_within(setting, got, e) for got, e in zip(scaled, base, strict=True))
            if unchanged:
                return "the gradient does not change when the cotangent is scaled by " + f"{factor:g}"
            return words
    return "G(v + w) is not G(v) + G(w)"


def _within(setting: Setting, got: torch.Tensor, expected: torch.Tensor) -> bool:
    return rule(compare("", got, expected), 0.0, setting.tolerance).excess <= 1


def _at_zero(setting: Setting, case: Case, first: Gradients) -> list[Discrepancy]:
    zeros = [torch.zeros_like(w) for w in case.cotangents]
    scale = _filled(case, first)
    found = []
    got_all = _gradients(setting, case, zeros)
    for label, got, size in zip(case.primals.labels, got_all, scale, strict=True):
        if got is None or got.shape != size.shape:
            continue
        # Zero times an infinite slope may be anything.
        expected = torch.zeros_like(size).masked_fill(~size.isfinite(), torch.nan)
        compared = compare(label, got, expected)
        ruling = rule(compared, setting.tolerance.allowed(size), setting.tolerance)
        if ruling.excess > 1:
            words = "the gradient for a cotangent of zeros is not zero"
            number = case.primals.labels.index(label)
            steps = (
                f"got = start(arguments, leaves)([0 * w for w in cotangents])[{number}]",
                *expecting(expected, ruling.tolerance),
                *compared_in_script(),
            )
            found.append(_not_linear(compared, ruling.tolerance, ruling.excess, words, steps))
    return found


def _outputs_apart(setting: Setting, case: Case, first: Gradients) -> list[Discrepancy]:
    """The cotangents of several outputs, one at a time: their gradients add up to the joint one."""
    total: list[torch.Tensor] = []
    bound: list[torch.Tensor] = []
    for k in range(len(case.cotangents)):
        alone = [w if i == k else torch.zeros_like(w) for i, w in enumerate(case.cotangents)]
        part = _filled(case, _gradients(setting, case, alone))
        size = [setting.tolerance.allowed(p) for p in part]
        total = [t + p for t, p in zip(total, part, strict=True)] if total else list(part)
        bound = [b + s for b, s in zip(bound, size, strict=True)] if bound else size
    found = _not_the_sum(setting, case, first, total, bound)
    if found:  # as for the sum of two cotangents: where true gradients cancel, what is left is round-off
        noise = own_roundoff(setting, case, case.cotangents)
        if noise is not None:
            bound = [b + MARGIN * n for b, n in zip(bound, noise, strict=True)]
            found = _not_the_sum(setting, case, first, total, bound)
    return found


def _not_the_sum(
    setting: Setting, case: Case, first: Gradients, total: Sequence[torch.Tensor], bound: Sequence[torch.Tensor]
) -> list[Discrepancy]:
    found = []
    for label, got, expected, allowed in zip(case.primals.labels, first, total, bound, strict=True):
        compared = compare(label, got, expected)
        ruling = rule(compared, allowed, setting.tolerance)
        if ruling.excess > 1:
            words = "the outputs' cotangents together do not give the sum of what each gives alone"
            steps = _apart_steps(case.primals.labels.index(label), ruling.tolerance)
            found.append(_not_linear(compared, ruling.tolerance, ruling.excess, words, steps))
    return found


def _sum_steps(case: Case, number: int, allowed: torch.Tensor) -> tuple[str, ...]:
    """Both sides of the law, in a script."""
    others = ", ".join(map(spelled, case.other_cotangents))
    return (
        f"others = [{others}]",
        f"both = [{_FIRST!r} * v + {_SECOND!r} * w for v, w in zip(cotangents, others)]",
        f"first, second, got = (start(arguments, leaves)(w)[{number}] for w in (cotangents, others, both))",
        f"expected = {_FIRST!r} * first + {_SECOND!r} * second",
        allowing(allowed),
        *compared_in_script(),
    )


def _apart_steps(number: int, allowed: torch.Tensor) -> tuple[str, ...]:
    """Each output's cotangent by itself, in a script."""
    return (
        "n = len(cotangents)",
        "alone = [[w if i == k else 0 * w for i, w in enumerate(cotangents)] for k in range(n)]",
        f"got, *parts = (start(arguments, leaves)(w)[{number}] for w in (cotangents, *alone))",
        "expected = sum(parts)",
        allowing(allowed),
        *compared_in_script(),
    )


def _not_linear(
    compared: Compared, tolerance: torch.Tensor, excess: float, words: str, steps: tuple[str, ...]
) -> Discrepancy:
    finite = compared.got is None or bool(compared.got.isfinite().all())
    return Discrepancy(
        label=compared.label,
        got=compared.got,
        expected=compared.expected,
        bound=tolerance,
        oracle="linearity in the cotangent",
        excess=excess,
        fault=Fault.NOT_LINEAR if finite else Fault.NON_FINITE,
        detail=words if finite else "the gradient is not finite for a larger cotangent",
        steps=steps,
    )


def _applies(setting: Setting) -> str | None:
    if setting.subject.fixed_cotangent:
        return "backward starts from the loss itself: there is no cotangent to vary"
    return None


CHECK = Check(
    name="linearity",
    proves="The gradient is linear in the cotangent: signs, scales, sums, zero, several outputs together.",
    cannot="A wrong gradient that is linear in the cotangent passes.",
    causes=(
        (
            "backward looks at the size or the sign of its cotangent",
            "multiply by the cotangent once, and by nothing else that depends on it",
        ),
        (
            "the cotangent of one output is dropped where that of another is not zero",
            "add the contributions of all outputs",
        ),
    ),
    examine=examine,
    applies=_applies,
    weight=0.5,
)
