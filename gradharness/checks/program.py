"""Check ``program``: the subject as a node of small programs, whose other ops make its inputs and its cotangents."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.contexts import BEFORE, Context, chain, contexts
from gradharness.checks.drawn import Piece, drawing, roots
from gradharness.checks.in_model import in_model
from gradharness.checks.nodes import graph_of, made_of_pullback, outputs_of
from gradharness.checks.repeats import Call, called, copied, helpers, pair_of
from gradharness.checks.roundoff import MARGIN, own_roundoff
from gradharness.checks.steps import judged, spelled
from gradharness.comparison import compare
from gradharness.errors import SubjectError
from gradharness.judge import discrepancy, rule
from gradharness.model.case import Case
from gradharness.model.exhibit import Drawing
from gradharness.model.subject import Gradients, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics.bits import same_bits
from gradharness.subjects.reverse import attached, vector_jacobian

_UNREPEATABLE = "equal calls give different gradients"
_NO_NODE = "no program takes the subject as a node"
_NESTED = "the subject has no graph of its own, and tensors within containers"
_BRANCH = "the other branch"


@dataclass(frozen=True, slots=True)
class _Look:
    """One program that was run both ways.

    Attributes:
        labels: One for each gradient: the leaves', then the branches'.
        got: With the subject in the program.
        parts: The two parts of each expected gradient: through the subject, and past it.
        cotangents: What reached the subject.
        weights: Cotangents of the program's outputs.
    """

    labels: tuple[str, ...]
    got: Gradients
    parts: tuple[Gradients, Gradients]
    cotangents: Tensors
    weights: Tensors = ()


def examine(setting: Setting, case: Case) -> Observation:
    """Every gradient of each program is what the backward by itself gives, between two parts that autograd knows."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    outputs = graph_of(setting.subject, case)
    graph = outputs is not None
    if not graph and any(len(path) > 1 for path in case.primals.active):
        return Observation(verdict=Verdict.SKIPPED, reason=_NESTED)
    if outputs is not None and (found_there := in_model(setting, case, outputs)) is not None:
        return _failed(*found_there, (), found_there[0].drawing)
    del outputs  # with all that their graph holds
    first = called(setting, case.primals, case.cotangents)
    looked = 0
    for context in [*contexts(case), _chain(case)]:
        if context is None or (look := _look(setting, case, context)) is None:
            continue
        looked += 1
        found = _wrong(setting, case, look)
        if found is None:
            return Observation(verdict=Verdict.UNDECIDED, reason=_UNREPEATABLE)
        if found:
            steps = _steps(case, context, look, found[0], graph=graph)
            return _failed(found[0], context.why, steps, _drawn(setting, case, context))
    return _two_nodes(setting, case, first, looked, graph=graph)


def _failed(found: Discrepancy, why: str, steps: tuple[str, ...], drawn: Drawing | None) -> Observation:
    detail = f"in a program the gradient of {found.label} is not what the same backward gives by itself: where {why}"
    made = Discrepancy(
        label=found.label,
        got=found.got,
        expected=found.expected,
        bound=found.bound,
        oracle="the subject by itself, composed with autograd",
        excess=found.excess,
        fault=Fault.IN_CONTEXT,
        detail=detail,
        steps=steps,
        drawing=drawn,
    )
    return Observation(verdict=Verdict.FAIL, discrepancies=(made,))


def _chain(case: Case) -> Context | None:
    """Random ops after the subject; None where they refuse its outputs (a dtype that they do not know)."""
    outputs = [case.outputs[i] for i in case.differentiable]
    if not all(bool(y.isfinite().all()) and y.numel() for y in (*outputs, *case.primals.leaves)):
        return None
    try:
        return chain(case, tuple(outputs), case.primals.leaves)
    except RuntimeError:
        return None


# --- one program, both ways ------------------------------------------------------------------------------------------


def _look(setting: Setting, case: Case, context: Context) -> _Look | None:
    """Runs it with the subject in it, and by parts; None where the subject or autograd refuses it, or nothing fits."""
    leaves = attached(copied(case.primals.leaves))
    sides = tuple(torch.zeros_like(w).requires_grad_() for w in case.cotangents)
    branches = [s * 1 for s in sides]  # made first, so that its backward runs last
    xs = _brought(context, leaves)
    try:
        ys = outputs_of(setting.subject, case.primals, xs)
    except SubjectError:
        return None  # another check names who raises
    if [y.shape for y in ys] != [w.shape for w in case.cotangents] or _moved(xs, case.primals.leaves):
        return None
    try:
        parts = _by_parts(case, context, ys, xs)
        alone = called(setting, case.primals, parts.through).gradients
        outputs = context.after(ys, branches, xs)
        got = vector_jacobian(outputs, [*leaves, *sides], [w.clone() for w in parts.weights])
    except (SubjectError, RuntimeError):
        return None
    labels = (*case.primals.labels, *(_BRANCH for _ in sides))
    nothing: Gradients = (None,) * len(sides)
    parts_of_it = (*alone, *nothing), (*parts.past, *parts.branches)
    return _Look(labels, got, parts_of_it, parts.through, parts.weights)


def _drawn(setting: Setting, case: Case, context: Context) -> Drawing | None:
    """The program's graph, recorded once more."""
    leaves = attached(copied(case.primals.leaves))
    sides = tuple(torch.zeros_like(w).requires_grad_() for w in case.cotangents)
    xs = _brought(context, leaves)
    try:
        ys = outputs_of(setting.subject, case.primals, xs)
        piece = Piece(xs, roots(ys))
        outputs = context.after(ys, [s * 1 for s in sides], xs)
    except (SubjectError, RuntimeError):
        return None
    names = dict(zip(case.primals.labels, leaves, strict=True))
    names |= {_BRANCH if len(sides) == 1 else f"{_BRANCH} {n}": side for n, side in enumerate(sides)}
    return drawing(outputs, names, pieces=[piece], subject=setting.subject.name, why=context.why)


def _brought(context: Context, leaves: Tensors) -> Tensors:
    if not context.before:
        return leaves
    return tuple(BEFORE[n][0](x) for n, x in zip(context.before, leaves, strict=True))


def _moved(xs: Tensors, leaves: Tensors) -> bool:
    """Whether the subject wrote into its inputs: then what comes after sees other values."""
    return not all(same_bits(x.detach(), y) for x, y in zip(xs, leaves, strict=True))


@dataclass(frozen=True, slots=True)
class _Parts:
    """The program without the subject: its outputs' cotangents, and what reaches the subject, its inputs, the rest."""

    weights: Tensors
    through: Tensors
    past: Gradients
    branches: Gradients


def _by_parts(case: Case, context: Context, ys: Tensors, xs: Tensors) -> _Parts:
    """What autograd makes of the part after the subject."""
    stems = [attached(copied([t.detach() for t in group])) for group in (ys, [torch.zeros_like(y) for y in ys], xs)]
    # Not the leaves themselves: the part after may write into them.
    outputs = context.after(*([t * 1 for t in group] for group in stems))
    weights = tuple(_fitted(case.cotangents[k % len(case.cotangents)], y) for k, y in enumerate(outputs))
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    found: Gradients = torch.autograd.grad(
        [y for y, _ in pairs], [t for group in stems for t in group], [w for _, w in pairs], allow_unused=True
    )
    n = len(ys)
    through = tuple(
        torch.zeros_like(w) if g is None else g.clone(memory_format=torch.contiguous_format)
        for g, w in zip(found[:n], case.cotangents, strict=True)
    )
    return _Parts(weights, through, tuple(found[2 * n :]), tuple(found[n : 2 * n]))


def _fitted(cotangent: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The cotangent's elements in another shape and dtype, repeated where there are too few."""
    flat = cotangent.reshape(-1) if cotangent.numel() else cotangent.new_ones(1)
    count = like.numel()
    values = flat.repeat(count // flat.numel() + 1)[:count].reshape(like.shape)
    return (values.real if values.is_complex() and not like.is_complex() else values).to(like.dtype)


def _wrong(setting: Setting, case: Case, look: _Look) -> list[Discrepancy] | None:
    """What differs beyond the tolerance and the subject's round-off, the worst first; None if it is noise."""
    suspects = [_compared(setting, look, i, 0.0) for i in range(len(look.labels))]
    if not any(d.excess > 1 for d in suspects):
        return []
    noise = own_roundoff(setting, case, look.cotangents)
    if noise is None:
        return None
    spread = [MARGIN * n for n in noise] + [torch.zeros(())] * (len(look.labels) - len(noise))
    found = [_compared(setting, look, i, spread[i]) for i in range(len(look.labels))]
    return sorted((d for d in found if d.excess > 1), key=lambda d: -d.excess)


def _compared(setting: Setting, look: _Look, i: int, noise: torch.Tensor | float) -> Discrepancy:
    """One gradient beside the sum of its parts; where these cancel, their own sizes are what counts."""
    got, terms = look.got[i], [p[i] for p in look.parts]
    known = [t for t in terms if t is not None]
    if not known:
        if got is None:
            return Discrepancy(label=look.labels[i], excess=0.0)
        known = [torch.zeros_like(got)]
    if any(t.shape != known[0].shape for t in known):
        return Discrepancy(label=look.labels[i], excess=0.0)  # the contract check names shapes
    expected = known[0] if len(known) == 1 else known[0] + known[1]
    bound = noise
    for term in known if len(known) > 1 else ():
        bound = setting.tolerance.allowed(term) + bound
    compared = compare(look.labels[i], got, expected)
    return discrepancy(compared, rule(compared, bound, setting.tolerance), "")


# --- two nodes of one subject ----------------------------------------------------------------------------------------


def _two_nodes(setting: Setting, case: Case, first: Call, looked: int, *, graph: bool) -> Observation:
    """The subject twice in one program, at two points: one backward through both gives each its own gradients."""
    pair = pair_of(setting, case, first)
    if pair is None:
        return Observation(verdict=Verdict.PASS if looked else Verdict.SKIPPED, reason="" if looked else _NO_NODE)
    calls = (pair.first, pair.second)
    leaves = [attached(copied(call.primals.leaves)) for call in calls]
    try:
        traced = [outputs_of(setting.subject, c.primals, xs) for c, xs in zip(calls, leaves, strict=True)]
        weights = [w.clone() for c in calls for w in c.cotangents]
        got = vector_jacobian([*traced[0], *traced[1]], [*leaves[0], *leaves[1]], weights)
    except (SubjectError, RuntimeError):
        return Observation(verdict=Verdict.PASS)  # another check names who raises
    nothing: Gradients = (None,) * len(leaves[0])
    labels = case.primals.labels
    for number, (call, gradients) in enumerate(zip(calls, (got[: len(nothing)], got[len(nothing) :]), strict=True)):
        there = Case(
            primals=call.primals,
            outputs=call.outputs,
            output_labels=case.output_labels,
            differentiable=case.differentiable,
            cotangents=call.cotangents,
            other_cotangents=call.cotangents,
            directions=case.directions,
            recipe=case.recipe,
        )
        found = _wrong(
            setting, there, _Look(case.primals.labels, gradients, (call.gradients, nothing), call.cotangents)
        )
        if found is None:
            return Observation(verdict=Verdict.UNDECIDED, reason=_UNREPEATABLE)
        if found:
            why = f"it is called twice before one backward, and this is the {('first', 'second')[number]} call's"
            pieces = [Piece(xs, roots(ys), n == number) for n, (xs, ys) in enumerate(zip(leaves, traced, strict=True))]
            names = {
                f"{label}, call {n + 1}": x for n, xs in enumerate(leaves) for label, x in zip(labels, xs, strict=True)
            }
            drawn = drawing([*traced[0], *traced[1]], names, pieces=pieces, subject=setting.subject.name, why=why)
            return _failed(
                found[0],
                why,
                (*helpers(setting.tolerance.rtol), *pair.lines, *(_TWO_NODES if graph else _TWO_PULLBACKS)),
                drawn,
            )
    return Observation(verdict=Verdict.PASS)


_TWO_PULLBACKS = (
    "alone = kept(start(arguments, leaves)(cotangents)) + kept(start(others, other_leaves)(other_cotangents))",
    "first, second = start(arguments, leaves), start(others, other_leaves)",
    "later = kept(second(other_cotangents))  # backward goes from the last node to the first",
    "sys.exit(int(differ(kept(first(cotangents)) + later, alone)))",
)
_TWO_NODES = (
    "alone = kept(start(arguments, leaves)(cotangents)) + kept(start(others, other_leaves)(other_cotangents))",
    "outputs, weights = outputs_of(arguments) + outputs_of(others), [*cotangents, *other_cotangents]",
    "got = torch.autograd.grad(outputs, [*leaves, *other_leaves], weights, materialize_grads=True)",
    "sys.exit(int(differ(got, alone)))",
)


# --- the same as a script --------------------------------------------------------------------------------------------


def _steps(case: Case, context: Context, look: _Look, found: Discrepancy, *, graph: bool) -> tuple[str, ...]:
    labels = case.primals.labels
    brought = {
        label: BEFORE[n][1].format(f"leaves[{i}]")
        for i, (n, label) in enumerate(zip(context.before, labels, strict=False))
        if len(case.primals.active[i]) == 1
    }
    text = " ".join(context.lines)
    number = look.labels.index(found.label)
    alone = number < len(labels)  # what is expected is what the backward gives by itself, and what went past it
    past = look.parts[1][number]
    through = f"[{', '.join(map(spelled, look.cotangents))}]"
    branches = (
        "sides = [torch.zeros_like(w).requires_grad_() for w in cotangents]",
        "branches = [s * 1 for s in sides]  # made first, so that its backward runs last",
    )
    used = "branches" in text or not alone
    moved = (
        "plain = dict(arguments)",
        f"arguments.update({{{', '.join(f'{label!r}: {made}' for label, made in brought.items())}}})",
        f"xs = [{', '.join(f'arguments[{x!r}]' if x in brought else f'leaves[{i}]' for i, x in enumerate(labels))}]",
    )
    xs = "xs" if brought or "xs" in text else "leaves"
    assert found.expected is not None
    *lines, last = context.lines
    by_itself = f"start({'plain' if brought else 'arguments'}, leaves)({through})[{number}].clone()"
    expected = by_itself if past is None else f"{by_itself} + {spelled(past)}"
    places = "leaves + sides" if used else "leaves"
    run = f"got = torch.autograd.grad(outputs, {places}, weights, materialize_grads=True)[{number}]"
    return (
        *(() if graph else made_of_pullback(labels)),
        *(branches if used else ()),
        *(moved if brought else ("xs = [*leaves]",) if xs == "xs" else ()),
        f"ys = {'outputs_of(arguments)' if graph else f'[*Subject.apply(*{xs})]'}",
        *lines,
        f"outputs, weights = {last.removeprefix('return ')}, [{', '.join(map(spelled, look.weights))}]",
        f"expected = {expected if alone else spelled(found.expected)}",
        *(_refusable(run) if graph else (run,)),
        *judged(found.expected, found.bound),
    )


def _refusable(line: str) -> tuple[str, ...]:
    """The line, where autograd may notice that something was written into, which is as right as a gradient."""
    return (
        "try:",
        f"    {line}",
        "except RuntimeError as error:",
        "    sys.exit(str(error) if 'modified by an inplace' not in str(error) else print('refused:', error) or 0)",
    )


def _applies(setting: Setting) -> str | None:
    return "backward starts from a loss: nothing can come after it" if setting.subject.fixed_cotangent else None


CHECK = Check(
    name="program",
    proves="In small programs, whose other ops are trusted, the backward gives what it gives by itself.",
    cannot="A backward that is wrong by itself is wrong here as well, and passes: vjp looks at that.",
    causes=(
        ("backward writes into grad_output", "make a copy first: another branch may share it"),
        (
            "forward keeps its output on ctx as an attribute",
            "use ctx.save_for_backward, which notices who writes into it",
        ),
        ("a buffer of the class or module is used by every call", "allocate what backward needs afresh in forward"),
        ("backward takes its cotangent to be contiguous", "call .contiguous(), or use the strides"),
    ),
    examine=examine,
    applies=_applies,
    weight=0.2,
    optional=True,
)
