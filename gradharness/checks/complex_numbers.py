"""Check ``complex``: torch's convention for complex numbers, the conjugate Wirtinger derivative Jᴴw.

Complex inputs claim complex numbers, and a wrong gradient fails. Where example inputs are real and the forward takes
complex ones all the same, they are made complex. Only a product is looked at there, a Function that is linear in each
of its arguments over the complex numbers too, as products of matrices and convolutions are: that is what complex
numbers are used with. Without its conjugate it fails beside a reference that takes complex numbers, and is a warning
alone: many a Function is right for the real numbers that its author had in mind. Where specs declare real inputs,
nothing is asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from gradharness.checks.base import Check, Setting
from gradharness.comparison import Compared, compare, inner
from gradharness.errors import OracleUnavailable, SubjectError, first_line
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.estimate import Smoothness
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict

_IMAGINARY = 8  # number of the first of the case's directions that serve as imaginary parts
_DIRECTIONS = 2
_FACTOR = complex(0.9, 1.2)  # not of modulus one, under which a quotient of lengths turns like a product
_CLOSE = 1e-6  # of the rms, for forwards and hypotheses
_LARGEST = 1 << 17  # elements that nobody has asked to be complex
_TOO_LARGE = f"more than {_LARGEST} real elements: a smaller size tells"
_REAL = "the forward does not take complex numbers: {}"
_OTHER_FORWARD = "the forward is not the reference's for complex numbers"


def examine(setting: Setting, case: Case) -> Observation:
    """The gradient at complex primals, against autograd and finite differences."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    if any(x.is_complex() for x in case.primals.leaves):
        return _look(setting, case, given=True)
    if setting.declared or case.elements > _LARGEST:
        reason = "the inputs are declared to be real" if setting.declared else _TOO_LARGE
        return Observation(verdict=Verdict.SKIPPED, reason=reason)
    there = _there(setting, case, _complexified(case))
    if isinstance(there, Observation):
        return there
    observation = _look(setting, there, given=False)
    if observation.verdict is Verdict.FAIL or observation.warnings:
        return replace(observation, at=there)
    # Of complex numbers that nobody has asked for, nothing undecided need be told.
    undecided = observation.verdict is Verdict.UNDECIDED
    return replace(observation, verdict=Verdict.SKIPPED) if undecided else observation


def _complexified(case: Case) -> Primals:
    """The point with all of its leaves complex: autograd itself refuses a complex gradient for a real one."""
    parts = case.directions[_IMAGINARY]
    return case.primals.at([torch.complex(x, v.to(x.dtype)) for x, v in zip(case.primals.leaves, parts, strict=True)])


def _there(setting: Setting, case: Case, primals: Primals) -> Case | Observation:
    """The case at complex primals; or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where an imaginary part is discarded
            linearization = setting.subject.linearize(primals)
    except SubjectError as error:
        return Observation(verdict=Verdict.SKIPPED, reason=_REAL.format(first_line(error.original)))
    outputs = linearization.outputs
    if [y.shape for y in outputs] != [y.shape for y in case.outputs] or not all(
        bool(y.isfinite().all()) for y in outputs
    ):
        return Observation(verdict=Verdict.SKIPPED, reason="the forward is another one for complex numbers")
    if linearization.differentiable != case.differentiable:
        return Observation(verdict=Verdict.SKIPPED, reason="the forward is another one for complex numbers")
    pairs = zip(linearization.cotangent_like, case.cotangents, case.other_cotangents, strict=True)
    weights = tuple(torch.complex(a, b) if y.is_complex() and not a.is_complex() else a for y, a, b in pairs)
    tangents = [_tangent(case, primals, number) for number in range(_IMAGINARY)]
    there = replace(
        case,
        primals=primals,
        outputs=outputs,
        cotangents=weights,
        other_cotangents=tuple(w.conj().resolve_conj() for w in weights),
        directions=tangents,
    )
    return there if _as_reference(setting, there) else Observation(verdict=Verdict.SKIPPED, reason=_OTHER_FORWARD)


def _tangent(case: Case, primals: Primals, number: int) -> Tensors:
    real, imaginary = case.directions[number], case.directions[(number + 1) % _IMAGINARY]
    return tuple(
        torch.complex(a, b) if x.is_complex() else a for x, a, b in zip(primals.leaves, real, imaginary, strict=True)
    )


def _as_reference(setting: Setting, case: Case) -> bool:
    if setting.reference is None:
        return True
    try:
        expected = setting.reference.outputs(case.primals)
    except SubjectError:
        return False
    return len(expected) == len(case.outputs) and all(map(_near, case.outputs, expected))


def _near(got: torch.Tensor, expected: torch.Tensor) -> bool:
    if got.shape != expected.shape or got.is_complex() != expected.is_complex():
        return False
    size = expected.abs().square().mean().sqrt() if expected.numel() else 0.0
    return bool(((got - expected).abs() <= _CLOSE * size).all())


def _look(setting: Setting, case: Case, *, given: bool) -> Observation:
    try:
        gradients = _real_where_real(case, setting.subject.linearize(case.primals).pullback(case.cotangents))
    except SubjectError as error:
        if given:
            raise
        text = f"the forward takes complex numbers, and backward raises: {first_line(error.original)}"
        return Observation(verdict=Verdict.SKIPPED, reason=text)
    if any(g is not None and g.shape != x.shape for g, x in zip(gradients, case.primals.leaves, strict=True)):
        return Observation(verdict=Verdict.SKIPPED, reason="gradients of other shapes than the primals")
    return _judged(setting, case, gradients, given=given)


def _judged(setting: Setting, case: Case, gradients: Gradients, *, given: bool) -> Observation:
    truth, slopes = _truth(setting, case), _slopes(setting, case)
    if not slopes:
        return Observation(verdict=Verdict.UNDECIDED, reason="finite differences do not resolve the slope")
    if truth is not None and not _agree(truth, slopes):
        return Observation(verdict=Verdict.UNDECIDED, reason="autograd and finite differences disagree")
    wrong = _wrong(setting, case, gradients, truth)
    if _agree(gradients, slopes):
        verdict = Verdict.UNDECIDED if wrong else Verdict.PASS
        return Observation(verdict=verdict, reason="finite differences do not resolve the difference")
    found = _named(setting, case, gradients, truth, wrong)
    if not given and not _is_product(setting, case):
        reason = f"for complex inputs, which are not claimed: {found[0].detail}"
        return Observation(verdict=Verdict.SKIPPED, reason=reason)
    if not given and setting.reference is None:
        return Observation(verdict=Verdict.SKIPPED, warnings=found, reason="complex numbers are not claimed")
    return Observation(verdict=Verdict.FAIL, discrepancies=found)


def _real_where_real(case: Case, gradients: Gradients) -> Gradients:
    """The real part of a complex gradient for a real primal: who has no autograd may leave that to the caller."""
    return tuple(
        g.real if g is not None and g.is_complex() and not x.is_complex() else g
        for g, x in zip(gradients, case.primals.leaves, strict=True)
    )


def _truth(setting: Setting, case: Case) -> Tensors | None:
    for oracle in (setting.trusted, setting.own):
        if oracle is not None:
            try:
                return tuple(g for g in _real_where_real(case, oracle.at(case, case.primals)) if g is not None)
            except OracleUnavailable:
                continue
    return None


def _slopes(setting: Setting, case: Case) -> list[tuple[Tensors, float, float]]:
    """(tangent, slope, bound) along a few complex directions; empty where one is not smooth."""
    found = []
    for tangent in case.directions[:_DIRECTIONS]:
        if setting.differences is None:
            return []
        try:
            estimate = setting.differences.slope(case, tangent)
        except OracleUnavailable:
            return []
        if estimate.smoothness is not Smoothness.SMOOTH or estimate.masked is not None:
            return []
        found.append((tangent, estimate.value, estimate.bound))
    return found


def _agree(gradients: Gradients, slopes: Sequence[tuple[Tensors, float, float]]) -> bool:
    for tangent, value, bound in slopes:
        sizes = [
            float((g.abs() * v.abs()).square().sum()) for g, v in zip(gradients, tangent, strict=True) if g is not None
        ]
        scale = max(sum(sizes) ** 0.5, abs(value))
        if not abs(inner(gradients, tangent) - value) <= bound + _CLOSE * scale:
            return False
    return True


def _wrong(setting: Setting, case: Case, gradients: Gradients, truth: Tensors | None) -> list[tuple[int, Compared]]:
    if truth is None:
        return []
    compared = [compare(n, g, t) for n, g, t in zip(case.primals.labels, gradients, truth, strict=True)]
    return [(i, c) for i, c in enumerate(compared) if rule(c, 0.0, setting.tolerance).excess > 1]


def _named(
    setting: Setting, case: Case, gradients: Gradients, truth: Tensors | None, wrong: Sequence[tuple[int, Compared]]
) -> tuple[Discrepancy, ...]:
    """What is wrong with each gradient, and whether a conjugate explains it."""
    flipped = case.with_cotangents([w.conj().resolve_conj() for w in case.cotangents])
    mirror = _truth(setting, flipped)
    if truth is None or not wrong:
        explained = _agree(_conjugated(gradients), _slopes(setting, flipped))
        label = case.primals.labels[0]
        return (_found(label, explained=explained, got=None, expected=None, bound=0.0, excess=float("inf")),)
    found = []
    for number, compared in wrong:
        got = torch.zeros_like(compared.expected) if compared.got is None else compared.got
        explained = mirror is not None and _near(got, mirror[number].conj())
        ruling = rule(compared, 0.0, setting.tolerance)
        found.append(
            _found(
                compared.label,
                explained=explained,
                got=compared.got,
                expected=compared.expected,
                bound=ruling.tolerance,
                excess=ruling.excess,
            )
        )
    return tuple(sorted(found, key=lambda d: -d.excess))


def _conjugated(gradients: Gradients) -> Gradients:
    return tuple(None if g is None else g.conj().resolve_conj() for g in gradients)


def _found(
    label: str,
    *,
    explained: bool,
    got: torch.Tensor | None,
    expected: torch.Tensor | None,
    bound: torch.Tensor | float,
    excess: float,
) -> Discrepancy:
    detail = f"gradient of {label} is wrong for complex numbers"
    if explained:
        detail = f"gradient of {label} lacks a conjugate: the Jacobian's transpose in place of its conjugate's"
    return Discrepancy(
        label=label,
        got=got,
        expected=expected,
        bound=bound,
        oracle="autograd and finite differences" if expected is not None else "finite differences",
        excess=excess,
        fault=Fault.MISSING_CONJUGATE if explained else Fault.WRONG_FOR_COMPLEX,
        detail=detail,
    )


def _is_product(setting: Setting, case: Case) -> bool:
    """Whether an autograd Function is linear over the complex numbers in each of two arguments or more."""
    primals = case.primals
    if len(primals.leaves) < 2 or not any(r.coerced for r in setting.subject.raw_returns(primals, case.cotangents)):
        return False
    for number in range(len(primals.leaves)):
        turned = [_FACTOR * x if i == number else x for i, x in enumerate(primals.leaves)]
        try:
            outputs = setting.subject.outputs(primals.at(turned))
        except SubjectError:
            return False
        if len(outputs) != len(case.outputs) or not all(map(_near, outputs, [_FACTOR * y for y in case.outputs])):
            return False
    return True


def _applies(setting: Setting) -> str | None:
    if setting.dtype is not torch.float64:
        return "only float64 tells a conjugate from round-off"
    if setting.surrogate and setting.reference is None:
        return "a surrogate gradient can be compared with a reference only: give reference="
    return None


CHECK = Check(
    name="complex",
    proves="For complex numbers the gradient is that of torch's convention, the conjugate transpose of the Jacobian.",
    cannot="Real examples are made complex for products only, and a fault there is an error only beside a reference.",
    causes=(
        (
            "the conjugate is missing",
            "multiply by the conjugate of the derivative: grad = cotangent * (dy/dx).conj()",
        ),
        (
            "a transpose stands where the adjoint belongs",
            "use .mH in place of .mT",
        ),
    ),
    examine=examine,
    applies=_applies,
    weight=0.16,
    optional=True,
)
