"""Check ``mask``: a gradient does not depend on which other gradients are asked for, or on which outputs are used.

Every subset of inputs that require grad is held against all of them, and every subset of outputs that get a cotangent
against cotangents of zeros for the others. The subject is its own oracle: no kink is in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from gradharness.checks.arbitration import nudged
from gradharness.checks.base import Check, Setting
from gradharness.checks.explanation import is_right
from gradharness.checks.roundoff import MARGIN, own_roundoff
from gradharness.checks.steps import compared, expecting
from gradharness.checks.subsets import Subset, proper_subsets
from gradharness.checks.waste import wasted
from gradharness.comparison import compare
from gradharness.errors import SubjectError, first_line, is_refusal
from gradharness.judge import Level, discrepancy, passing, rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Linearization, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics.layout import copied
from gradharness.subjects.reverse import attached, vector_jacobian

_ALL = "the subject's own gradient when every input requires one"
_ZEROS = "the subject's own gradient for cotangents of zeros"
_NOTHING = "there is one input and one output: nothing can be left out"
_NO_GRAPH = "autograd has no part in it: nothing requires grad, and every output has its cotangent"
_ALL_ZERO = "every gradient is zero here"
_SPECIAL = "what depends on the inputs that require grad may be noise, or a choice at this point"
_NUDGES = (2, 3)  # numbers of the case's directions that serve as displacements


@dataclass(slots=True)
class _Seen:
    """What the subsets of one case have shown so far."""

    found: tuple[Discrepancy, ...] = ()
    warnings: list[Discrepancy] = field(default_factory=list)
    at: Case | None = None
    special: int = 0
    level: Level = field(default_factory=Level)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two ways to the same gradients.

    Attributes:
        got: Of a subset.
        expected: Of everything, or for zeros; None where there is none.
        labels: Of the gradients.
        oracle: How reports call what is expected.
    """

    got: Gradients
    expected: Gradients
    labels: tuple[str, ...]
    oracle: str


def examine(setting: Setting, case: Case) -> Observation:
    """Every subset of inputs, then every subset of outputs; the first that differs is told."""
    reason = _vacuous(setting, case)
    if reason:
        return Observation(verdict=Verdict.SKIPPED, reason=reason)
    everything = _everything(setting, case)
    if not any(g is not None and bool(g.any()) for g in everything):
        return Observation(verdict=Verdict.SKIPPED, reason=_ALL_ZERO)
    seen = _Seen()
    for subset in proper_subsets(len(case.primals.leaves), case):
        if not seen.found:
            _of_inputs(setting, case, subset, everything, seen)
    for subset in proper_subsets(len(case.cotangents), case):
        if not seen.found:
            _of_outputs(setting, case, subset, seen)
    if seen.found:
        return Observation(verdict=Verdict.FAIL, discrepancies=seen.found, at=seen.at)
    warnings = tuple(seen.warnings)
    if seen.special:
        return Observation(verdict=Verdict.UNDECIDED, reason=_SPECIAL, warnings=warnings, at=seen.at)
    return passing(seen.level, warnings=warnings, at=seen.at)


def _vacuous(setting: Setting, case: Case) -> str:
    """Why there is nothing to look at; empty if there is."""
    if case.empty:
        return "no element to be wrong"
    if len(case.primals.leaves) == 1 and len(case.cotangents) == 1:
        return _NOTHING
    leaves = attached(copied(case.primals.leaves))
    return _NO_GRAPH if setting.subject.traced(case.primals, leaves) is None else ""


def _everything(setting: Setting, case: Case) -> Gradients:
    return setting.subject.linearize(case.primals).pullback(case.cotangents)


# --- inputs ---------------------------------------------------------------------------------------------------------


def _of_inputs(setting: Setting, case: Case, subset: Subset, everything: Gradients, seen: _Seen) -> None:
    """Adds what shows when only these inputs require grad."""
    there = _asking(case, subset)
    try:
        linearization, there = _linearized(setting, case, there)
        gradients = linearization.pullback(there.cotangents) if there.cotangents else (None,) * len(subset)
    except SubjectError as error:
        _raised(error, _only(there), (), seen, there)
        return
    if not set(linearization.differentiable) <= set(case.differentiable):
        return
    pair = _Pair(gradients, tuple(everything[i] for i in subset), there.primals.labels, _ALL)
    wrong, level = _wrong(setting, there, pair)
    seen.level = seen.level.worse(level)
    if wrong and there.cotangents:
        wrong = _confirmed(setting, case, subset, (there, pair), seen)
    if wrong:
        seen.found, seen.at = tuple(_told_of_inputs(setting, there, d) for d in wrong), there
    elif subset == _asked(case) and there.cotangents and seen.at is None:
        seen.warnings += wasted(setting, case, there)
        seen.at = there if seen.warnings else None


def _asked(case: Case) -> Subset:
    """The only input that requires grad where wasted work is looked at: a witness shows one subset."""
    seed = case.recipe.get("seed", 0)
    return ((seed if isinstance(seed, int) else 0) % len(case.primals.leaves),)


def _only(there: Case) -> str:
    labels = there.primals.labels
    return f"only {_named(labels)} {'requires' if len(labels) == 1 else 'require'} a gradient"


def _asking(case: Case, subset: Subset) -> Case:
    """The case with fewer leaves; the other tensors are plain copies."""
    primals = case.primals.at(copied(case.primals.leaves))
    return replace(case, primals=replace(primals, active=tuple(primals.active[i] for i in subset)))


def _linearized(setting: Setting, case: Case, there: Case) -> tuple[Linearization, Case]:
    """The subject there, and the case with the cotangents of those outputs that are connected to its leaves."""
    linearization = setting.subject.linearize(there.primals)
    weights = dict(zip(case.differentiable, case.cotangents, strict=True))
    connected = tuple(i for i in linearization.differentiable if i in weights)
    others = dict(zip(case.differentiable, case.other_cotangents, strict=True))
    return linearization, replace(
        there,
        outputs=linearization.outputs,
        differentiable=connected,
        cotangents=tuple(weights[i] for i in connected),
        other_cotangents=tuple(others[i] for i in connected),
        directions=_Fewer(case.directions, there, case),
    )


class _Fewer(Sequence[Tensors]):
    """The directions of some of the leaves, made when asked for."""

    def __init__(self, directions: Sequence[Tensors], there: Case, case: Case) -> None:
        self._directions = directions
        self._numbers = [case.primals.active.index(path) for path in there.primals.active]

    def __len__(self) -> int:
        return len(self._directions)

    def __getitem__(self, item: int) -> Tensors:  # type: ignore[override]
        return tuple(self._directions[item][i] for i in self._numbers)


def _confirmed(
    setting: Setting, case: Case, subset: Subset, looked: tuple[Case, _Pair], seen: _Seen
) -> list[Discrepancy]:
    """What is wrong beyond round-off, and beside the point as well."""
    wrong = _beyond_noise(setting, *looked, seen)
    if not wrong:
        return []
    tried = 0
    for number in _NUDGES:
        near = replace(case, primals=nudged(case, number))
        try:
            everything = _everything(setting, near)
            linearization, there = _linearized(setting, near, _asking(near, subset))
            got = linearization.pullback(there.cotangents)
        except SubjectError:
            continue
        tried += 1
        pair = _Pair(got, tuple(everything[i] for i in subset), there.primals.labels, _ALL)
        if _wrong(setting, there, pair)[0]:
            return wrong
    seen.special += bool(tried)
    return [] if tried else wrong


def _told_of_inputs(setting: Setting, there: Case, found: Discrepancy) -> Discrepancy:
    when, label = f"when {_only(there)}", found.label
    right = "right when all inputs do"
    if not there.cotangents:
        detail = f"no output is connected to `{label}` {when}; {right}"
        return replace(found, fault=Fault.DISCONNECTED, detail=detail)
    if found.got is None:
        detail = f"no gradient comes for `{label}` (None) {when}; {right}"
        return replace(found, fault=Fault.MISSING_GRADIENT, detail=detail)
    if found.expected is not None and is_right(setting, there, label, found.expected) is False:
        right = "another one comes when all inputs do"
    detail = f"the gradient of `{label}` is wrong {when}; {right}"
    return replace(found, fault=Fault.WRONG_SUBSET, detail=detail)


# --- outputs --------------------------------------------------------------------------------------------------------


def _of_outputs(setting: Setting, case: Case, subset: Subset, seen: _Seen) -> None:
    """Adds what shows when only these outputs get a cotangent."""
    zeros = case.with_cotangents(
        [w if i in subset else torch.zeros_like(w) for i, w in enumerate(case.cotangents)],
    )
    expected = _everything(setting, zeros)
    labels = tuple(case.output_labels[case.differentiable[i]] for i in subset)
    when = f"only {_named(labels)} {'gets a cotangent' if len(labels) == 1 else 'get cotangents'}"
    try:
        got = _alone(setting, case, subset)
    except SubjectError as error:
        steps = (*_alone_steps(subset), "print(got)", "sys.exit(0)")
        _raised(error, f"{when} (of the others comes None, or nothing)", steps, seen, case)
        return
    if got is None:
        return
    pair = _Pair(got, expected, case.primals.labels, _ZEROS)
    wrong, level = _wrong(setting, zeros, pair)
    seen.level = seen.level.worse(level)
    if wrong:
        wrong = _beyond_noise(setting, zeros, pair, seen)
    if wrong:
        seen.found, seen.at = tuple(_told_of_outputs(case, subset, when, d) for d in wrong), case


def _alone(setting: Setting, case: Case, subset: Subset) -> Gradients | None:
    """The gradients of these outputs; None if the subject has other outputs with a graph now."""
    leaves = attached(copied(case.primals.leaves))
    outputs = setting.subject.traced(case.primals, leaves)
    if outputs is None or len(outputs) != len(case.cotangents):
        return None
    chosen = [case.cotangents[i] for i in subset]
    return vector_jacobian([outputs[i] for i in subset], leaves, copied(chosen))


def _told_of_outputs(case: Case, subset: Subset, when: str, found: Discrepancy) -> Discrepancy:
    what = "no gradient comes" if found.got is None else "the gradient is wrong"
    detail = f"{what} for `{found.label}` when {when}; cotangents of zeros for the others give another"
    number = case.primals.labels.index(found.label)
    steps: tuple[str, ...] = ()
    if found.expected is not None:
        told = expecting(found.expected, found.bound)
        steps = (*_alone_steps(subset), f"got = got[{number}]", *told, *compared())
    return replace(found, fault=Fault.WRONG_SUBSET, detail=detail, steps=steps)


def _alone_steps(subset: Subset) -> tuple[str, ...]:
    return (
        f"outputs, weights = zip(*[(outputs_of(arguments)[i], cotangents[i]) for i in {list(subset)}])",
        "got = torch.autograd.grad(outputs, leaves, weights, materialize_grads=True)",
    )


# --- both -----------------------------------------------------------------------------------------------------------


def _wrong(setting: Setting, case: Case, pair: _Pair, noise: Tensors | None = None) -> tuple[list[Discrepancy], Level]:
    """What differs, and what would have been seen."""
    found, level = [], Level()
    for number, (label, got, expected) in enumerate(zip(pair.labels, pair.got, pair.expected, strict=True)):
        if got is None and expected is None:
            continue
        like = torch.zeros_like(case.primals.leaves[number]) if expected is None else expected
        one = compare(label, got, like)
        ruling = rule(one, MARGIN * noise[number] if noise is not None else 0.0, setting.tolerance)
        level = level.worse(ruling)
        if ruling.excess > 1:
            found.append(discrepancy(one, ruling, pair.oracle))
    return found, level


def _beyond_noise(setting: Setting, case: Case, pair: _Pair, seen: _Seen) -> list[Discrepancy]:
    """What is wrong beyond measured round-off; nothing if two equal calls differ."""
    noise = own_roundoff(setting, case, case.cotangents)
    if noise is None:
        seen.special += 1
        return []
    return _wrong(setting, case, pair, noise)[0]


def _raised(error: SubjectError, when: str, steps: tuple[str, ...], seen: _Seen, at: Case) -> None:
    """An exception that does not come when everything is asked for."""
    refused = is_refusal(error.original)
    told = f"{type(error.original).__name__}: {first_line(error.original)}"
    fault = Fault.BACKWARD_RAISES if error.phase == "backward" else Fault.FORWARD_RAISES
    detail = f"{error.phase} {'refuses' if refused else 'raises'} when {when}: {told}"
    found = Discrepancy(label=error.phase, fault=fault, detail=detail, steps=steps)
    if refused:
        seen.warnings.append(found)
        seen.at = seen.at or at
    else:
        seen.found, seen.at = (found,), at


def _named(labels: Sequence[str]) -> str:
    quoted = [f"`{label}`" for label in labels]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]]))


CHECK = Check(
    name="mask",
    proves="Gradients are the same whichever inputs require grad, and whichever outputs are used.",
    cannot="Beyond three inputs or outputs it samples the subsets; wasted work counts elements, and no time.",
    causes=(
        (
            "one branch for 'x needs a gradient' also decides about w",
            "ask ctx.needs_input_grad for each input on its own",
        ),
        (
            "set_materialize_grads(False) without a branch for None",
            "treat a cotangent of None as zero",
        ),
    ),
    examine=examine,
    weight=0.2,
    optional=True,
)
