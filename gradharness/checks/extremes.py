"""Check ``extremes``: zeros, ties, saturated, huge and minute values, and duplicate or outermost indices.

A gradient that is not finite is wrong where a finite slope exists: finite differences say so, of a
hand-written backward at kinks as well, since every choice between one-sided slopes is finite. A finite one is wrong if
it is far from an elementwise oracle, and differences side with the oracle.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from gradharness.checks import vjp
from gradharness.checks.arbitration import moved
from gradharness.checks.base import Check, Setting
from gradharness.checks.beyond import beyond
from gradharness.checks.converted import is_hand_written
from gradharness.checks.pointwise import Element, Slope, element_slope
from gradharness.checks.roundoff import own_roundoff
from gradharness.errors import OracleUnavailable
from gradharness.inputs.styles import EXTREME_STYLES
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate
from gradharness.model.subject import Gradients
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.oracles.autograd import Autograd

_LOOKED_AT = 8  # elements per leaf
_FAR = 1e-2  # relative; nearer ones are the business of vjp
_NOISE = 64.0
_MINUTE, _SATURATED = 2.0**-80, 30.0
_ORDINARY = 2  # number of the case's direction that serves as ordinary values
_ANYWAY = "the gradient is wrong at ordinary values as well"
_REASON = "the gradient is not finite where no finite slope is proved to exist"


def examine(setting: Setting, case: Case) -> Observation:
    """Elements that are not finite, then finite ones that are far off."""
    if case.empty or not is_hand_written(setting, case):
        reason = "no element to be wrong" if case.empty else "no hand-written backward, and no reference"
        return Observation(verdict=Verdict.SKIPPED, reason=reason)
    gradients = setting.subject.linearize(case.primals).pullback(case.cotangents)
    if any(g is not None and g.shape != x.shape for g, x in zip(gradients, case.primals.leaves, strict=True)):
        return Observation(verdict=Verdict.SKIPPED, reason="gradients of other shapes than the primals")
    oracle, estimate = _estimate(setting, case)
    found = _not_finite(setting, case, gradients, estimate)
    if not found and oracle is not None and estimate is not None:
        found = _far_off(setting, oracle, case, gradients, estimate)
        if found and _wrong_anyway(setting, case):
            return Observation(verdict=Verdict.SKIPPED, reason=_ANYWAY)
    if found:
        return Observation(verdict=Verdict.FAIL, discrepancies=tuple(found))
    if any(g is not None and not bool(g.isfinite().all()) for g in gradients):
        return Observation(verdict=Verdict.SKIPPED, reason=_REASON)
    return beyond(setting, case) or Observation(verdict=Verdict.PASS)


def _wrong_anyway(setting: Setting, case: Case) -> bool:
    """Whether the gradient is wrong at ordinary values too, which is for ``vjp`` to tell."""
    ordinary = [v / (v.abs().max().clamp(min=1e-300)) for v in case.directions[_ORDINARY] if v.numel()]
    if len(ordinary) < len(case.primals.leaves):
        return False
    leaves = [v.to(x.dtype) for v, x in zip(ordinary, case.primals.leaves, strict=True)]
    try:
        there, _ = moved(setting, case, case.primals.at(leaves))
    except OracleUnavailable:
        return False
    there = replace(there, primals=case.primals.at(leaves))
    return vjp.examine(setting, there).verdict is Verdict.FAIL


def _estimate(setting: Setting, case: Case) -> tuple[Autograd | None, GradientEstimate | None]:
    for oracle in (setting.trusted, setting.own):
        if oracle is not None:
            try:
                return oracle, oracle.gradients(case)
            except OracleUnavailable:
                continue
    return None, None


def _not_finite(
    setting: Setting, case: Case, gradients: Gradients, estimate: GradientEstimate | None
) -> list[Discrepancy]:
    # An output with a cotangent of zero counts too: zero times an infinite slope is NaN.
    everywhere = case.with_cotangents([torch.ones_like(w) for w in case.cotangents])
    found = []
    for number, g in enumerate(gradients):
        if g is None or bool(g.isfinite().all()):
            continue
        expected = None if estimate is None else estimate.gradients[number].reshape(-1)
        for flat in (~g.isfinite()).reshape(-1).nonzero()[:_LOOKED_AT, 0].tolist():
            known = expected is not None and bool(expected[flat].isfinite())
            if expected is not None and setting.trusted is not None and not known:
                continue  # the reference knows no better
            if _proved(setting, everywhere, (number, flat), known=known):
                value = expected[flat].item() if expected is not None and known else None
                found.append(_not_finite_at(case, gradients, (number, flat), value))
                break
    return found


def _proved(setting: Setting, case: Case, place: tuple[int, int], *, known: bool) -> bool:
    """Whether a finite slope exists, or, of a hand-written backward at a kink, finite slopes on both sides."""
    if setting.differences is None:  # a surrogate: what it has to be is for the reference to say
        return known
    slope = element_slope(setting, case, *place).slope
    if slope is Slope.KINK:
        return known or bool(setting.subject.raw_returns(case.primals, case.cotangents))
    return slope is Slope.FINITE


def _not_finite_at(case: Case, gradients: Gradients, place: tuple[int, int], value: float | None) -> Discrepancy:
    number, flat = place
    g = gradients[number]
    assert g is not None
    label, index = case.primals.labels[number], _index(g, flat)
    got, x = g.reshape(-1)[flat].item(), case.primals.leaves[number].reshape(-1)[flat].item() + 0.0
    truth = "the slope is finite there" if value is None else f"it is {value + 0.0:.6g}"
    return Discrepancy(
        label=label,
        got=g,
        fault=Fault.NON_FINITE,
        detail=f"gradient of {label} is {got} at {list(index)}, where {label} = {x:.6g}; {truth}",
        steps=(
            f"got = start(arguments, leaves)(cotangents)[{number}]",
            f"print('expected a finite number at {list(index)}, got', got)",
            f"sys.exit(int(got is not None and not bool(got[{index!r}].isfinite())))",
        ),
    )


def _far_off(
    setting: Setting, oracle: Autograd, case: Case, gradients: Gradients, estimate: GradientEstimate
) -> list[Discrepancy]:
    """Finite elements beyond round-off of finite expected ones, where differences agree with these."""
    pairs = zip(gradients, estimate.gradients, case.primals.leaves, strict=True)
    suspects = [_suspects(g, e) & _is_extreme(x) for g, e, x in pairs]
    if setting.differences is None or not any(bool(s.any()) for s in suspects):
        return []
    noise, own = oracle.conditioning(case, estimate), own_roundoff(setting, case, case.cotangents)
    found = []
    for number, (g, e, mask) in enumerate(zip(gradients, estimate.gradients, suspects, strict=True)):
        got = torch.zeros_like(e) if g is None else g
        allowed = _NOISE * (noise[number] + (0.0 if own is None else own[number])) + _FAR * e.abs()
        wrong = mask & ((got - e).abs() > allowed)
        for flat in wrong.reshape(-1).nonzero()[:_LOOKED_AT, 0].tolist():
            element = element_slope(setting, case, number, flat)
            values = got.reshape(-1)[flat].item(), e.reshape(-1)[flat].item()
            if _refutes(element, *values):
                found.append(_wrong_at(case, (number, flat), got, e, allowed))
                break
    return found


def _suspects(got: torch.Tensor | None, expected: torch.Tensor) -> torch.Tensor:
    got = torch.zeros_like(expected) if got is None else got
    far = (got - expected).abs() > _FAR * torch.maximum(got.abs(), expected.abs())
    return far & got.isfinite() & expected.isfinite()


def _is_extreme(x: torch.Tensor) -> torch.Tensor:
    """True where a value is zero, minute, or where exponentials saturate; the others are the business of vjp."""
    return (x.abs() <= _MINUTE) | (x.abs() >= _SATURATED)


def _refutes(element: Element, got: float, expected: float) -> bool:
    """Whether finite differences side with the oracle, clearly."""
    return (
        element.slope is Slope.FINITE
        and not isinstance(got, complex)
        and element.allows(expected)
        and not element.allows(got)
        and element.upper - element.lower < 0.5 * abs(got - expected)
    )


def _wrong_at(
    case: Case, place: tuple[int, int], got: torch.Tensor, expected: torch.Tensor, allowed: torch.Tensor
) -> Discrepancy:
    number, flat = place
    label, index = case.primals.labels[number], _index(got, flat)
    values = [t.reshape(-1)[flat].item() for t in (got, expected, case.primals.leaves[number])]
    only = torch.full_like(allowed, math.inf)
    only[index] = allowed[index]
    return Discrepancy(
        label=label,
        got=got,
        expected=torch.nan_to_num(expected),
        bound=only,
        oracle="autograd and finite differences",
        excess=abs(values[0] - values[1]) / float(allowed[index]) if float(allowed[index]) else math.inf,
        fault=Fault.WRONG_AT_EXTREME,
        detail=f"gradient of {label} is {values[0]:.6g} at {list(index)}, where {label} = {values[2]:.6g}; "
        f"it is {values[1]:.6g}",
    )


def _index(t: torch.Tensor, flat: int) -> tuple[int, ...]:
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), t.shape)) if t.dim() else ()


def _applies(setting: Setting) -> str | None:
    if setting.dtype is not torch.float64:
        return "only float64 tells a wrong formula from the ends of the dtype's range"
    return None


CHECK = Check(
    name="extremes",
    proves="At zeros, ties, saturated, huge and minute values the gradient is finite where a finite slope exists.",
    cannot="Slopes that differences cannot resolve there are not known, and neither is what the forward overflows at.",
    causes=(
        (
            "the derivative is 0/0 or inf - inf where the function is harmless",
            "treat the special value on its own, by torch.where on the argument and on the result",
        ),
        (
            "exp overflows on the side that is not needed",
            "use the form whose exponent is negative: sigmoid, softplus, logsumexp",
        ),
    ),
    examine=examine,
    applies=_applies,
    styles=EXTREME_STYLES,
    weight=0.6,
    optional=True,
)
