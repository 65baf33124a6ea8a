"""Check ``program``: the subject as a node of small programs, whose other ops make its inputs and its cotangents."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.contexts import BEFORE, Context, chain, contexts
from gradharness.checks.in_model import in_model
from gradharness.checks.nodes import OWN_GRAPH, graph_of, made_of_pullback, outputs_of
from gradharness.checks.repeats import Call, called, copied, helpers, pair_of
from gradharness.checks.roundoff import MARGIN, own_roundoff
from gradharness.comparison import compare
from gradharness.errors import SubjectError
from gradharness.judge import discrepancy, rule
from gradharness.model.case import Case
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
    """

    labels: tuple[str, ...]
    got: Gradients
    parts: tuple[Gradients, Gradients]
    cotangents: Tensors


def examine(setting: Setting, case: Case) -> Observation:
    """Every gradient of each program is what the backward by itself gives, between two parts that autograd knows."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    outputs = graph_of(setting.subject, case)
    graph = outputs is not None
    if not graph and any(len(path) > 1 for path in case.primals.active):
        return Observation(verdict=Verdict.SKIPPED, reason=_NESTED)
    if outputs is not None and (found_there := in_model(setting, case, outputs)) is not None:
        return _failed(*found_there, ())
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
            return _failed(found[0], context.why, _steps(setting, case, context, graph=graph))
    return _two_nodes(setting, case, first, looked, graph=graph)


def _failed(found: Discrepancy, why: str, steps: tuple[str, ...]) -> Observation:
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
    return _Look(labels, got, ((*alone, *nothing), (*parts.past, *parts.branches)), parts.through)


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
            return _failed(
                found[0],
                why,
                (*helpers(setting.tolerance.rtol), *pair.lines, *(_TWO_NODES if graph else _TWO_PULLBACKS)),
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
    "outputs = [t for t in tensors(call_subject(*arguments.values())) if t.requires_grad]",
    "outputs += [t for t in tensors(call_subject(*others.values())) if t.requires_grad]",
    "weights = [w.clone() for w in [*cotangents, *other_cotangents]]",
    "got = torch.autograd.grad(outputs, [*leaves, *other_leaves], weights, allow_unused=True)",
    "sys.exit(int(differ(got, alone)))",
)


# --- the same as a script --------------------------------------------------------------------------------------------


def _steps(setting: Setting, case: Case, context: Context, *, graph: bool) -> tuple[str, ...]:
    labels = case.primals.labels
    plain = [len(path) == 1 for path in case.primals.active]
    brought = [
        f"arguments[{label!r}] = xs[{i}] = {BEFORE[n][1].format(f'leaves[{i}]')}"
        for i, (n, label) in enumerate(zip(context.before, labels, strict=False))
        if plain[i]
    ]
    return (
        *helpers(setting.tolerance.rtol),
        "def after(ys, branches, xs):",
        *(f"    {line}" for line in context.lines),
        *(OWN_GRAPH if graph else made_of_pullback(labels)),
        *_FIT,
        "sides, xs = [torch.zeros_like(w).requires_grad_() for w in cotangents], [*leaves]",
        "branches = [s * 1 for s in sides]  # made first, so that its backward runs last",
        *_ALONE,
        *brought,
        "ys = node()",
        "got = torch.autograd.grad(after(ys, branches, xs), [*leaves, *sides], weights, allow_unused=True)",
        "sys.exit(int(differ(got, expected)))",
    )


_FIT = (
    "def fitted(w, like):",
    "    flat = w.reshape(-1) if w.numel() else w.new_ones(1)",
    "    flat = flat.repeat(like.numel() // flat.numel() + 1)[: like.numel()].reshape(like.shape)",
    "    return (flat.real if flat.is_complex() and not like.is_complex() else flat).to(like.dtype)",
)
_ALONE = (
    "# The part after the subject, then the subject by itself.",
    "ys = node()",
    "groups = [ys, [torch.zeros_like(y) for y in ys], xs]",
    "stems = [[t.detach().clone().requires_grad_() for t in group] for group in groups]",
    "outputs = after(*[[t * 1 for t in group] for group in stems])",
    "weights = [fitted(cotangents[k % len(cotangents)], y) for k, y in enumerate(outputs)]",
    "pairs = [(y, w) for y, w in zip(outputs, weights) if y.requires_grad]",
    "parts = torch.autograd.grad([y for y, _ in pairs], sum(stems, []), [w for _, w in pairs], allow_unused=True)",
    "through = [torch.zeros_like(w) if g is None else g.contiguous().clone() for g, w in zip(parts, cotangents)]",
    "alone = kept(start(arguments, leaves)(through)) + [None for _ in sides]",
    "past = [*parts[2 * len(sides) :], *parts[len(sides) : 2 * len(sides)]]",
    "expected = [b if a is None else a if b is None else a + b for a, b in zip(alone, past)]",
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
