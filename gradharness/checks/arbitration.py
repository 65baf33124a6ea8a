"""Who is wrong, when a gradient and an oracle disagree: the gradient, the oracle, round-off, or the point.

Source of the procedure: a mismatch on a smooth line counts only if it recurs beside the point, or if the derivative
is proved linear at the point itself; at a kink any value between the one-sided derivatives is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gradharness.checks import granularity, nonfinite
from gradharness.checks.base import Setting
from gradharness.checks.explanation import explained, in_leaf
from gradharness.checks.lines import COARSE, Along, along
from gradharness.checks.roundoff import MARGIN as ROUNDOFF_MARGIN
from gradharness.checks.roundoff import coarse_step, forward_roundoff, own_roundoff, stirred
from gradharness.comparison import compare_all, inner
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.judge import level_of, out_of_budget, rule
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.oracles.autograd import Autograd
from gradharness.oracles.finite_difference import FiniteDifference

_OWN_ROUNDOFF = "the gradient differs from the oracle by no more than it moves when its operations round otherwise"
_OTHER_ORDER = "differs from the oracle in the order among equal elements only, where the function has a kink"
_NUDGES = (2, 3, 4)  # numbers of the case's directions that serve as displacements
_PARTITIONS = (5, 6, 7, 8)  # numbers of the case's directions that serve to partition
_BLOCKS = 8
_NUDGE = 1e-2  # of a standard deviation
_CLOSE = 1e-4  # the same, to see what choices there are among equals
_RECURS = 2  # of the three nudges
_CONDITIONING_MARGIN = 8.0
_SUSPECTS = 3  # worst elements that are looked at one by one


def moved(setting: Setting, case: Case, primals: Primals) -> tuple[Case, Gradients]:
    """The case at another point, and the subject's gradients there.

    Raises:
        OracleUnavailable: If the subject rejects the point, or its outputs have other shapes there.
    """
    try:
        linearization = setting.subject.linearize(primals)
    except SubjectError as error:
        raise OracleUnavailable(str(error)) from error
    there = replace(case, primals=primals, outputs=linearization.outputs)
    shapes = [t.shape for t in linearization.cotangent_like]
    if shapes != [t.shape for t in case.cotangents] or linearization.differentiable != case.differentiable:
        raise OracleUnavailable("the outputs have other shapes beside the point")
    return there, linearization.pullback(case.cotangents)


def nudged(case: Case, number: int, share: float = _NUDGE) -> Primals:
    """A point a hundredth of a standard deviation away, or another share of one."""
    tangent = case.directions[number]
    return case.primals.at([x + (share * v).to(x.dtype) for x, v in zip(case.primals.leaves, tangent, strict=True)])


# --- a gradient against an elementwise oracle ------------------------------------------------------------------------


def arbitrate(
    setting: Setting, oracle: Autograd, case: Case, gradients: Gradients, estimate: GradientEstimate
) -> Observation:
    """Decides about elements that are out of budget: round-off, the oracle, the point, or the subject."""
    compared = compare_all(case.primals.labels, gradients, estimate.gradients)
    noise = oracle.conditioning(case, estimate)
    bounds = [_CONDITIONING_MARGIN * n + b for n, b in zip(noise, estimate.bounds, strict=True)]
    rulings = [rule(c, b, setting.tolerance) for c, b in zip(compared, bounds, strict=True)]
    wrong = out_of_budget(compared, rulings, estimate.oracle)
    if not wrong:
        level = level_of(rulings)
        verdict = Verdict.PASS if 0 < level.resolution <= setting.tolerance.coarsest else Verdict.UNDECIDED
        reason = COARSE.format(level.resolution)
        return Observation(verdict=verdict, resolution=level.resolution, error=level.error, reason=reason)
    failure = Observation(verdict=Verdict.FAIL, discrepancies=wrong)
    infinite = nonfinite.any_nonfinite(tuple(d.got for d in wrong))
    excuse = _excuse(setting, case, gradients, wrong, infinite=infinite)
    if infinite or excuse:
        return Observation(verdict=Verdict.UNDECIDED, reason=excuse) if excuse else failure
    if _dealt_out_otherwise(case, wrong) and _beyond_choice(setting, oracle, case, estimate):
        return Observation(verdict=Verdict.UNDECIDED, reason=_OTHER_ORDER)
    if setting.differences is not None:
        voted = _vote(setting, oracle, case, gradients, estimate, wrong)
        if voted is not None:
            return failure if voted is Verdict.FAIL else _suspect(setting, oracle, voted)
    if _recurs_elementwise(setting, oracle, case):
        return failure
    reason = "differs from the oracle at a special point only, within what its one-sided derivatives allow"
    return Observation(verdict=Verdict.UNDECIDED, reason=reason)


def _excuse(setting: Setting, case: Case, gradients: Gradients, wrong: Sequence[Discrepancy], *, infinite: bool) -> str:
    """Why the differences say nothing about the subject; empty if there is no such reason."""
    if infinite:
        return nonfinite.REASON if nonfinite.is_excusable(setting, case, gradients) else ""
    return _OWN_ROUNDOFF if _is_own_roundoff(setting, case, wrong) else ""


def _is_own_roundoff(setting: Setting, case: Case, wrong: Sequence[Discrepancy]) -> bool:
    """Whether cancellation within the subject explains all differences."""
    noise = own_roundoff(setting, case, case.cotangents)
    if noise is None:
        return False
    for found in wrong:
        if found.got is None or found.expected is None:
            return False
        allowed = ROUNDOFF_MARGIN * noise[case.primals.labels.index(found.label)] + found.bound
        if not bool(((found.got - found.expected).abs() <= allowed).all()):
            return False
    return True


def _suspect(setting: Setting, oracle: Autograd, verdict: Verdict) -> Observation:
    """Finite differences side with the subject."""
    if oracle is not setting.trusted:
        return Observation(verdict=Verdict.UNDECIDED, reason="autograd of the own forward is wrong here")
    detail = (
        f"{oracle.name} and finite differences of the subject's forward disagree, and the subject's gradient "
        "agrees with the differences: if the gradient is meant to differ from the derivative, declare surrogate=True"
    )
    found = Discrepancy(label="reference", fault=Fault.REFERENCE_SUSPECT, detail=detail)
    return Observation(verdict=verdict, warnings=(found,), reason="the oracles disagree: the reference is the suspect")


def _vote(
    setting: Setting,
    oracle: Autograd,
    case: Case,
    gradients: Gradients,
    estimate: GradientEstimate,
    wrong: Sequence[Discrepancy],
) -> Verdict | None:
    """FAIL if differences refute the subject, UNDECIDED if they refute the oracle instead, None if they cannot tell."""
    assert setting.differences is not None
    refuted_oracle = False
    near: list[Gradients] | None = None
    for tangent in _telling_directions(case, wrong):
        try:
            interval = setting.differences.interval(case, tangent)
        except OracleUnavailable:
            continue
        if interval is None:
            continue
        products = inner(gradients, tangent), inner(estimate.gradients, tangent)
        slack = interval.bound + setting.tolerance.rtol * max(abs(interval.lower), abs(interval.upper))
        if slack > abs(products[0] - products[1]) / 2:
            continue
        holds = [interval.lower - slack <= x <= interval.upper + slack for x in products]
        if holds[0] == holds[1]:
            continue
        near = _beyond_choice(setting, oracle, case, estimate) if near is None else near
        # The other's gradients are the witnesses for what may be chosen: every second one.
        others = [inner(g, tangent) for g in (near[0::2] if holds[0] else near[1::2])]
        refuted = products[1] if holds[0] else products[0]
        if any(abs(x - refuted) <= slack + _NUDGE * abs(refuted) for x in others):
            continue
        if not holds[0] and holds[1]:
            return Verdict.FAIL
        refuted_oracle |= holds[0] and not holds[1]
    return Verdict.UNDECIDED if refuted_oracle else None


def _beyond_choice(setting: Setting, oracle: Autograd, case: Case, estimate: GradientEstimate) -> list[Gradients]:
    """Gradients close by, the subject's and the oracle's in turn; none where the oracle's are all alike.

    Among equals several outputs may be dealt out in any order (sort): each order is a limit of gradients beside the
    point, while the slopes at the point know one order only.
    """
    found: list[Gradients] = []
    varied = False
    for number in range(2, len(case.directions)):
        for side in (-_CLOSE, _CLOSE):
            try:
                there, gradients = moved(setting, case, nudged(case, number, side))
                found += [gradients, oracle.at(there, there.primals)]
            except OracleUnavailable:
                continue
            varied |= not _alike(found[-1], estimate.gradients)
        if number >= _NUDGES[-1] and not varied:
            return []
    return found


def _dealt_out_otherwise(case: Case, wrong: Sequence[Discrepancy]) -> bool:
    """Whether every gradient is the expected one but for the order among elements whose primals are equal.

    Of many equals there are more orders than gradients close by can show.
    """
    for found in wrong:
        if found.got is None or found.expected is None:
            return False
        x = case.primals.leaves[case.primals.labels.index(found.label)].reshape(-1)
        if x.is_complex() or found.got.shape != found.expected.shape:
            return False
        dealt = []
        for gradient in (found.got.reshape(-1).to(found.expected.dtype), found.expected.reshape(-1)):
            order = gradient.argsort()
            dealt.append(gradient[order[x[order].argsort(stable=True)]])
        if not bool(((dealt[0] - dealt[1]).abs() <= torch.as_tensor(found.bound).max()).all()):
            return False
    return True


def _alike(near: Gradients, here: Tensors) -> bool:
    size = max(inner(here, here), 0.0) ** 0.5
    gap = [g - h for g, h in zip(near, here, strict=True) if g is not None]
    return bool(inner(gap, gap) ** 0.5 <= _NUDGE * size)


def _telling_directions(case: Case, wrong: Sequence[Discrepancy]) -> list[Tensors]:
    """The worst elements one by one and with all their equals, then all wrong elements with and without their signs.

    A maximum has a kink at every one of its equals, and a slope where all of them move together.
    """
    directions: list[Tensors] = []
    for found in wrong:
        assert found.expected is not None
        number = case.primals.labels.index(found.label)
        got = torch.zeros_like(found.expected) if found.got is None else found.got.to(found.expected.dtype)
        error = torch.nan_to_num(got - found.expected)
        excess = error.abs() / found.bound
        for flat in torch.topk(excess.reshape(-1), min(_SUSPECTS, excess.numel())).indices.tolist():
            one = torch.zeros_like(error).reshape(-1)
            one[flat] = 1.0
            directions.append(in_leaf(case, number, one.reshape(error.shape)))
            x = case.primals.leaves[number].reshape(-1)
            if int((equals := x == x[flat]).sum()) > 1:
                directions.append(in_leaf(case, number, equals.to(error.dtype).reshape(error.shape)))
        mask = (excess > 1).to(error.dtype)
        directions += [in_leaf(case, number, mask), in_leaf(case, number, mask * torch.sgn(error))]
    return directions


def _recurs_elementwise(setting: Setting, oracle: Autograd, case: Case) -> bool:
    times = 0
    for number in _NUDGES:
        try:
            there, gradients = moved(setting, case, nudged(case, number))
            estimate = oracle.gradients(there)
        except OracleUnavailable:
            continue
        compared = compare_all(case.primals.labels, gradients, estimate.gradients)
        noise = oracle.conditioning(there, estimate)
        bounds = [_CONDITIONING_MARGIN * n + b for n, b in zip(noise, estimate.bounds, strict=True)]
        times += any(rule(c, b, setting.tolerance).excess > 1 for c, b in zip(compared, bounds, strict=True))
    return times >= _RECURS


# --- a gradient against finite differences alone ----------------------------------------------------------------------


def confirm(
    setting: Setting, case: Case, gradients: Gradients, line: Along, own: GradientEstimate | None
) -> Observation:
    """A mismatch along a smooth line fails if it recurs beside the point, or if the derivative is linear at it."""
    assert setting.differences is not None
    assert line.ruling is not None
    if nonfinite.any_nonfinite(gradients) and nonfinite.is_excusable(setting, case, gradients):
        return Observation(verdict=Verdict.UNDECIDED, reason=nonfinite.REASON)
    if line.ruling.difference <= line.ruling.tolerance + _roundoff_along(setting, case, line.tangent):
        if own is not None and setting.own is not None:
            return arbitrate(setting, setting.own, case, gradients, own)
        return Observation(verdict=Verdict.UNDECIDED, reason=_OWN_ROUNDOFF)
    real = _recurs_along(setting, setting.differences, case, line.tangent)
    if not real:
        try:
            real = setting.differences.is_linear_at(case, line.tangent, partitions(case))
        except OracleUnavailable:
            real = False
    if not real:
        reason = "differs from finite differences at a special point, where no derivative is proved to exist"
        return Observation(verdict=Verdict.UNDECIDED, reason=reason)
    found = explained(setting, case, gradients, own)
    if granularity.is_finer(setting, case, gradients, line, found):
        return Observation(verdict=Verdict.UNDECIDED, reason=granularity.REASON)
    if not found:
        product = inner(gradients, line.tangent)
        detail = f"G·v = {product:.6g}, finite differences along v give {line.value:.6g} ± {line.bound:.1g}"
        excess = line.ruling.difference / line.ruling.tolerance if line.ruling.tolerance else float("inf")
        label = case.primals.labels[_to_be_named(gradients, line.tangent)]
        found = (Discrepancy(label=label, oracle="finite differences", excess=excess, detail=detail),)
    return Observation(verdict=Verdict.FAIL, discrepancies=found)


def _to_be_named(gradients: Gradients, tangent: Tensors) -> int:
    """The leaf to be named where no element is known to be wrong: one that is not finite, else the one moved most."""
    sizes = [float(v.abs().sum()) for v in tangent]
    return max(range(len(tangent)), key=lambda i: (nonfinite.any_nonfinite(gradients[i : i + 1]), sizes[i]))


def _roundoff_along(setting: Setting, case: Case, tangent: Tensors) -> float:
    """How far round-off can move G·v, and the differences along v."""
    total: float = 0.0
    noise = own_roundoff(setting, case, case.cotangents)
    for n, v in zip(noise or (), tangent, strict=False):
        total += ROUNDOFF_MARGIN * float((n.to(torch.float64) * v.abs()).sum())
    noisy = forward_roundoff(setting.subject, case.primals, case.outputs)
    step = coarse_step(setting)
    moves = stirred(setting, case, tangent)
    for i, w in zip(case.differentiable, case.cotangents, strict=True):
        total += (w.abs() * noisy[i] * moves[i]).square().sum().sqrt().item() / step
    return total


def _recurs_along(setting: Setting, differences: FiniteDifference, case: Case, tangent: Tensors) -> bool:
    times = 0
    for number in _NUDGES:
        try:
            there, gradients = moved(setting, case, nudged(case, number))
            line = along(setting, differences, there, gradients, tangent)
        except OracleUnavailable:
            continue
        times += line.ruling is not None and not line.agrees
    return times >= _RECURS


def partitions(case: Case) -> list[Tensors]:
    """Four random partitions of the elements of all leaves into eight blocks, by the ranks of further directions.

    The ranks run through all leaves: one element each in two leaves is two blocks.
    """
    found = []
    for number in _PARTITIONS:
        tangent = case.directions[number]
        ranks = torch.cat([v.abs().reshape(-1) for v in tangent]).argsort().argsort() % _BLOCKS
        parts = torch.split(ranks, [v.numel() for v in tangent])
        found.append(tuple(p.reshape(v.shape) for p, v in zip(parts, tangent, strict=True)))
    return found
