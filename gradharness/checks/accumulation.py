"""Check ``accumulation``: gradients of several uses add up, and nothing of one is left in the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.repeats import (
    Call,
    Pair,
    called,
    copied,
    copied_gradients,
    differing,
    helpers,
    pair_of,
    total,
)
from gradharness.comparison import compare
from gradharness.errors import SubjectError
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Session, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics.bits import same_bits
from gradharness.subjects.calls import call_backward
from gradharness.subjects.reverse import attached, vector_jacobian

_UNREPEATABLE = "equal calls give different gradients, and there is no rule in how"


def examine(setting: Setting, case: Case) -> Observation:
    """Fan-out, ``.backward()`` twice, ``.grad`` apart from the subject's memory; of an object, two rounds and more."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    first = called(setting, case.primals, case.cotangents)
    growing, repeatable = _growing(setting, case, first)
    if growing:
        return Observation(verdict=Verdict.FAIL, discrepancies=tuple(growing))
    if not repeatable:
        return Observation(verdict=Verdict.UNDECIDED, reason=_UNREPEATABLE)
    session = setting.subject.session(case.primals)
    if session is not None:
        found = _rounds(setting, case, first, session)
    else:
        found = _fanned_out(setting, case, first) or _same_twice(setting, case) or _into_grad(setting, case, first)
    return Observation(verdict=Verdict.FAIL if found else Verdict.PASS, discrepancies=tuple(found))


def _told(found: Sequence[Discrepancy], detail: str, steps: tuple[str, ...]) -> list[Discrepancy]:
    """The discrepancies with words (``{}`` is the label) and a script."""
    return [replace(d, fault=Fault.NOT_ACCUMULATED, detail=detail.format(d.label), steps=steps) for d in found]


# --- what earlier calls leave in later ones --------------------------------------------------------------------------


def _growing(setting: Setting, case: Case, first: Call) -> tuple[list[Discrepancy], bool]:
    """What grows by as much with each equal call; and whether equal calls give equal gradients."""
    second, third = (called(setting, case.primals, case.cotangents).gradients for _ in range(2))
    found, repeatable = [], True
    for label, a, b, c in zip(case.primals.labels, first.gradients, second, third, strict=True):
        if a is None or b is None or c is None or same_bits(a, b) or not a.shape == b.shape == c.shape:
            continue
        if rule(compare(label, b, a), 0.0, setting.tolerance).excess <= 1:
            continue
        repeatable = False
        size = setting.tolerance.allowed(c) + setting.tolerance.allowed(b)
        steady = rule(compare(label, c - b, b - a), size, setting.tolerance)
        if steady.excess <= 1 and bool(b.isfinite().all()):
            found.append(_leaks(setting, label, b, a))
    return found, repeatable


def _leaks(setting: Setting, label: str, got: torch.Tensor, expected: torch.Tensor) -> Discrepancy:
    detail = (
        f"the gradient of {label} holds what earlier calls left: it grows by as much with each equal call, though "
        "each is a fresh one (a class attribute or a default argument that is added to)"
    )
    steps = (
        *helpers(setting.tolerance.rtol),
        "first, second = (kept(start(arguments, leaves)(cotangents)) for _ in range(2))",
        "sys.exit(int(differ(second, first)))",
    )
    return Discrepancy(label=label, got=got, expected=expected, fault=Fault.NOT_ACCUMULATED, detail=detail, steps=steps)


# --- through autograd ------------------------------------------------------------------------------------------------


def _fanned_out(setting: Setting, case: Case, first: Call) -> list[Discrepancy]:
    """x·1 beside f(x): the gradient is the sum. Where shapes allow, both branches share one cotangent."""
    leaves = attached(copied(case.primals.leaves))
    # Made first, so that its backward runs last, and meets what the subject's has done to their common cotangent.
    branches = [x * 1 for x in leaves]
    outputs = _traced(setting, case, leaves)
    if not outputs:
        return []
    shared = [i for i, x in enumerate(leaves) if _fits(x, outputs[0])]
    number = shared[0] if shared else 0
    other = case.cotangents[0] if shared else case.directions[0][number]
    branch = branches[number]
    if shared:
        joined = (branch + outputs[0], *outputs[1:])
        weights = [w.clone() for w in case.cotangents]
    else:
        joined = (*outputs, branch)
        weights = [w.clone() for w in (*case.cotangents, other)]
    got = vector_jacobian(joined, leaves, weights)
    added: Gradients = tuple(other if i == number else None for i in range(len(leaves)))
    label = case.primals.labels[number]
    wrong = differing(setting, case.primals.labels, got, total(first.gradients, added), first)
    return _told(
        wrong,
        f"in {label}·1 + f({label}) the gradient of {{}} is not the sum of both branches'",
        (
            *helpers(setting.tolerance.rtol),
            "expected = kept(start(arguments, leaves)(cotangents))",
            f"n, branch = {number}, leaves[{number}] * 1",
            "outputs = outputs_of(arguments)",
            f"shared = {bool(shared)}",
            "v = cotangents[0].clone() if shared else torch.ones_like(branch)",
            "expected[n] = v if expected[n] is None else expected[n] + v",
            "outputs = [branch + outputs[0], *outputs[1:]] if shared else [*outputs, branch]",
            "weights = [*cotangents] if shared else [*cotangents, v]",
            "got = torch.autograd.grad(outputs, leaves, weights, allow_unused=True)",
            "sys.exit(int(differ(got, expected)))",
        ),
    )


def _fits(leaf: torch.Tensor, output: torch.Tensor) -> bool:
    return leaf.shape == output.shape and leaf.dtype == output.dtype


def _traced(setting: Setting, case: Case, leaves: Tensors) -> Tensors:
    """Outputs with their graph; none where the cotangents do not fit them, or autograd has no part."""
    outputs = setting.subject.traced(case.primals, leaves) or ()
    return outputs if [y.shape for y in outputs] == [w.shape for w in case.cotangents] else ()


def _same_twice(setting: Setting, case: Case) -> list[Discrepancy]:
    """One tensor for two arguments: its gradient is the sum of both arguments'."""
    twins = _twins(case)
    if twins is None:
        return []
    i, j = twins
    apart = list(case.primals.leaves)
    apart[j] = apart[i]
    try:
        alone = called(setting, case.primals.at(apart), case.cotangents)
    except (SubjectError, RuntimeError):
        return []  # both arguments equal lies outside of its domain
    leaves = list(attached(copied(apart)))
    leaves[j] = leaves[i]
    outputs = _traced(setting, case, tuple(leaves))
    if not outputs or [y.shape for y in alone.outputs] != [y.shape for y in case.outputs]:
        return []
    got = vector_jacobian(outputs, leaves[i : i + 1], [w.clone() for w in case.cotangents])
    expected = total((alone.gradients[i],), (alone.gradients[j],))
    label = case.primals.labels[i]
    wrong = differing(setting, (label,), got, expected, alone)
    return _told(
        wrong,
        f"passed for {label} and {case.primals.labels[j]} at once, one tensor's gradient is not the sum",
        (
            *helpers(setting.tolerance.rtol),
            f"leaves[{j}].data = leaves[{i}].data.clone()",
            "alone = kept(start(arguments, leaves)(cotangents))",
            f"arguments[{case.primals.labels[j]!r}] = arguments[{label!r}]",
            f"got = start(arguments, [leaves[{i}]])(cotangents)",
            f"sys.exit(int(differ(got, [alone[{i}] + alone[{j}]])))",
        ),
    )


def _twins(case: Case) -> tuple[int, int] | None:
    """Numbers of two arguments that one tensor could stand for."""
    leaves, paths = case.primals.leaves, case.primals.active
    for j in range(len(leaves)):
        for i in range(j):
            if len(paths[i]) == len(paths[j]) == 1 and _fits(leaves[i], leaves[j]):
                return i, j
    return None


def _into_grad(setting: Setting, case: Case, first: Call) -> list[Discrepancy]:
    """``.backward()`` of two calls adds up in ``.grad``; clearing ``.grad`` spoils nothing of the subject's."""
    leaves = attached(copied(case.primals.leaves))
    for _ in range(2):
        outputs = _traced(setting, case, leaves)
        if not outputs:
            return []
        weights = [w.clone() for w in case.cotangents]
        call_backward(torch.autograd.backward, (outputs, weights))
        if not all(same_bits(x.detach(), y) for x, y in zip(leaves, case.primals.leaves, strict=True)):
            return []  # the purity check names who writes into its arguments
    # No name for the gradients: they are as large as a module, and what follows makes others.
    sums = total(first.gradients, first.gradients)
    wrong = differing(setting, case.primals.labels, tuple(x.grad for x in leaves), sums, first)
    del sums
    if wrong:
        detail = "after two calls of backward() the .grad of {} is not the sum of both gradients"
        return _told(wrong, detail, (*helpers(setting.tolerance.rtol), *_TWO_BACKWARDS))
    return list(_cleared(setting, case, first, leaves))


_TWO_BACKWARDS = (
    "alone = kept(start(arguments, leaves)(cotangents))",
    "for _ in range(2):",
    "    outputs = outputs_of(arguments)",
    "    torch.autograd.backward(outputs, [w.clone() for w in cotangents])",
    "got = [x.grad for x in leaves]",
    "sys.exit(int(differ(got, [g if g is None else 2 * g for g in alone])))",
)
_CLEARED = (
    "alone = kept(start(arguments, leaves)(cotangents))",
    "outputs = outputs_of(arguments)",
    "torch.autograd.backward(outputs, [w.clone() for w in cotangents])",
    "before = kept(leaves)",
    "[x.grad.zero_() for x in leaves if x.grad is not None]",
    "after = kept(leaves)",
    "again = start(arguments, leaves)(cotangents)",
    "sys.exit(int(differ(after, before) or differ(again, alone)))",
)


def _cleared(setting: Setting, case: Case, first: Call, leaves: Tensors) -> Iterator[Discrepancy]:
    """After ``zero_grad(set_to_none=False)``: the primals and the subject's gradients are what they were."""
    for leaf in leaves:
        leaf.grad = None
    outputs = _traced(setting, case, leaves)
    call_backward(torch.autograd.backward, (outputs, [w.clone() for w in case.cotangents]))
    held = [None if x.grad is None else x.grad.clone() for x in leaves]
    called(setting, case.primals, tuple(-0.5 * w for w in case.cotangents))
    steps = (*helpers(setting.tolerance.rtol), *_CLEARED)
    for label, leaf, then in zip(case.primals.labels, leaves, held, strict=True):
        if leaf.grad is not None and then is not None and not same_bits(leaf.grad, then):
            yield _aliased(label, f"a later call overwrites the .grad of {label}", _LATER_CALL)
    del held
    before = copied(leaves)
    for leaf in leaves:
        if leaf.grad is not None:
            leaf.grad.zero_()
    for label, leaf, then in zip(case.primals.labels, leaves, before, strict=True):
        if not same_bits(leaf.detach(), then):
            yield _aliased(label, f"clearing the gradients overwrites {label}", steps)
    del before
    again = called(setting, case.primals, case.cotangents).gradients
    for d in differing(setting, case.primals.labels, again, first.gradients, first):
        words = f"after clearing the gradients in place the gradient of {d.label} is another"
        yield _aliased(d.label, words, steps)


_LATER_CALL = (
    *helpers(0.0),
    "outputs = outputs_of(arguments)",
    "torch.autograd.backward(outputs, [w.clone() for w in cotangents])",
    "before = kept([x.grad for x in leaves])",
    "start(arguments, leaves)([-0.5 * w for w in cotangents])",
    "sys.exit(int(differ([x.grad for x in leaves], before)))",
)


def _aliased(label: str, words: str, steps: tuple[str, ...]) -> Discrepancy:
    detail = f"{words}: backward returns memory that it keeps for itself"
    return Discrepancy(label=label, fault=Fault.OVERWRITTEN, detail=detail, steps=steps)


# --- one object of a manual class ------------------------------------------------------------------------------------


def _rounds(setting: Setting, case: Case, first: Call, session: Session) -> list[Discrepancy]:
    """Two rounds of forward and backward on one object leave the second's gradients, or the sum of both."""
    pair = pair_of(setting, case, first, session.fixed)
    if pair is None:
        return []
    for call in (pair.first, pair.second):
        left = copied_gradients(session.linearize(call.primals).pullback(call.cotangents))
    labels = case.primals.labels
    sums = total(pair.first.gradients, pair.second.gradients)
    added: set[int] = set()
    assigned: set[int] = set()
    neither: list[Discrepancy] = []
    for i, label in enumerate(labels):
        one = ((label,), (left[i],))
        wrong = differing(setting, *one, (sums[i],), pair.first)
        stale = differing(setting, *one, (pair.second.gradients[i],), pair.first)
        added |= set() if wrong else {i}
        assigned |= set() if stale else {i}
        neither += stale if wrong and stale else []
    if neither:
        detail = "after two rounds on one object the gradient of {} is neither the second round's nor the sum of both"
        return _told(neither, detail, _round_steps(setting, pair, "differ([g], [b]) and differ([g], [a + b])"))
    return _mixed(setting, case, pair, (added, assigned), session) or _zeroed(setting, case, pair, session)


def _mixed(
    setting: Setting, case: Case, pair: Pair, ways: tuple[set[int], set[int]], session: Session
) -> list[Discrepancy]:
    """Weights of one object, some of which add up and some of which are overwritten."""
    added, assigned = ways
    overwritten = [i for i in session.fixed if i in assigned and i not in added]
    adding = [i for i in session.fixed if i in added and i not in assigned]
    if not overwritten or not adding:
        return []
    label, other = case.primals.labels[overwritten[0]], case.primals.labels[adding[0]]
    detail = f"a second round overwrites the gradient of {label}, while that of {other} adds up"
    i = overwritten[0]
    sums = total(pair.first.gradients, pair.second.gradients)
    steps = _round_steps(setting, pair, f"i == {i} and differ([g], [a + b])")
    return [
        Discrepancy(
            label=label,
            got=pair.second.gradients[i],
            expected=sums[i],
            fault=Fault.NOT_ACCUMULATED,
            detail=detail,
            steps=steps,
        )
    ]


def _round_steps(setting: Setting, pair: Pair, wrong: str) -> tuple[str, ...]:
    return (
        *helpers(setting.tolerance.rtol),
        *pair.lines,
        "calls = [(arguments, leaves, cotangents), (others, other_leaves, other_cotangents)]",
        "alone = [kept(start(a, x)(w)) for a, x, w in calls]",
        "first = start(arguments, leaves)",
        "first(cotangents)",
        "left = start(others, other_leaves, first.obj)(other_cotangents)",
        f"sys.exit(int(any({wrong} for i, (g, a, b) in enumerate(zip(left, *alone)))))",
    )


def _zeroed(setting: Setting, case: Case, pair: Pair, session: Session) -> list[Discrepancy]:
    """After the object's own ``zero_grad()`` a round leaves its own gradients alone."""
    if not session.clear():
        return []
    left = session.linearize(pair.second.primals).pullback(pair.second.cotangents)
    wrong = differing(setting, case.primals.labels, left, pair.second.gradients, pair.second)
    steps = (
        *helpers(setting.tolerance.rtol),
        "expected = kept(start(arguments, leaves)(cotangents))",
        "first = start(arguments, leaves)",
        "first(cotangents)",
        "first.obj.zero_grad()",
        "sys.exit(int(differ(start(arguments, leaves, first.obj)(cotangents), expected)))",
    )
    return _told(wrong, "after zero_grad() the gradient of {} still holds what earlier rounds left", steps)


CHECK = Check(
    name="accumulation",
    proves="Gradients of several uses add up: fan-out, one tensor for two arguments, backward() twice, two rounds.",
    cannot="Of an object it takes either rule, the last round's gradients or the sum, for what is meant.",
    causes=(
        (
            "a gradient is assigned where a shared weight needs the sum",
            "add to what is there, and clear it in zero_grad",
        ),
        (
            "gradients live on the class, or in a mutable default argument",
            "make them in __init__",
        ),
    ),
    examine=examine,
    weight=0.2,
)
