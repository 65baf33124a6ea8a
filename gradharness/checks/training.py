"""Check ``training``: an update written by hand follows torch.optim, step for step.

The subject trains from a drawn start on drawn batches. Every step is compared with what autograd and the user's
optimiser make of the same step from where the subject stands; the first one that departs is explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from gradharness.checks import vjp
from gradharness.checks.base import Check, Setting
from gradharness.checks.training_causes import Cause, Departure, cause_of, evidence
from gradharness.checks.training_judging import afters, allowed, befores, excess, levels, stacked
from gradharness.checks.training_script import departs, lines
from gradharness.errors import BackwardRaised, ForwardRaised, OracleUnavailable, SubjectError
from gradharness.inputs.styles import Style
from gradharness.judge import level_of, passing
from gradharness.model.case import Case
from gradharness.model.subject import Primals, Tensors
from gradharness.model.training import Course, Happening, Incident, Moment, Twin
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.oracles.training import Tutor, updated
from gradharness.subjects.training_steps import Training, training_of

_SHOWN = 4  # steps from the first that departs on, which a cause has to explain
_SHORT = 16  # steps that a second object trains at most
_NUDGE = 1e-7  # of a parameter, beside which a gradient that is smooth stays what it is
_JUMP = 1e-3
_NONE = "it has no update of its own: see manual(optimizer=…) and training(…)"
_AT_REST = "no step moves any parameter"
_AHEAD = "the loop reads its batches ahead of its steps: take one batch, make one step, and only then take the next"
_COARSE = "the updates are too small beside the weights: an error below {:.1e} of an update would be lost in round-off"

_FAULTS = {
    Happening.SHARED: Fault.SHARED_STATE,
    Happening.RESHAPED: Fault.RESHAPED_WEIGHT,
    Happening.LEFT_BEHIND: Fault.REPLACED_WEIGHT,
    Happening.UNREGISTERED: Fault.REPLACED_WEIGHT,
    Happening.REPLACED: Fault.REPLACED_WEIGHT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One training, and what is needed to judge it."""

    setting: Setting
    case: Case
    training: Training
    points: Sequence[Primals]
    course: Course
    tutor: Tutor | None


def examine(setting: Setting, case: Case) -> Observation:
    """Trains, compares every step, and explains the first that departs."""
    training = training_of(setting.subject)
    assert training is not None
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    run = _run(setting, case, training)
    course = run.course
    warnings = tuple(_told(run, i) for i in course.incidents if i.kind is Happening.REPLACED)
    serious = [i for i in course.incidents if i.kind is not Happening.REPLACED]
    for kind in (Happening.SHARED, Happening.RESHAPED):
        first = [i for i in serious if i.kind is kind]
        if first:
            return Observation(verdict=Verdict.FAIL, discrepancies=(_told(run, first[0]),))
    again = _second_object(run)
    if again is not None:
        return Observation(verdict=Verdict.FAIL, discrepancies=(again,))
    if not course.moments and course.raised is not None:
        raise course.raised
    if _ahead(course):
        return Observation(verdict=Verdict.UNDECIDED, reason=_AHEAD)
    judged = _judged(run)
    if judged.verdict is not Verdict.FAIL and serious:
        return Observation(verdict=Verdict.FAIL, discrepancies=(_told(run, serious[0]),))
    if judged.verdict is Verdict.PASS and isinstance(course.raised, BackwardRaised):
        raise course.raised
    return replace(judged, warnings=warnings)


# --- running ---------------------------------------------------------------------------------------------------------


def _run(setting: Setting, case: Case, training: Training) -> _Run:
    """Trains on batches of several sizes; on batches of one size, if the subject does not take others."""
    weights, start = _weights(case, training), _start(case, training)
    for resized in (training.subject.loss is not None, False):
        points = _points(case, training, resized=resized)
        course = training.follow(points, weights, start)
        if course.raised is None:
            break
    tutor = _tutor(setting, case, training)
    return _Run(setting=setting, case=case, training=training, points=points, course=course, tutor=tutor)


def _points(case: Case, training: Training, *, resized: bool) -> list[Primals]:
    """The batches; those of one step are of one size, so that the mean of their means is the mean of all."""
    every = training.subject.accumulate
    count = training.subject.steps * every
    if case.further is None:
        return [case.primals] * count
    keep, further = training.parameters, case.further
    return [further.at(n, keep, sizes=n // every if resized else 0) for n in range(count)]


def _start(case: Case, training: Training) -> Tensors:
    states = len(training.parameters)
    values = case.primals.values[len(case.primals.values) - states :]
    return tuple(v.detach() for v in values if isinstance(v, torch.Tensor))


def _weights(case: Case, training: Training) -> Tensors:
    return () if training.subject.loss is not None else case.cotangents


def _tutor(setting: Setting, case: Case, training: Training) -> Tutor | None:
    """Autograd of the reference, or of the subject's own forward; None if it reaches nothing."""
    start = _start(case, training)
    weights = _weights(case, training)
    reference = setting.reference
    if reference is None:
        tutor = Tutor(training.twin(start), weights)
    else:
        leaves = tuple(value.clone().requires_grad_() for value in start)
        first = len(case.primals.values) - len(leaves)
        paths = tuple((number,) for number in range(first, first + len(leaves)))

        def objective(point: Primals) -> Tensors:
            there = Primals(point.names, point.values, paths)
            return reference.traced(there, leaves) or ()

        tutor = Tutor(Twin(parameters=leaves, objective=objective), weights)
    moment = Moment(points=(case.primals,), before=start, after=start, left=())
    try:
        tutor.at(moment, start)
    except (OracleUnavailable, SubjectError, RuntimeError, TypeError):
        return None
    return tutor


def _second_object(run: _Run) -> Discrepancy | None:
    """Another fresh object, from the same start on the same batches, has to train alike."""
    course, points = run.course, run.points
    if len(points) > _SHORT * run.training.subject.accumulate:  # of a long training, the first steps of two more
        points = points[: _SHORT * run.training.subject.accumulate]
        course = _followed(run, points)
    other = _followed(run, points)
    moments = course.moments
    if not moments or len(other.moments) != len(moments) or not run.training.makes_equals(moments[0].before):
        return None
    first, second = afters(moments), afters(other.moments)
    for label, a, b, before in zip(run.training.parameters, first, second, befores(moments), strict=True):
        if torch.equal(a, b) or float(excess(b, a, allowed(before, a, run.setting.tolerance)).max()) <= 1:
            continue
        detail = (
            f"state is shared: a second fresh object, from the same start on the same batches, trains {label} "
            "otherwise after the first one has trained; something of the first is kept in the class, in a default "
            "argument or in a global"
        )
        return Discrepancy(
            label=label,
            got=b[-1],
            expected=a[-1],
            fault=Fault.SHARED_STATE,
            detail=detail,
            steps=lines(run.training, points, repeat=True),
        )
    return None


def _followed(run: _Run, points: Sequence[Primals]) -> Course:
    return run.training.follow(points, _weights(run.case, run.training), _start(run.case, run.training))


def _ahead(course: Course) -> bool:
    """Whether nothing happened until the very last step."""
    moved = [any(not torch.equal(a, b) for a, b in zip(m.after, m.before, strict=True)) for m in course.moments]
    return len(moved) > 1 and moved[-1] and not any(moved[:-1])


# --- judging ---------------------------------------------------------------------------------------------------------


def _judged(run: _Run) -> Observation:
    moments = list(run.course.moments)
    gradients = _gradients(run, moments)
    if gradients is None:
        return Observation(
            verdict=Verdict.UNDECIDED, reason="autograd does not reach the parameters, and no gradient is on the object"
        )
    moments, gradients = _finite(moments, gradients)
    if not moments:
        return Observation(verdict=Verdict.SKIPPED, reason="the gradient is not finite at the start")
    expected = stacked(updated(moments, gradients, run.training.made_optimizer))
    before, after = befores(moments), afters(moments)
    bounds = [allowed(b, e, run.setting.tolerance) for b, e in zip(before, expected, strict=True)]
    rows = [excess(a, e, t) for a, e, t in zip(after, expected, bounds, strict=True)]
    if all(float(row.max()) <= 1 for row in rows):
        return _passed(run, (before, after, expected), bounds)
    first = min(int((row > 1).nonzero()[0]) for row in rows if bool((row > 1).any()))
    last = min(len(moments), first + _SHOWN)
    return _departs(run, _departure(run, moments[:last], gradients[:last], tuple(e[:last] for e in expected)), first)


def _gradients(run: _Run, moments: Sequence[Moment]) -> list[Tensors] | None:
    """By autograd; without it, those that the object shows, which the check ``vjp`` looks at."""
    if run.tutor is not None:
        return run.tutor.gradients(moments)
    if run.training.subject.loop is not None or any(g is None for m in moments for g in m.left):
        return None
    return [tuple(g for g in m.left if g is not None) for m in moments]


def _finite(moments: list[Moment], gradients: list[Tensors]) -> tuple[list[Moment], list[Tensors]]:
    """As long as all is finite: a training that diverges is right as long as it can be followed."""
    for step, (moment, given) in enumerate(zip(moments, gradients, strict=True)):
        if not all(bool(t.isfinite().all()) for t in (*moment.before, *given)):
            return moments[:step], gradients[:step]
    return moments, gradients


def _passed(run: _Run, steps: tuple[Tensors, Tensors, Tensors], bounds: Sequence[torch.Tensor]) -> Observation:
    moving = [m for m in levels(*steps, bounds) if m.resolution < float("inf")]
    if not moving:
        return Observation(verdict=Verdict.SKIPPED, reason=_AT_REST)
    # A bias before a normalisation moves by round-off alone: nothing is claimed of it beside those that do move.
    seen = [m for m in moving if m.resolution <= run.setting.tolerance.coarsest]
    if not seen:
        return Observation(verdict=Verdict.UNDECIDED, reason=_COARSE.format(min(m.resolution for m in moving)))
    return passing(level_of(seen))


def _departure(run: _Run, moments: list[Moment], gradients: list[Tensors], expected: Tensors) -> Departure:
    before, after = befores(moments), afters(moments)
    wrong = [
        i
        for i, (a, e, b) in enumerate(zip(after, expected, before, strict=True))
        if float(excess(a, e, allowed(b, e, run.setting.tolerance)).max()) > 1
    ]
    tutor = run.tutor or Tutor(Twin(parameters=(), objective=lambda _point: ()))
    return Departure(
        training=run.training,
        tutor=tutor,
        moments=moments,
        gradients=gradients,
        expected=expected,
        wrong=wrong,
        tolerance=run.setting.tolerance,
    )


def _departs(run: _Run, departure: Departure, first: int) -> Observation:
    """What departs beyond what round-off explains, with its cause."""
    moment = departure.moments[first]
    if run.tutor is not None and _at_kink(run.tutor, moment, departure.gradients[first]):
        return Observation(verdict=Verdict.UNDECIDED, reason=f"step {first} starts at a kink: its gradient jumps")
    cause = cause_of(departure)
    # A cause that names other gradients is exact to the last digits of them; what is left may be an optimiser's noise.
    vague = cause is None or cause.fault in (Fault.WRONG_UPDATE, Fault.WRONG_GRADIENT)
    if run.tutor is not None and vague and _is_round_off(run.tutor, departure, first):
        return Observation(verdict=Verdict.UNDECIDED, reason="round-off of the gradient explains the update")
    if run.setting.reference is None and run.tutor is not None and _is_doubtful(departure, cause):
        doubt = _doubted(run, moment)
        if doubt is not None:
            return doubt
    return Observation(verdict=Verdict.FAIL, discrepancies=(_discrepancy(run, departure, first, cause),))


def _at_kink(tutor: Tutor, moment: Moment, gradients: Tensors) -> bool:
    for sign in (1.0, -1.0):
        moved = tutor.at(moment, tuple(x + sign * _NUDGE * _size(x) for x in moment.before))
        for g, h in zip(gradients, moved, strict=True):
            if bool(((g - h).abs() > _JUMP * _size(g)).any()) and _size(g) > 0:
                return True
    return False


def _size(tensor: torch.Tensor) -> float:
    return float(tensor.square().mean().sqrt()) if tensor.numel() else 0.0


def _is_round_off(tutor: Tutor, departure: Departure, first: int) -> bool:
    """Whether the optimiser makes that much of what round-off does to the gradients: Adam divides noise by its size."""
    steps = first + 1
    moments = departure.moments[:steps]
    spreads = [
        tutor.bounds(m, g, measured=number + _SHOWN >= first)
        for number, (m, g) in enumerate(zip(moments, departure.gradients[:steps], strict=True))
    ]
    make = departure.training.made_optimizer
    right = tuple(e[:steps] for e in departure.expected)
    slack = [torch.zeros_like(e) for e in right]
    for sign in (1.0, -1.0):
        rows = zip(departure.gradients[:steps], spreads, strict=True)
        moved = stacked(
            updated(moments, [tuple(g + sign * s for g, s in zip(a, b, strict=True)) for a, b in rows], make)
        )
        for total, value, e in zip(slack, moved, right, strict=True):
            torch.maximum(total, (value - e).abs(), out=total)
    before, after = befores(moments), afters(moments)
    return all(
        float(excess(a, e, allowed(b, e, departure.tolerance) + s).max()) <= 1
        for a, e, b, s in zip(after, right, before, slack, strict=True)
    )


def _is_doubtful(departure: Departure, cause: Cause | None) -> bool:
    """Whether the class's gradient itself is in question, and with it the forward that autograd went through."""
    return departure.training.subject.loop is None and (cause is None or cause.fault is Fault.WRONG_GRADIENT)


def _doubted(run: _Run, moment: Moment) -> Observation | None:
    """Holds the gradient of a fresh object, where the step started, against every oracle; None if it is wrong."""
    first = len(moment.points[0].values) - len(moment.before)
    values = (*moment.points[0].values[:first], *moment.before)
    primals = Primals(run.case.primals.names, values, run.case.primals.active)
    try:
        outputs = run.setting.subject.linearize(primals).outputs
    except ForwardRaised:
        return None
    seen = vjp.examine(run.setting, replace(run.case, primals=primals, outputs=outputs))
    fresh = seen.verdict is Verdict.PASS
    # A fresh object's gradient that is right says nothing for one that has trained.
    return None if seen.verdict is Verdict.FAIL or fresh else seen


# --- telling ---------------------------------------------------------------------------------------------------------


def _discrepancy(run: _Run, departure: Departure, first: int, cause: Cause | None) -> Discrepancy:
    number = departure.wrong[0]
    after, expected = afters(departure.moments), departure.expected
    bound = allowed(befores(departure.moments)[number], expected[number], departure.tolerance)
    for i in departure.wrong:
        there = allowed(befores(departure.moments)[i], expected[i], departure.tolerance)
        if float(excess(after[i], expected[i], there)[first]) > 1:
            number, bound = i, there
            break
    says = cause.says if cause is not None else evidence(departure)
    label, within = departure.training.parameters[number], (first + 1) * bound[first]
    return Discrepancy(
        label=label,
        got=after[number][first],
        expected=expected[number][first],
        bound=bound[first],
        oracle="torch.autograd and torch.optim",
        excess=float(excess(after[number], expected[number], bound)[first]),
        fault=cause.fault if cause is not None else Fault.UNKNOWN,
        detail=f"step {first} is the first that departs: {says}",
        steps=departs(run.training, _used(departure.moments[: first + 1]), label, expected[number][first], within)
        or lines(run.training, _used(departure.moments), rtol=run.setting.tolerance.rtol),
    )


def _used(moments: Sequence[Moment]) -> list[Primals]:
    return [point for moment in moments for point in moment.points]


def _told(run: _Run, incident: Incident) -> Discrepancy:
    shared = incident.kind is Happening.SHARED
    text, other = (incident.text, incident.label) if shared else (f"step {incident.step}: {incident.text}", "")
    steps = lines(run.training, _used(run.course.moments), identity=not shared, bystander=other)
    return Discrepancy(label=incident.label, fault=_FAULTS[incident.kind], detail=text, steps=steps)


def _applies(setting: Setting) -> str | None:
    if training_of(setting.subject) is None:
        return _NONE
    if setting.surrogate:
        return "the gradient is meant to differ from the derivative, and so is the training"
    return None


CHECK = Check(
    name="training",
    proves="An update written by hand, or a training loop, follows autograd and torch.optim, step for step.",
    cannot="Schedules of the learning rate and stopping rules are not looked at; six steps are, unless told otherwise.",
    causes=(
        (
            "the gradients of the last step are still there",
            "call zero_grad() before backward, or assign and do not add",
        ),
        ("a sum stands where the loss takes the mean", "divide by the number of samples, once"),
        ("the update replaces a weight, or changes a copy of it", "change it in place, under torch.no_grad()"),
        ("a tensor in a default argument or in the class is changed in place", "make it in __init__, for each object"),
        ("the optimiser's formula is written out with a slip", "take it from torch's documentation, term by term"),
    ),
    examine=examine,
    applies=_applies,
    styles=(Style.NORMAL, Style.TINY),  # small gradients tell where an optimiser adds its eps
    weight=0.3,
    optional=True,
)
