"""Check ``precision``: the gradient in float32, bfloat16 and float16, against float64 at the same rounded numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from gradharness.checks.arbitration import nudged
from gradharness.checks.base import Check, Setting
from gradharness.checks.converted import carried, converted, is_hand_written
from gradharness.checks.internals import float32_internals
from gradharness.checks.yardstick import Pair, Size, Yardstick, errors_of, first_glance, plain_errors, yardsticks
from gradharness.errors import BackwardRaised, ForwardRaised, OracleUnavailable, SubjectError, first_line
from gradharness.inputs.sizes import SizeRange
from gradharness.inputs.styles import Style
from gradharness.judge import Level, level_of, passing
from gradharness.model.case import Case
from gradharness.model.subject import Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.oracles.autograd import Autograd

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_NUDGE = 2  # number of the case's direction along which the error has to be there as well
_ALIKE = 0.25  # outputs that differ by more of their size are not the same function's
# Between these sizes neither squares nor long sums leave the range of float16.
_NARROW = (2.0**-8, 2.0**11)
_CLAIMED = 0.5  # of the gradient's size: where it vanishes by cancellation nothing is claimed
_LARGEST = 2**18  # output elements
_RANGE = "the values leave float16 no room for squares and sums"
_OTHER = "the forward gives something else in {} than in float64"


def examine(setting: Setting, case: Case) -> Observation:
    """Each low precision that the subject accepts, until one is wrong."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    if sum(y.numel() for y in case.outputs) > _LARGEST:
        return Observation(verdict=Verdict.SKIPPED, reason="too many outputs to run it in every precision")
    if not is_hand_written(setting, case):
        return Observation(
            verdict=Verdict.SKIPPED, reason="no hand-written backward: plain torch is the yardstick itself"
        )
    warnings = float32_internals(setting, case)
    case = _general(setting, case)
    passed: list[Level] = []
    reasons: list[Observation] = []
    for dtype in _DTYPES if setting.dtype is torch.float64 else (setting.dtype,):
        observation = _in(setting, case, case.primals, dtype)
        warnings += observation.warnings
        if observation.verdict is Verdict.FAIL and _recurs(setting, case, dtype):
            return observation
        if observation.verdict is Verdict.PASS:
            passed.append(Level(observation.resolution or 0.0, observation.error or 0.0))
        reasons.append(observation)
    if passed:
        level = level_of(passed)
        return Observation(
            verdict=Verdict.PASS, warnings=warnings, resolution=level.resolution or None, error=level.error or None
        )
    open_ = [o for o in reasons if o.verdict is not Verdict.SKIPPED]
    first = (open_ or reasons)[0]
    verdict = Verdict.UNDECIDED if open_ else Verdict.SKIPPED
    reason = first.reason or "the error in low precision comes and goes from point to point"
    return Observation(verdict=verdict, warnings=warnings, reason=reason)


def error_share(setting: Setting, case: Case, label: str, dtype: torch.dtype) -> tuple[float, float | None] | None:
    """Root mean square of a gradient's error in a low precision, and of plain torch's, as shares of the gradient's.

    None in place of either where it cannot be told, or is not finite.

    Raises:
        SubjectError: If the subject raises in this dtype.
    """
    pair = _pair(setting, _general(setting, case), case.primals, dtype)
    if isinstance(pair, str):
        return None
    number = pair.low.primals.labels.index(label)
    norm = Size.of(pair.truths[0][number]).rms
    own = _errors(pair)[number].rms
    if not (norm > 0 and math.isfinite(own)):
        return None
    plain = [e[number].rms for e in plain_errors(setting, pair) if math.isfinite(e[number].rms)]
    return own / norm, max(plain) / norm if plain else None


def _general(setting: Setting, case: Case) -> Case:
    """The case with general cotangents of one sign, under which long sums are long and do not cancel."""
    if setting.subject.fixed_cotangent:
        return case
    return case.with_cotangents([w if w.is_complex() else w.abs() for w in case.other_cotangents])


def _recurs(setting: Setting, case: Case, dtype: torch.dtype) -> bool:
    return _in(setting, case, nudged(case, _NUDGE), dtype).verdict is Verdict.FAIL


def _in(setting: Setting, case: Case, primals: Primals, dtype: torch.dtype) -> Observation:
    """What comes of one point in one low precision."""
    name = _name(dtype)
    try:
        pair = _pair(setting, case, primals, dtype)
    except ForwardRaised as error:
        return Observation(verdict=Verdict.SKIPPED, reason=f"not in {name}: {first_line(error.original)}")
    except BackwardRaised as error:
        text = f"the forward accepts {name}, and backward raises: {first_line(error.original)}"
        steps = _raising_steps(primals, setting.dtype, dtype)
        found = Discrepancy(label="backward", fault=Fault.BACKWARD_RAISES, detail=text, steps=steps)
        return Observation(verdict=Verdict.SKIPPED, warnings=(found,), reason=text)
    if isinstance(pair, str):
        return Observation(verdict=Verdict.SKIPPED, reason=pair)
    return _judged(setting, pair)


def _pair(setting: Setting, case: Case, primals: Primals, dtype: torch.dtype) -> Pair | str:
    """The case in the low precision and in float64; or why that means nothing."""
    low = converted(primals, setting.dtype, dtype)
    if not all(x.dtype is dtype and bool(x.isfinite().all()) for x in low.leaves):
        return f"the values are none of {_name(dtype)}"
    there = carried(setting.subject, case, low)
    if there is None or not all(bool(y.isfinite().all()) for y in there[0].outputs):
        return _OTHER.format(_name(dtype))
    rounded, got = there
    misshapen = any(g is not None and g.shape != x.shape for g, x in zip(got, low.leaves, strict=True))
    truth = None if misshapen else _truth(setting, rounded, converted(low, dtype, torch.float64))
    if truth is None:
        return "no gradient in float64 to hold it against"
    wide, gradients, judge = truth
    if dtype is torch.float16 and not _in_range(wide, gradients):
        return _RANGE
    pair = Pair(low=rounded, wide=wide, dtype=dtype, got=got, truths=(gradients,), judge=judge)
    return pair if _alike(rounded.outputs, wide.outputs) else _OTHER.format(_name(dtype))


def _truth(setting: Setting, rounded: Case, primals: Primals) -> tuple[Case, Tensors, Autograd] | None:
    """The case in float64, the gradients there, and who gives them: the subject itself, which ``vjp`` has judged.

    The reference does where the subject does not run in float64.
    """
    for oracle in (Autograd("the subject in float64", setting.subject), setting.trusted):
        try:
            there = None if oracle is None else carried(oracle.source, rounded, primals)
        except (SubjectError, OracleUnavailable):
            continue
        if oracle is None or there is None:
            continue
        gradients = [torch.zeros_like(x) if g is None else g for g, x in zip(there[1], primals.leaves, strict=True)]
        if all(g.shape == x.shape and bool(g.isfinite().all()) for g, x in zip(gradients, primals.leaves, strict=True)):
            return there[0], tuple(gradients), oracle
    return None


def _with_reference(setting: Setting, pair: Pair) -> Pair:
    """The pair with the reference's gradients as well: at kinks either may be right."""
    if setting.trusted is None or setting.trusted is pair.judge:
        return pair
    try:
        return replace(pair, truths=(setting.trusted.at(pair.wide, pair.wide.primals), *pair.truths))
    except OracleUnavailable:
        return pair


def _alike(low: Tensors, wide: Tensors) -> bool:
    """Whether two forwards compute one function; where one is random, or takes another branch, they do not."""
    for a, b in zip(low, wide, strict=True):
        if not (b.is_floating_point() and b.numel()):
            continue
        error, size = Size.of(a.to(torch.float64) - b), Size.of(b)
        if not (error.rms <= _ALIKE * size.rms and error.peak <= _ALIKE * size.peak):
            return False
    return True


def _in_range(case: Case, truth: Tensors) -> bool:
    sizes = [Size.of(t) for t in (*case.primals.leaves, *case.outputs, *truth) if t.is_floating_point()]
    return all(s.rms == 0 or (s.rms >= _NARROW[0] and s.peak <= _NARROW[1]) for s in sizes)


def _judged(setting: Setting, pair: Pair) -> Observation:
    """Holds every gradient against plain torch, once the rounding of its terms does not explain its error."""
    glance = [first_glance(pair, number) for number in range(len(pair.got))]
    if all(error.within(allowed) for error, allowed in zip(_errors(pair), glance, strict=True)):
        return _passed(pair, _errors(pair), glance)
    pair = _with_reference(setting, pair)
    best = _errors(pair)
    sticks = yardsticks(setting, pair)
    found = []
    for number, (error, stick) in enumerate(zip(best, sticks, strict=True)):
        if error.within(stick.size):
            continue
        if not math.isfinite(error.peak) and not stick.finite:
            return Observation(verdict=Verdict.UNDECIDED, reason=f"not finite in {_name(pair.dtype)}, as plain torch")
        found.append(_discrepancy(pair, number, error, stick))
    if found:
        found.sort(key=lambda d: -d.excess)
        return Observation(verdict=Verdict.FAIL, discrepancies=tuple(found), at=pair.low)
    return _passed(pair, best, [s.size for s in sticks])


def _errors(pair: Pair) -> list[Size]:
    """The error of each gradient, against whichever truth is nearer."""
    errors = [errors_of(pair.got, truth) for truth in pair.truths]
    return [min(e, key=lambda s: s.peak if math.isfinite(s.peak) else math.inf) for e in zip(*errors, strict=True)]


def _passed(pair: Pair, errors: list[Size], allowed: list[Size]) -> Observation:
    """The largest error, and the smallest that would have been out of budget, relative to the gradient's rms."""
    norms = [Size.of(t).rms for t in pair.truths[0]]
    shares = [(a.rms / n, e.rms / n) for e, a, n in zip(errors, allowed, norms, strict=True) if n > 0]
    return passing(level_of(Level(*share) for share in shares if share[0] < _CLAIMED))


def _discrepancy(pair: Pair, number: int, error: Size, stick: Yardstick) -> Discrepancy:
    label, got, truth = pair.low.primals.labels[number], pair.got[number], pair.truths[0][number]
    name, finite = _name(pair.dtype), math.isfinite(error.peak)
    if not finite:
        detail = f"gradient of {label} is not finite in {name}, where it is in float64 and plain torch's is in {name}"
        steps = (
            f"got = start(arguments, leaves)(cotangents)[{number}]",
            "print('got', got)",
            "sys.exit(int(not bool(got.isfinite().all())))",
        )
        return Discrepancy(label=label, got=got, fault=Fault.NON_FINITE, detail=detail, steps=steps)
    norm = Size.of(truth)
    shares = [(e, a, n) for e, a, n in _norms(error, stick.size, norm) if e > a]
    worst, allowed, size = max(shares, key=lambda s: s[0] / s[1] if s[1] else math.inf)
    usual = "plain torch" if stick.known else "half a unit in every input"
    detail = (
        f"gradient of {label} loses precision in {name}: it is off by {_share(worst, size)} of its size, where "
        f"{usual} is off by {_share(stick.plain.rms, norm.rms)}; in float64 it is right"
    )
    return Discrepancy(
        label=label,
        got=got,
        expected=truth,
        bound=stick.size.peak,
        oracle="the same in float64",
        excess=worst / allowed if allowed else math.inf,
        fault=Fault.PRECISION_LOST,
        detail=detail,
        steps=_steps(number, truth, stick.size),
    )


def _raising_steps(primals: Primals, old: torch.dtype, new: torch.dtype) -> tuple[str, ...]:
    """Runs a backward in another dtype: that it raises is the fault."""
    leaves = [(name, bracket + rest) for name, bracket, rest in (label.partition("[") for label in primals.labels)]
    return (
        "def low(t):",
        f"    return t.detach().to({new}) if isinstance(t, torch.Tensor) and t.dtype is {old} else t",
        "arguments = torch.utils._pytree.tree_map(low, arguments)",
        f"leaves = [{', '.join(f'arguments[{name!r}]{rest}.requires_grad_()' for name, rest in leaves)}]",
        "print('expected: no exception; got:')",
        "start(arguments, leaves)([low(w) for w in cotangents])",
        "sys.exit(print('no exception') or 0)",
    )


def _norms(error: Size, allowed: Size, norm: Size) -> tuple[tuple[float, float, float], ...]:
    return (error.rms, allowed.rms, norm.rms), (error.peak, allowed.peak, norm.peak)


def _share(error: float, size: float) -> str:
    return f"{error / size:.2g}" if size > 0 else "infinitely much"


def _steps(number: int, truth: torch.Tensor, allowed: Size) -> tuple[str, ...]:
    """Both norms of the error against what is allowed."""
    return (
        f"got = start(arguments, leaves)(cotangents)[{number}]",
        f"expected = {_literal_of(truth)}  # in float64, of the same numbers",
        "error = (torch.zeros_like(expected) if got is None else got.to(expected.dtype)) - expected",
        "rms, peak = error.square().mean().sqrt().item(), error.abs().max().item()",
        f"print('root mean square of the error', rms, 'allowed', {allowed.rms!r})",
        f"print('largest error', peak, 'allowed', {allowed.peak!r})",
        f"sys.exit(int(not (rms <= {allowed.rms!r} and peak <= {allowed.peak!r})))",
    )


def _literal_of(t: torch.Tensor) -> str:
    """Source of a float64 tensor."""
    return f"torch.tensor({t.tolist()!r}, dtype=torch.float64)"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _applies(setting: Setting) -> str | None:
    if getattr(setting.subject, "seed", None) is not None:
        return "the subject draws random numbers, other ones in each dtype"
    return None


CHECK = Check(
    name="precision",
    proves="In float32, bfloat16 and float16 the error is a few times that of plain torch at most, in long sums too.",
    cannot="It holds the gradient against the subject's own in float64: what is wrong in both is the business of vjp.",
    causes=(
        (
            "a long sum is accumulated in bfloat16 or float16",
            "accumulate in float32, and round once at the end",
        ),
        (
            "the derivative subtracts two nearly equal numbers",
            "rearrange it, as log1p and expm1 do",
        ),
    ),
    examine=examine,
    applies=_applies,
    sizes=SizeRange.LONG,
    styles=(Style.POSITIVE, Style.OFFSET, Style.NORMAL, Style.LARGE),
    weight=0.16,
    optional=True,
)
