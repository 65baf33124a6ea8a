"""Why an update departs: each cause has to explain every parameter that departs, in every step that is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gradharness.checks import training_rules as rules
from gradharness.checks.training_judging import afters, allowed, befores, excess, stacked
from gradharness.model.subject import Tensors
from gradharness.model.training import Moment
from gradharness.model.verdict import Fault
from gradharness.numerics.tolerance import Tolerance
from gradharness.oracles.training import Tutor, groups_of, updated
from gradharness.subjects.training_steps import Training

_MOST_PARAMETERS = 8  # for which the order of the updates is tried
_HALF = 0.5
_ACCUMULATED = "the number of accumulated batches"


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong, in words."""

    fault: Fault
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A course that departs, up to a few steps beyond the first one that does.

    Attributes:
        training: Whose.
        tutor: Gives gradients elsewhere.
        moments: The steps.
        gradients: Right ones, one tuple for each step.
        expected: Parameters after every step, stacked.
        wrong: Numbers of the parameters that depart.
        tolerance: Of the comparison.
    """

    training: Training
    tutor: Tutor
    moments: Sequence[Moment]
    gradients: Sequence[Tensors]
    expected: Tensors
    wrong: Sequence[int]
    tolerance: Tolerance

    @property
    def names(self) -> str:
        """The parameters that depart."""
        labels = [self.training.parameters[i] for i in self.wrong]
        return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)

    def explained(self, predicted: Sequence[torch.Tensor | None]) -> bool:
        """Whether values predicted for every step (one stack for each parameter) are what was seen."""
        before, after = befores(self.moments), afters(self.moments)
        for i in self.wrong:
            value = predicted[i]
            if value is None:
                return False
            bound = allowed(before[i], value, self.tolerance)
            if float(excess(after[i], value, bound).max()) > 1:
                return False
        return True

    def by_gradients(self, gradients: Sequence[Tensors]) -> bool:
        """Whether other gradients explain it, through the right optimiser."""
        return self.explained(stacked(updated(self.moments, gradients, self.training.made_optimizer)))

    def by_rate(self, factor: float) -> bool:
        """Whether another learning rate explains it."""
        after = updated(self.moments, self.gradients, self.training.made_optimizer, factor=factor)
        return self.explained(stacked(after))


def cause_of(departure: Departure) -> Cause | None:
    """The first cause that explains everything; None if none does."""
    for find in _FINDERS:
        found = find(departure)
        if found is not None:
            return found
    return None


def _lost(departure: Departure) -> Cause | None:
    if not departure.explained(befores(departure.moments)):
        return None
    return Cause(
        Fault.LOST_UPDATE,
        f"the update of {departure.names} is lost: the values are what they were, in every step (a copy was updated, "
        "the gradients were cleared before the step, or the optimiser holds other tensors)",
    )


# --- gradients that the class shows ----------------------------------------------------------------------------------


def _of_gradient_left(departure: Departure) -> Cause | None:
    """Of a class: the gradients on the object are wrong, and the update does what it should with them."""
    left = [m.left for m in departure.moments]
    if any(g is None for gradients in left for g in (gradients[i] for i in departure.wrong)):
        return None
    given = [
        tuple(g if g is not None else t for g, t in zip(mine, true, strict=True))
        for mine, true in zip(left, departure.gradients, strict=True)
    ]
    if any(
        g.shape != t.shape
        for mine, true in zip(given, departure.gradients, strict=True)
        for g, t in zip(mine, true, strict=True)
    ):
        return None
    if departure.training.subject.loop is not None or not departure.by_gradients(given):
        return None
    if not _differ(departure, given):
        return None
    for find in (_stale, _of_size, _of_order, _late):
        found = find(departure)
        if found is not None:
            return found
    factor = _ratio(stacked(given), stacked(departure.gradients), departure.wrong)
    scaled = [tuple(factor * t for t in true) for true in departure.gradients]
    exact = departure.by_gradients(scaled)
    says = (
        f"is {_times(factor)} the right one{_or_size(departure, factor)}"
        if exact
        else f"is about {factor:.3g} times the right one at best"
    )
    return Cause(
        Fault.WRONG_GRADIENT,
        f"the gradient of {departure.names} that backward leaves is wrong ({says}); the update follows it",
    )


def _differ(departure: Departure, given: Sequence[Tensors]) -> bool:
    for i in departure.wrong:
        mine, true = stacked(given)[i], stacked(departure.gradients)[i]
        zero = torch.zeros_like(true)
        if float(excess(mine, true, allowed(zero, true, departure.tolerance)).max()) > 1:
            return True
    return False


# --- other gradients -------------------------------------------------------------------------------------------------


def _stale(departure: Departure) -> Cause | None:
    total: list[Tensors] = []
    for gradients in departure.gradients:
        total.append(tuple(a + b for a, b in zip(total[-1], gradients, strict=True)) if total else gradients)
    if len(total) < 2 or not departure.by_gradients(total):
        return None
    return Cause(
        Fault.STALE_GRADIENT,
        f"stale gradients are added: the update of {departure.names} is that of the sum of all gradients so far; "
        "zero_grad() is missing, or backward adds to what the last step left",
    )


def _of_size(departure: Departure) -> Cause | None:
    """A sum for a mean, or a mean of a mean: off by a size of the batch that changes from step to step."""
    for name, sizes in _sizes(departure.moments):
        if len(set(sizes)) < 2 and name is not _ACCUMULATED:  # a constant factor could be anything
            continue
        for power, says in (
            (1, f"is {name} times as large: it is summed where the loss takes the mean"),
            (-1, f"is divided by {name} once too often, or by that where the loss does not"),
        ):
            scaled = [tuple(n**power * g for g in row) for n, row in zip(sizes, departure.gradients, strict=True)]
            if departure.by_gradients(scaled):
                return Cause(Fault.WRONG_AVERAGE, f"the averaging is wrong: the gradient of {departure.names} {says}")
    return None


def _sizes(moments: Sequence[Moment]) -> Iterator[tuple[str, list[int]]]:
    """Every number that a mean could be taken over, in every step, with its name."""
    states = len(moments[0].before)
    point = moments[0].points[0]
    for number in range(len(point.values) - states):
        columns = [m.points[0].values[number] for m in moments]
        tensors = [t for t in columns if isinstance(t, torch.Tensor)]
        if len(tensors) < len(columns) or len({t.dim() for t in tensors}) > 1:
            continue
        name = point.names[number]
        for axis in range(tensors[0].dim()):
            yield f"{name}.shape[{axis}]", [t.shape[axis] or 1 for t in tensors]
        yield f"{name}.numel()", [t.numel() or 1 for t in tensors]
    if len(moments[0].points) > 1:
        yield _ACCUMULATED, [len(m.points) for m in moments]


def _of_order(departure: Departure) -> Cause | None:
    """One parameter's gradient is taken after another's update."""
    count = len(departure.moments[0].before)
    if not 1 < count <= _MOST_PARAMETERS:
        return None
    for order in (range(count), range(count - 1, -1, -1)):
        for whole in (True, False):
            late = [_after_others(departure, moment, list(order), whole=whole) for moment in departure.moments]
            if not departure.by_gradients(late):
                continue
            others = [departure.training.parameters[i] for i in order if i not in departure.wrong] or ["the others"]
            return Cause(
                Fault.UPDATE_ORDER,
                f"the order of the updates is wrong: the gradient of {departure.names} is taken after {others[0]} has "
                "been updated; take all gradients first",
            )
    return None


def _after_others(departure: Departure, moment: Moment, order: Sequence[int], *, whole: bool) -> Tensors:
    """Gradients for which forward and backward (``whole``), or backward alone, meet parameters that are updated."""
    values, found = list(moment.before), list(moment.before)
    for i in order:
        now = tuple(values)
        found[i] = departure.tutor.at(moment, now if whole else moment.before, None if whole else now)[i]
        values[i] = moment.after[i]
    return tuple(found)


def _late(departure: Departure) -> Cause | None:
    for first in (tuple(map(torch.zeros_like, departure.gradients[0])), departure.gradients[0]):
        late = [first, *departure.gradients[:-1]]
        if len(late) > 1 and departure.by_gradients(late):
            return Cause(
                Fault.STALE_GRADIENT,
                f"the update of {departure.names} takes the gradient of the step before: it runs before backward",
            )
    return None


# --- the update itself -----------------------------------------------------------------------------------------------


def _of_rate(departure: Departure) -> Cause | None:
    factor = _seen_factor(departure)
    _, groups = groups_of(departure.moments[0].before, departure.training.made_optimizer)
    rates = {float(groups[i].get("lr", 0.0)) for i in departure.wrong}  # type: ignore[arg-type]
    lr = rates.pop() if len(rates) == 1 else 0.0
    named = [
        (-1.0, "the sign of the update is wrong: it climbs the loss"),
        (2.0, "the learning rate is applied twice over: the update is that of 2·lr"),
        (lr, f"the learning rate is squared: the update is that of lr² = {lr * lr:g}"),
        (1 / lr if lr else 0.0, "the learning rate is missing: the update is the gradient itself"),
    ]
    for value, says in named:
        if value and abs(factor - value) <= 1e-3 * abs(value) and departure.by_rate(value):
            return Cause(Fault.WRONG_UPDATE, f"{says} ({departure.names}){_or_size(departure, value)}")
    return None


def _of_factor(departure: Departure) -> Cause | None:
    """A constant factor without a name."""
    factor = _seen_factor(departure)
    if not factor or not departure.by_rate(factor):
        return None
    says = f"the update of {departure.names} is {_times(factor)} the right one{_or_size(departure, factor)}"
    return Cause(Fault.WRONG_UPDATE, says)


def _seen_factor(departure: Departure) -> float:
    before = befores(departure.moments)
    got = tuple(a - b for a, b in zip(afters(departure.moments), before, strict=True))
    return _ratio(got, tuple(e - b for e, b in zip(departure.expected, before, strict=True)), departure.wrong)


def _or_size(departure: Departure, factor: float) -> str:
    """Where a size of the batch that does not change from step to step would explain it as well."""
    for name, sizes in _sizes(departure.moments):
        if len(set(sizes)) == 1 and sizes[0] > 1:
            for value, says in ((sizes[0], "a sum for the mean over it"), (1 / sizes[0], "a mean taken over it twice")):
                if abs(factor - value) < 1e-3 * value:
                    return f"; {factor:.4g} is also {name}, or one over it: perhaps {says}"
    return ""


def _of_rule(departure: Departure) -> Cause | None:
    """A mistake in writing out the optimiser."""
    optimizer, groups = groups_of(departure.moments[0].before, departure.training.made_optimizer)
    found = rules.rule_of(optimizer)
    if found is None or not groups[departure.wrong[0]]:
        return None
    rule, extra = found
    before, gradients = befores(departure.moments), stacked(departure.gradients)
    for variant in rules.variants(rule, {**groups[departure.wrong[0]], **extra}):
        predicted: list[torch.Tensor | None] = [None] * len(before)
        for i in departure.wrong:
            predicted[i] = rule(before[i], gradients[i], {**groups[i], **extra, **variant.options})
        if departure.explained(predicted):
            name = type(optimizer).__name__
            return Cause(Fault.WRONG_UPDATE, f"the update of {departure.names} is not {name}'s: {variant.says}")
    return None


def _changing_rate(departure: Departure) -> Cause | None:
    """The right direction in every step, and a rate that is not constant."""
    before, after = befores(departure.moments), afters(departure.moments)
    if sum(before[i][0].numel() for i in departure.wrong) < 2:
        return None  # one number is always some multiple of another
    factors = []
    for step in range(len(departure.moments)):
        rows = [
            (after[i][step] - before[i][step], departure.expected[i][step] - before[i][step]) for i in departure.wrong
        ]
        factors.append(_fit(rows))
    predicted: list[torch.Tensor | None] = [None] * len(before)
    for i in departure.wrong:
        scale = torch.tensor(factors, dtype=before[i].dtype).to(before[i].device)
        move = departure.expected[i] - before[i]
        predicted[i] = before[i] + scale.reshape(-1, *[1] * (move.dim() - 1)) * move
    if len(factors) < 2 or not departure.explained(predicted):
        return None
    shown = ", ".join(f"{f:.4g}" for f in factors[:4])
    return Cause(
        Fault.WRONG_UPDATE,
        f"the learning rate changes from step to step: the updates of {departure.names} are {shown} … times the right "
        "ones",
    )


# --- numbers ---------------------------------------------------------------------------------------------------------


def evidence(departure: Departure) -> str:
    """How the updates look beside the right ones, where nothing explains them."""
    before = befores(departure.moments)
    got = tuple(a - b for a, b in zip(afters(departure.moments), before, strict=True))
    right = tuple(e - b for e, b in zip(departure.expected, before, strict=True))
    factor = _ratio(got, right, departure.wrong)
    rest = sum(float((got[i] - factor * right[i]).square().sum()) for i in departure.wrong)
    size = sum(float(got[i].square().sum()) for i in departure.wrong)
    share = (rest / size) ** _HALF if size else 0.0
    return (
        f"the update of {departure.names} is wrong in a way that has no name: at best it is {factor:.4g} times the "
        f"right one, which leaves {share:.0%} of it unexplained"
    )


def _ratio(got: Sequence[torch.Tensor], right: Sequence[torch.Tensor], chosen: Sequence[int]) -> float:
    return _fit([(got[i], right[i]) for i in chosen])


def _fit(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The factor that takes the second of each pair nearest to the first."""
    product = sum(float((a * b).sum()) for a, b in pairs)
    square = sum(float((b * b).sum()) for _, b in pairs)
    return product / square if square else 0.0


def _times(factor: float) -> str:
    return "the negative of" if abs(factor + 1) < 1e-6 else f"{factor:.6g} times"


# What has a name comes before what is only a number.
_FINDERS = (
    _lost,
    _of_gradient_left,
    _stale,
    _of_size,
    _of_rate,
    _of_order,
    _late,
    _of_rule,
    _of_factor,
    _changing_rate,
)
