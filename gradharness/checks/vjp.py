"""Check ``vjp``: the gradient itself, against every oracle there is.

With a reference, its autograd gives every element. Without one, finite differences along two directions decide; where
they also certify autograd of the subject's own forward, that gives every element. A mismatch is never reported as it
stands: ``arbitration`` first rules out round-off, kinks and a wrong oracle.
"""

from __future__ import annotations

from gradharness.checks.arbitration import arbitrate, confirm
from gradharness.checks.base import Check, Setting
from gradharness.checks.lines import COARSE, Along, along, directions_for, level_along, settled
from gradharness.comparison import compare_all
from gradharness.errors import OracleUnavailable
from gradharness.inputs.sizes import SizeRange
from gradharness.judge import Level, level_of, out_of_budget, passing, rule
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate
from gradharness.model.subject import Gradients
from gradharness.model.verdict import Discrepancy, Observation, Verdict
from gradharness.oracles.autograd import Autograd

_ALL_ZERO = "every gradient is zero here"


def examine(setting: Setting, case: Case) -> Observation:
    """Every element of every gradient where an oracle has them, else two directions."""
    gradients = setting.subject.linearize(case.primals).pullback(case.cotangents)
    misshapen = _misshapen(case, gradients)
    if misshapen:
        return Observation(verdict=Verdict.FAIL, discrepancies=misshapen)
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    reason = "no oracle applies: a surrogate gradient needs a reference"
    if setting.trusted is not None:
        try:
            return _beside(setting, setting.trusted, case, gradients, setting.trusted.gradients(case))
        except OracleUnavailable as error:
            reason = str(error)
    if setting.differences is None:
        return Observation(verdict=Verdict.UNDECIDED, reason=reason)
    try:
        return _by_differences(setting, case, gradients)
    except OracleUnavailable as error:
        return Observation(verdict=Verdict.UNDECIDED, reason=str(error))


def _misshapen(case: Case, gradients: Gradients) -> tuple[Discrepancy, ...]:
    """Gradients of another shape than their primals; autograd's own never are."""
    return tuple(
        Discrepancy(label=label, got=g, expected=None, oracle="the primal's shape")
        for label, g, x in zip(case.primals.labels, gradients, case.primals.leaves, strict=True)
        if g is not None and g.shape != x.shape
    )


def _beside(
    setting: Setting, oracle: Autograd, case: Case, gradients: Gradients, estimate: GradientEstimate
) -> Observation:
    """All elements beside an elementwise oracle's."""
    compared = compare_all(case.primals.labels, gradients, estimate.gradients)
    rulings = [rule(c, b, setting.tolerance) for c, b in zip(compared, estimate.bounds, strict=True)]
    wrong = out_of_budget(compared, rulings, estimate.oracle)
    if wrong:
        return arbitrate(setting, oracle, case, gradients, estimate)
    return passed(setting, level_of(rulings))


def passed(setting: Setting, level: Level) -> Observation:
    """A pass, unless it could not have seen anything."""
    resolution = level.resolution
    if resolution == 0.0:
        return Observation(verdict=Verdict.SKIPPED, reason=_ALL_ZERO)
    if resolution > setting.tolerance.coarsest:
        return Observation(verdict=Verdict.UNDECIDED, reason=COARSE.format(resolution))
    return passing(level)


def _by_differences(setting: Setting, case: Case, gradients: Gradients) -> Observation:
    assert setting.differences is not None
    if _is_zero(gradients) and all(setting.differences.is_flat(case, v) for v in case.directions[:2]):
        return Observation(verdict=Verdict.SKIPPED, reason=_ALL_ZERO)
    own = _own_estimate(setting, case)
    looked: list[Along] = []
    for number, directions in enumerate(directions_for(case, gradients)):
        looked += [along(setting, setting.differences, case, gradients, v) for v in directions]
        lines = settled(looked, gradients)
        decided = [line for line in lines if line.ruling is not None]
        clear = len(decided) == len(lines) and all(line.agrees and not line.masked for line in lines)
        # A forward that one direction certifies gives every element, the next direction's product among them.
        if number == 0 and clear and own is not None and setting.own is not None and _certified(own, decided):
            observation = _beside(setting, setting.own, case, gradients, own)
            if observation.verdict is Verdict.PASS:
                return observation
    disagreeing = [line for line in decided if not line.agrees]
    if disagreeing:
        return confirm(setting, case, gradients, disagreeing[0], own if own and _certified(own, decided) else None)
    if len(decided) < len(lines):
        return Observation(verdict=Verdict.UNDECIDED, reason=next(x.reason for x in lines if x.ruling is None))
    if own is not None and setting.own is not None and _certified(own, decided):
        return _beside(setting, setting.own, case, gradients, own)
    return passed(setting, level_along(decided))


def _is_zero(gradients: Gradients) -> bool:
    return all(g is None or not bool(g.any()) for g in gradients)


def _own_estimate(setting: Setting, case: Case) -> GradientEstimate | None:
    if setting.own is None:
        return None
    try:
        return setting.own.gradients(case)
    except OracleUnavailable:
        return None


def _certified(own: GradientEstimate, decided: list[Along]) -> bool:
    """Whether finite differences along every decided direction agree with autograd of the own forward."""
    unmasked = [line for line in decided if not line.masked]
    return bool(unmasked) and all(line.agrees_with(own.gradients) for line in unmasked)


def _applies(setting: Setting) -> str | None:
    if setting.surrogate and setting.reference is None:
        return "a surrogate gradient can be compared with a reference only: give reference="
    return None


_PROVES = "The gradient equals every oracle's: autograd of the reference element by element, finite differences else."

CHECK = Check(
    name="vjp",
    proves=_PROVES,
    cannot="It sees what the drawn values and shapes reach; errors below the stated resolution pass.",
    causes=(
        (
            "a factor, a sign or a term of the derivative is missing",
            "derive the formula again at the witness, which is small enough for pencil and paper",
        ),
        (
            "a reduction in the forward has no counterpart in the backward, or a broadcast none",
            "sum over what was broadcast, expand over what was summed",
        ),
        (
            "forward saves a tensor and then changes it",
            "save it after its last change, or save a copy",
        ),
    ),
    examine=examine,
    applies=_applies,
    weight=2.0,
)

SHAPE = Check(
    name="shape",
    proves="The gradient is right for sizes 0 and 1, for odd sizes, and for sizes just beyond a block.",
    cannot="Sizes above about a thousand are not reached.",
    causes=(
        ("a kernel's last block is cut off, or read beyond its end", "mask the tail by the number of elements"),
        (
            "a size of 0 or 1 takes a branch of its own",
            "let the general code treat it, or test it",
        ),
    ),
    examine=examine,
    applies=_applies,
    sizes=SizeRange.EDGE,
)
