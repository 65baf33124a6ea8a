"""Check ``layout``: the gradient does not depend on where primals and cotangents lie in memory.

Autograd hands transposed, sliced and expanded cotangents to a backward as a matter of course, while a kernel that works
on plain memory takes them for contiguous. Each layout is held against a contiguous copy of the same values, so that no
oracle is needed. Layouts may legally change the order of sums: round-off is measured before anybody is blamed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from gradharness.checks.arbitration import nudged
from gradharness.checks.base import Check, Setting
from gradharness.checks.explanation import is_right
from gradharness.checks.layouts import Variant, contiguous, variants
from gradharness.checks.roundoff import MARGIN, forward_roundoff, own_roundoff
from gradharness.checks.steps import compared, expecting
from gradharness.comparison import Compared, compare
from gradharness.errors import BackwardRaised, ForwardRaised, SubjectError, first_line, is_refusal
from gradharness.judge import Level, discrepancy, passing, rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict

_ORACLE = "the same values in contiguous memory"
_ALL_ZERO = "every gradient is zero here"
_SPECIAL = "what depends on the layout here may be a choice among equals, or noise"
# Round-off of a gradient whose terms cancel, in units of eps times the size of the terms, as in oracles.autograd.
_CANCELLED = 64.0
_NUDGES = (2, 3)  # numbers of the case's directions that serve as displacements
_CLOSE = 1e-6  # of a standard deviation: a gradient that jumps within it makes a choice there
_JUMP = 0.25  # of the difference to be explained
_SEED = 987_654_321
# A kernel's own words for what it does not take; torch's advice about `view` is none of them.
_WORDS = re.compile(r"(must|should|need|expect|require|only|has to|have to|not)\b.*\bcontiguous(?! subspaces)", re.I)
_ONE_PLACE = "a single memory location"  # torch refuses to write in place into expanded memory


@dataclass(frozen=True, slots=True)
class _Ran:
    """What came out at one case: the outputs that take a cotangent, then the gradients (zero for None)."""

    labels: tuple[str, ...]
    values: tuple[torch.Tensor | None, ...]
    outputs: Tensors

    def filled(self, case: Case) -> Tensors:
        """With zeros for missing gradients."""
        like = [*(v for v in self.values[: len(case.cotangents)] if v is not None), *case.primals.leaves]
        return tuple(torch.zeros_like(x) if v is None else v for v, x in zip(self.values, like, strict=True))


@dataclass(slots=True)
class _Seen:
    """What a case has shown so far."""

    found: tuple[Discrepancy, ...] = ()
    raised: tuple[Discrepancy, Case] | None = None
    warnings: list[Discrepancy] = field(default_factory=list)
    at: Case | None = None
    special: int = 0
    level: Level = field(default_factory=Level)


def examine(setting: Setting, case: Case) -> Observation:
    """Every layout beside a contiguous copy; the first that differs is told."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    plain = contiguous(case)
    first = _run(setting, plain)
    sizes = tuple(compare("", None, v).rms for v in first.filled(plain))
    seen = _Seen()
    for variant in variants(case, fixed_cotangent=setting.subject.fixed_cotangent):
        pair = variant.arrange(case)
        if pair is None:
            continue
        try:
            look = _Look(setting, case, variant, *pair, sizes)
            own = _same_values(plain, look.base)
            level = _look(look, first if own else _run(setting, look.base), seen)
            seen.level = seen.level.worse(level if own else Level())
        except SubjectError:
            if variant.own_values:
                raise
            continue  # values that were made equal lie outside of the domain
        if seen.found:
            return Observation(verdict=Verdict.FAIL, discrepancies=seen.found, at=seen.at)
    if seen.raised is not None:  # a silent fault would have told more
        return Observation(verdict=Verdict.FAIL, discrepancies=seen.raised[:1], at=seen.raised[1])
    return _conclusion(seen, sizes[len(case.cotangents) :])


def _conclusion(seen: _Seen, sizes: tuple[float, ...]) -> Observation:
    warnings = tuple(seen.warnings)
    if not any(sizes):
        return Observation(verdict=Verdict.SKIPPED, reason=_ALL_ZERO, warnings=warnings, at=seen.at)
    if seen.special:
        return Observation(verdict=Verdict.UNDECIDED, reason=_SPECIAL, warnings=warnings, at=seen.at)
    return passing(seen.level, warnings=warnings, at=seen.at)


@dataclass(frozen=True, slots=True)
class _Look:
    """One layout of a case: the pair of cases that have to agree.

    Attributes:
        setting: With the subject.
        case: As it was drawn.
        variant: The layout.
        base: Contiguous.
        there: The same values in the layout.
        sizes: Root mean square of each output and gradient at the contiguous case itself.
    """

    setting: Setting
    case: Case
    variant: Variant
    base: Case
    there: Case
    sizes: tuple[float, ...]

    def elsewhere(self, case: Case) -> _Look | None:
        """The same layout of another case."""
        pair = self.variant.arrange(case)
        return None if pair is None else replace(self, base=pair[0], there=pair[1])

    def wrong(self, base: _Ran, there: _Ran, noise: Tensors | None = None) -> tuple[list[Discrepancy], Level]:
        """What differs, and what would have been seen."""
        found, level = [], Level()
        eps = torch.finfo(self.setting.dtype).eps
        for number, one in enumerate(_compared(base, there, self.base)):
            bound: torch.Tensor | float = _CANCELLED * eps * self.sizes[number]
            if noise is not None:
                bound = bound + MARGIN * noise[number]
            ruling = rule(one, bound, self.setting.tolerance)
            level = level.worse(ruling)
            if ruling.excess > 1:
                found.append(discrepancy(one, ruling, _ORACLE))
        return found, level


def _compared(base: _Ran, there: _Ran, case: Case) -> Iterator[Compared]:
    if len(base.values) != len(there.values):
        raise ForwardRaised(ValueError("the layout changes the number of outputs"))
    for label, expected, got in zip(base.labels, base.filled(case), there.values, strict=True):
        yield compare(label, got, expected)


def _look(look: _Look, base: _Ran, seen: _Seen) -> Level:
    """Adds to ``seen`` what one layout shows beside the contiguous run; gives what would have been seen."""
    if not look.variant.own_values and not all(bool(y.isfinite().all()) for y in base.outputs):
        return Level()
    try:
        there = _run(look.setting, look.there)
    except SubjectError as error:
        _raised(look, error, seen)
        return Level()
    wrong, level = look.wrong(base, there)
    confirmed = _confirmed(look, base, there) if wrong else []
    if confirmed is None:
        seen.special += 1
    elif confirmed:
        seen.found = tuple(_told(look, d) for d in confirmed)
        seen.at = look.there
    return level


def _same_values(one: Case, other: Case) -> bool:
    pairs = zip((*one.primals.leaves, *one.cotangents), (*other.primals.leaves, *other.cotangents), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _run(setting: Setting, case: Case) -> _Ran:
    linearization = setting.subject.linearize(case.primals)
    gradients: Gradients = linearization.pullback(case.cotangents)
    labels = tuple(linearization.labels[i] for i in linearization.differentiable)
    outputs = linearization.cotangent_like
    return _Ran((*labels, *case.primals.labels), (*outputs, *gradients), outputs)


# --- what is no fault -----------------------------------------------------------------------------------------------


def _confirmed(look: _Look, base: _Ran, there: _Ran) -> list[Discrepancy] | None:
    """What is wrong beyond round-off and random draws; None if that cannot be told at this point."""
    if _is_drawn(look) or _is_written(look):
        return []
    noise = _noise(look, base)
    if noise is None:
        return None
    wrong, _ = look.wrong(base, there, noise)
    if not wrong:
        return []
    if look.variant.own_values:
        return wrong if _recurs(look) else None
    return _among_equals(look, base, wrong)


def _among_equals(look: _Look, base: _Ran, wrong: list[Discrepancy]) -> list[Discrepancy] | None:
    """What is wrong although values were made equal, which some of torch's own operations do not take either."""
    if any(found.label not in look.base.primals.labels for found in wrong):
        return []  # median's forward; other layouts judge a forward
    if not all(_is_upheld(look, found) for found in wrong):
        return []  # det's backward
    return wrong if _is_smooth(look, base, wrong) and _recurs(look) else None


def _noise(look: _Look, base: _Ran) -> Tensors | None:
    """How far round-off moves outputs and gradients; None if two equal calls differ."""
    case = replace(look.base, outputs=look.setting.subject.outputs(look.base.primals))
    gradients = own_roundoff(look.setting, case, case.cotangents)
    if gradients is None:
        return None
    outputs = forward_roundoff(look.setting.subject, case.primals, case.outputs)
    chosen = [outputs[i] for i in case.differentiable]
    if len(chosen) + len(gradients) != len(base.values):
        return None
    return (*chosen, *gradients)


def _is_drawn(look: _Look) -> bool:
    """Whether random numbers are drawn, whose order follows the memory (``rand_like`` does)."""
    subject, base = look.setting.subject, look.base
    kept = torch.get_rng_state()
    try:
        torch.manual_seed(_SEED)
        before = _random_state(look.setting.device)
        linearization = subject.linearize(base.primals)
        between = _random_state(look.setting.device)
        linearization.pullback(base.cotangents)
        after = _random_state(look.setting.device)
    finally:
        torch.set_rng_state(kept)
    in_forward, in_backward = not torch.equal(before, between), not torch.equal(between, after)
    return in_backward or (in_forward and look.variant.of_primals)


def _random_state(device: str) -> torch.Tensor:
    state = torch.get_rng_state()
    return torch.cat([state, torch.cuda.get_rng_state(device)]) if device.startswith("cuda") else state


def _is_written(look: _Look) -> bool:
    """Whether primals that share memory are written into: the purity check tells that."""
    if look.variant.own_values or not look.variant.of_primals:
        return False
    returns = look.setting.subject.raw_returns(look.base.primals, look.base.cotangents)
    return any(returned.written for returned in returns)


def _is_upheld(look: _Look, found: Discrepancy) -> bool:
    """Whether an oracle that gets this very layout gives what the subject gives for contiguous memory."""
    return found.expected is not None and bool(is_right(look.setting, look.there, found.label, found.expected))


def _recurs(look: _Look) -> bool:
    """Whether the same layout differs beside the point as well, where no two values are equal by chance.

    Values that share memory are equal in every case, and stay special (a singular matrix): they must differ each time.
    """
    differs = []
    for number in _NUDGES:
        near = look.elsewhere(replace(look.case, primals=nudged(look.case, number)))
        if near is None:
            continue
        try:
            wrong, _ = near.wrong(_run(look.setting, near.base), _run(look.setting, near.there))
        except SubjectError:
            continue
        differs.append(bool(wrong))
    return not differs or (any(differs) if look.variant.own_values else all(differs))


def _is_smooth(look: _Look, base: _Ran, wrong: list[Discrepancy]) -> bool:
    """Whether what differs does not jump beside the point: among equal values it may be a choice."""
    for number in _NUDGES:
        for side in (-_CLOSE, _CLOSE):
            case = replace(look.base, primals=nudged(look.base, number, side))
            try:
                near = _run(look.setting, contiguous(case))
            except SubjectError:
                return False
            moved = {one.label: one.difference for one in _compared(base, near, look.base)}
            for found in wrong:
                gap, jump = _gap(found), moved[found.label]
                if jump is None or not float(jump.max()) <= _JUMP * gap:
                    return False
    return True


def _gap(found: Discrepancy) -> float:
    """Largest finite difference; infinite where one is not finite."""
    if found.expected is None:
        return float("inf")
    got = torch.zeros_like(found.expected) if found.got is None else found.got
    if got.shape != found.expected.shape:
        return float("inf")
    return float(torch.nan_to_num((got - found.expected).abs(), nan=torch.inf).max())


# --- what is told ---------------------------------------------------------------------------------------------------


def _told(look: _Look, found: Discrepancy) -> Discrepancy:
    outputs = found.label not in look.base.primals.labels
    what = f"`{found.label}` is computed wrong" if outputs else f"the gradient of `{found.label}` is wrong"
    detail = f"{what} when {look.variant.where}{look.variant.why}; {_otherwise(look, found, outputs=outputs)}"
    shared = look.variant.share(look.there.primals)
    steps = (*shared, *_steps(look, found)) if shared and found.expected is not None else ()
    return replace(found, fault=Fault.LAYOUT, detail=detail, steps=steps)


def _otherwise(look: _Look, found: Discrepancy, *, outputs: bool) -> str:
    """Right for a contiguous copy, as far as an oracle says so."""
    right = "right for a contiguous copy"
    if outputs or found.expected is None:
        return right
    refuted = is_right(look.setting, look.base, found.label, found.expected) is False
    return "a contiguous copy of the same values gives another" if refuted else right


def _steps(look: _Look, found: Discrepancy) -> tuple[str, ...]:
    labels = look.base.primals.labels
    if found.label in labels:
        got = f"got = start(arguments, leaves)(cotangents)[{labels.index(found.label)}]"
    else:
        numbers = [look.base.output_labels[i] for i in look.base.differentiable]
        got = f"got = outputs_of(arguments)[{numbers.index(found.label)}]"
    assert found.expected is not None
    return (got, *expecting(found.expected, found.bound), *compared())


def _raised(look: _Look, error: SubjectError, seen: _Seen) -> None:
    """An exception that a contiguous copy does not raise."""
    text = first_line(error.original)
    forward = isinstance(error, ForwardRaised)
    if forward and _ONE_PLACE in text:
        return  # a forward that works in place cannot take it
    told = f"{type(error.original).__name__}: {text}"
    refused = is_refusal(error.original) or _WORDS.search(text) is not None
    verb = "refuses its inputs" if refused else "raises"
    detail = f"{error.phase} {verb} when {look.variant.where}{look.variant.why}, but not for a contiguous copy: {told}"
    fault = Fault.FORWARD_RAISES if forward else Fault.BACKWARD_RAISES
    found = Discrepancy(
        label=error.phase, fault=fault, detail=detail, steps=_raising_steps(look) if look.variant.of_primals else ()
    )
    if refused or not _is_expected(look, error):
        if not seen.warnings:  # a witness shows one layout
            seen.warnings, seen.at = [found], look.there
    else:
        seen.raised = seen.raised or (found, look.there)


def _raising_steps(look: _Look) -> tuple[str, ...]:
    shared = look.variant.share(look.there.primals)
    return (*shared, "print(start(arguments, leaves)(cotangents))", "sys.exit(0)") if shared else ()


def _is_expected(look: _Look, error: SubjectError) -> bool:
    """Whether the subject had to take it: autograd hands out any cotangent, the reference judges primals."""
    setting = look.setting
    leaves = tuple(x.detach().requires_grad_() for x in look.base.primals.leaves)
    if setting.subject.traced(look.base.primals, leaves) is None:
        return False
    if isinstance(error, BackwardRaised):
        return True
    if setting.reference is None:
        return False
    try:
        setting.reference.outputs(look.there.primals)
    except SubjectError:
        return False
    return True


CHECK = Check(
    name="layout",
    proves="Transposed, sliced, expanded and channels-last primals and cotangents give what contiguous ones do.",
    cannot="What is wrong in every layout passes, and so does a layout that is not tried, such as a negative stride.",
    causes=(
        (
            "a kernel takes grad_output or a saved tensor as contiguous",
            "call .contiguous() on it first, or pass its strides",
        ),
        (
            "backward calls .view(-1) on a cotangent",
            "use .reshape(-1)",
        ),
        (
            "the result is made by empty_like, which keeps strides, and written by its flat index",
            "make it by torch.empty(shape)",
        ),
    ),
    examine=examine,
    weight=0.15,
)
