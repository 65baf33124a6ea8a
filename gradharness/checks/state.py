"""Check ``state``: a call's gradient is its own, whatever other calls come between its forward and its backward."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
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
    is_repeatable,
    linearized,
    other_arguments,
    pair_of,
    total,
)
from gradharness.errors import BackwardRaised, SubjectError, first_line
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics import tree
from gradharness.numerics.bits import same_bits
from gradharness.subjects.reverse import attached, vector_jacobian

UNREPEATABLE = "two equal calls, one after the other, give different results: there is nothing to hold others against"


def examine(setting: Setting, case: Case) -> Observation:
    """Calls in every order, twice, in one graph, in another thread and on one object, beside calls on their own."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    first = called(setting, case.primals, case.cotangents)
    if not is_repeatable(setting, first):
        return Observation(verdict=Verdict.UNDECIDED, reason=UNREPEATABLE)
    pair = pair_of(setting, case, first)
    found, warnings = _in_graph(setting, case, first, pair)
    if pair is not None:
        found = found or _interleaved(setting, case, pair) or _overwritten(setting, case, pair)
    found = found or _one_object(setting, case, first)
    verdict = Verdict.FAIL if found else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=tuple(found), warnings=tuple(warnings))


def _told(found: Sequence[Discrepancy], fault: Fault, detail: str, steps: tuple[str, ...]) -> list[Discrepancy]:
    """The discrepancies with their fault, words (``{}`` is the label) and script."""
    return [replace(d, fault=fault, detail=detail.format(d.label), steps=steps) for d in found]


# --- what only a graph can do ----------------------------------------------------------------------------------------


def _in_graph(
    setting: Setting, case: Case, first: Call, pair: Pair | None
) -> tuple[list[Discrepancy], list[Discrepancy]]:
    """(errors, warnings) of a subject that goes through autograd."""
    leaves = attached(copied(case.primals.leaves))
    outputs = setting.subject.traced(case.primals, leaves)
    if not outputs or [y.shape for y in outputs] != [w.shape for w in case.cotangents]:
        return [], []
    found, warnings = _backward_twice(setting, case, first, (outputs, leaves))
    if pair is not None:
        found = found or _twice_in_one_graph(setting, case, pair)
    return found or _other_shape(setting, case, first) or _other_thread(setting, case, first), warnings


def _backward_twice(
    setting: Setting, case: Case, first: Call, graph: tuple[Tensors, Tensors]
) -> tuple[list[Discrepancy], list[Discrepancy]]:
    outputs, leaves = graph
    steps = (
        *helpers(setting.tolerance.rtol),
        "pull = start(arguments, leaves)",
        "expected = kept(pull(cotangents))",
        "pull([2 * w for w in cotangents])",
        "got = pull(cotangents)",
        "sys.exit(int(differ(got, expected)))",
    )
    _retaining(outputs, leaves, case.cotangents)
    try:
        _retaining(outputs, leaves, [2 * w for w in case.cotangents])
        again = _retaining(outputs, leaves, case.cotangents)
    except BackwardRaised as error:
        # It is loud, and may be meant: what was saved is given back early.
        words = f"{type(error.original).__name__}: {first_line(error.original)}"
        detail = f"a second backward of one graph (retain_graph=True) raises {words}"
        return [], [Discrepancy(label="backward", fault=Fault.BACKWARD_RAISES, detail=detail, steps=steps)]
    wrong = differing(setting, case.primals.labels, again, first.gradients, first)
    detail = "a second backward of one graph (retain_graph=True) gives another gradient of {} than the first"
    return _told(wrong, Fault.STALE_STATE, detail, steps), []


def _retaining(outputs: Tensors, leaves: Tensors, cotangents: Sequence[torch.Tensor]) -> Gradients:
    weights = [w.clone() for w in cotangents]
    return copied_gradients(vector_jacobian(outputs, leaves, weights, retain=True))


def _twice_in_one_graph(setting: Setting, case: Case, pair: Pair) -> list[Discrepancy]:
    calls = (pair.first, pair.second)
    leaves = [attached(copied(call.primals.leaves)) for call in calls]
    outputs = [setting.subject.traced(call.primals, x) or () for call, x in zip(calls, leaves, strict=True)]
    weights = [w.clone() for call in calls for w in call.cotangents]
    joined = (*outputs[0], *outputs[1])
    if [y.shape for y in joined] != [w.shape for w in weights]:
        return []
    got = vector_jacobian(joined, (*leaves[0], *leaves[1]), weights)
    expected = (*pair.first.gradients, *pair.second.gradients)
    wrong = differing(setting, case.primals.labels * 2, got, expected, pair.first)
    steps = (
        *helpers(setting.tolerance.rtol),
        *pair.lines,
        "alone = kept([*start(arguments, leaves)(cotangents), *start(others, other_leaves)(other_cotangents)])",
        "outputs, weights = outputs_of(arguments) + outputs_of(others), [*cotangents, *other_cotangents]",
        "got = torch.autograd.grad(outputs, [*leaves, *other_leaves], weights, materialize_grads=True)",
        "sys.exit(int(differ(got, alone)))",
    )
    detail = "used twice in one graph, its gradient of {} is not what each use gives alone"
    return _told(wrong, Fault.STALE_STATE, detail, steps)


def _other_shape(setting: Setting, case: Case, first: Call) -> list[Discrepancy]:
    """A call of a smaller shape in between, where one tensor is all there is, so that no other has to fit it."""
    everything = tree.tensors(case.primals.values)
    if len(everything) != 1 or everything[0].dim() == 0 or everything[0].shape[0] < 2:
        return []
    linearization = linearized(setting, first)
    try:
        smaller = setting.subject.linearize(case.primals.at([case.primals.leaves[0][:-1]]))
        smaller.pullback([torch.ones_like(y) for y in smaller.cotangent_like])
    except SubjectError:
        return []
    got = linearization.pullback(first.cotangents)
    wrong = differing(setting, case.primals.labels, got, first.gradients, first)
    steps = (
        *helpers(setting.tolerance.rtol),
        *other_arguments(case.primals.labels, case.primals.labels, "a.data[:-1]", 1.0),
        "expected = kept(start(arguments, leaves)(cotangents))",
        "pull = start(arguments, leaves)",
        "sum(y.sum() for y in outputs_of(others)).abs().backward()",
        "sys.exit(int(differ(pull(cotangents), expected)))",
    )
    detail = "a call of another shape between forward and backward changes the gradient of {}"
    return _told(wrong, Fault.STALE_STATE, detail, steps)


def _other_thread(setting: Setting, case: Case, first: Call) -> list[Discrepancy]:
    """Forward here, backward there. autograd itself does so for every device but the CPU."""
    linearization = linearized(setting, first)
    got = _elsewhere(lambda: linearization.pullback(first.cotangents))
    steps = (
        *helpers(setting.tolerance.rtol),
        "import threading",
        "expected = kept(start(arguments, leaves)(cotangents))",
        "pull, got = start(arguments, leaves), []",
        "thread = threading.Thread(target=lambda: got.extend(pull(cotangents)))",
        "thread.start(); thread.join()",
        "sys.exit(int(not got or differ(got, expected)))",
    )
    if isinstance(got, SubjectError):
        detail = f"backward in another thread than its forward raises {type(got.original).__name__}: "
        detail += first_line(got.original)
        return [Discrepancy(label="backward", fault=Fault.STALE_STATE, detail=detail, steps=steps)]
    wrong = differing(setting, case.primals.labels, got, first.gradients, first)
    detail = "backward in another thread than its forward gives another gradient of {}"
    return _told(wrong, Fault.STALE_STATE, detail, steps)


def _elsewhere(run: Callable[[], Gradients]) -> Gradients | SubjectError:
    """What a function gives in a thread of its own."""
    result: list[Gradients | SubjectError] = []

    def target() -> None:
        try:
            result.append(run())
        except SubjectError as error:
            result.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return result[0]


# --- two calls, one after the other ----------------------------------------------------------------------------------


def _interleaved(setting: Setting, case: Case, pair: Pair) -> list[Discrepancy]:
    """Both forwards, then both backwards, in both orders."""
    calls = (pair.first, pair.second)
    for order in ((0, 1), (1, 0)):
        pending = [linearized(setting, call) for call in calls]
        for number in order:
            call = calls[number]
            got = pending[number].pullback(call.cotangents)
            wrong = differing(setting, case.primals.labels, got, call.gradients, call)
            if wrong:
                place = "before" if number == 0 else "after"
                detail = f"another call's forward {place} this call's own changes the gradient of {{}}"
                return _told(wrong, Fault.STALE_STATE, detail, _interleaved_steps(setting, pair, order))
    return []


def _interleaved_steps(setting: Setting, pair: Pair, order: tuple[int, int]) -> tuple[str, ...]:
    return (
        *helpers(setting.tolerance.rtol),
        *pair.lines,
        "calls = [(arguments, leaves, cotangents), (others, other_leaves, other_cotangents)]",
        "alone = [kept(start(a, x)(w)) for a, x, w in calls]",
        "pulls = [start(a, x) for a, x, w in calls]",
        f"wrong = [differ(pulls[i](calls[i][2]), alone[i]) for i in {order}]",
        "sys.exit(int(any(wrong)))",
    )


def _overwritten(setting: Setting, case: Case, pair: Pair) -> list[Discrepancy]:
    """Results that are kept, beside what they were before a later call."""
    linearization = linearized(setting, pair.first)
    outputs = linearization.outputs
    gradients = linearization.pullback(pair.first.cotangents)
    before = copied(outputs), copied_gradients(gradients)
    called(setting, pair.second.primals, pair.second.cotangents)
    found = []
    for label, now, then in zip(linearization.labels, outputs, before[0], strict=True):
        if not same_bits(now, then):
            steps = (*helpers(0.0), *pair.lines, *_OUTPUTS_KEPT)
            found.append(_changed(label, now, then, f"a later call overwrites the {label} that an earlier one", steps))
    for label, g, e in zip(case.primals.labels, gradients, before[1], strict=True):
        if g is not None and e is not None and not same_bits(g, e):
            steps = (*helpers(0.0), *pair.lines, *_GRADIENTS_KEPT)
            words = f"a later call overwrites the gradient of {label} that an earlier one"
            found.append(_changed(label, g, e, words, steps))
    return found


_OUTPUTS_KEPT = (
    "first = outputs_of(arguments)",
    "before = kept(first)",
    "start(others, other_leaves)(other_cotangents)",
    "sys.exit(int(differ(first, before)))",
)
_GRADIENTS_KEPT = (
    "first = start(arguments, leaves)(cotangents)",
    "before = kept(first)",
    "start(others, other_leaves)(other_cotangents)",
    "sys.exit(int(differ(first, before)))",
)


def _changed(label: str, now: torch.Tensor, then: torch.Tensor, words: str, steps: tuple[str, ...]) -> Discrepancy:
    detail = f"{words} returned: both lie in the same memory"
    return Discrepancy(label=label, got=now.clone(), expected=then, fault=Fault.OVERWRITTEN, detail=detail, steps=steps)


# --- one object, used twice ------------------------------------------------------------------------------------------


def _one_object(setting: Setting, case: Case, first: Call) -> list[Discrepancy]:
    """Of a class that adds up its gradients over calls: two forwards, then two backwards."""
    session = setting.subject.session(case.primals)
    if session is None:
        return []
    pair = pair_of(setting, case, first, session.fixed)
    if pair is None or not _claims_several_uses(setting, case, pair):
        return []
    expected = total(pair.first.gradients, pair.second.gradients)
    wrong: list[Discrepancy] = []
    for order in ((1, 0), (0, 1)):  # the last forward undone first; or first in, first out
        got = _left(setting, case.primals, pair, order)
        wrong = differing(setting, case.primals.labels, got, expected, pair.first)
        if not wrong:
            return []
    steps = (
        *helpers(setting.tolerance.rtol),
        *pair.lines,
        "calls = [(arguments, leaves, cotangents), (others, other_leaves, other_cotangents)]",
        "alone = [kept(start(a, x)(w)) for a, x, w in calls]",
        "expected = [a + b for a, b in zip(*alone)]",
        "def twice(order):",
        "    pulls = [start(arguments, leaves)]",
        "    pulls.append(start(others, other_leaves, pulls[0].obj))",
        "    return [pulls[i](calls[i][2]) for i in order][-1]",
        "sys.exit(int(all(differ(twice(order), expected) for order in ((1, 0), (0, 1)))))",
    )
    detail = (
        "the object keeps a list of calls and adds up their gradients, but after two forwards and then two backwards "
        "the gradient of {} is not the sum: what forward keeps is overwritten by the next forward"
    )
    return _told(wrong, Fault.STALE_STATE, detail, steps)


def _claims_several_uses(setting: Setting, case: Case, pair: Pair) -> bool:
    """Whether the object keeps a list of its calls, and adds up every gradient, an argument of forward's among them.

    A layer that adds up the gradients of its weights alone does so over batches, one call after the other, and keeps
    what one backward needs. One that adds up all may do so within one backward, for a tensor that it uses twice.
    """
    session = setting.subject.session(case.primals)
    assert session is not None
    if not session.lists_calls(case.primals):
        return False
    left: Gradients = ()
    for call in (pair.first, pair.second):
        left = copied_gradients(session.linearize(call.primals).pullback(call.cotangents))
    sums = total(pair.first.gradients, pair.second.gradients)
    claimed = [i for i, g in enumerate(pair.second.gradients) if g is not None]
    if not any(i not in session.fixed for i in claimed):
        return False
    names = [case.primals.labels[i] for i in claimed]
    parts = ([g[i] for i in claimed] for g in (left, sums, pair.second.gradients))
    got, added, last = parts
    accumulates = not differing(setting, names, got, added, pair.first)
    assigns = any(not differing(setting, [n], [g], [b], pair.first) for n, g, b in zip(names, got, last, strict=True))
    return accumulates and not assigns


def _left(setting: Setting, primals: Primals, pair: Pair, order: tuple[int, int]) -> Gradients:
    """What one object holds after both forwards, and both backwards in an order."""
    session = setting.subject.session(primals)
    assert session is not None
    calls = (pair.first, pair.second)
    pending = [session.linearize(call.primals) for call in calls]
    left: Gradients = ()
    for number in order:
        left = copied_gradients(pending[number].pullback(calls[number].cotangents))
    return left


CHECK = Check(
    name="state",
    proves="A gradient is that of its own call: backward twice, calls interleaved, results kept, another thread.",
    cannot="Races between threads are not found; an object that keeps no list of calls is used once only.",
    causes=(
        (
            "something of the call is kept on the class, the module or a global",
            "keep it on ctx, or on the object of this one call",
        ),
        (
            "a static buffer is filled and returned",
            "return a fresh tensor, or a copy",
        ),
    ),
    examine=examine,
    weight=0.2,
)
