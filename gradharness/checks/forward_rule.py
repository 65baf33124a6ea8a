"""The ``jvp`` of a Function: forward mode along a tangent, beside finite differences and beside the backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch.autograd.function import Function

from gradharness.checks.arbitration import moved, nudged
from gradharness.checks.base import Setting
from gradharness.checks.steps import spelled
from gradharness.comparison import projected
from gradharness.errors import OracleUnavailable
from gradharness.judge import rule_slope
from gradharness.model.case import Case
from gradharness.model.estimate import SlopeEstimate, Smoothness
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.oracles.forward_mode import ForwardMode
from gradharness.subjects.transformed import AnyCallable, is_random

_NUDGES = (2, 3)  # numbers of the case's directions that serve as displacements


def forward_mode(
    setting: Setting, case: Case, function: AnyCallable, classes: Iterable[type[Function]]
) -> Iterator[tuple[bool, Discrepancy]]:
    """⟨w, J·v⟩ by forward mode against ⟨Jᵀw, v⟩; where they differ, finite differences decide.

    A mismatch counts only where differences are smooth, side with the backward, and do so beside the point as well.
    Nothing is asked of a Function without a ``jvp`` of its own, of a random subject (two calls are two functions), and
    of a surrogate, whose forward mode may be meant either way.
    """
    rules = [cls for cls in classes if cls.jvp is not Function.jvp]
    if not rules or setting.surrogate or is_random(setting.subject):
        return
    gradients = setting.subject.linearize(case.primals).pullback(case.cotangents)
    name = rules[0].__name__
    for tangent in (case.directions[0], case.directions[1]):
        try:
            found = _wrong(setting, case, gradients, (function, tangent))
        except OracleUnavailable as error:
            if getattr(function, "__self__", None) in rules:
                detail = f"{name}.jvp cannot be used: {error}"
                steps = _steps(case.primals, tangent)
                yield False, Discrepancy(label="jvp", fault=Fault.WRONG_JVP, detail=detail, steps=steps)
            return
        if found is not None and _recurs(setting, case, (function, tangent)):
            got, expected, excess = found
            detail = (
                f"{name}.jvp is wrong: ⟨w, J·v⟩ comes out as {got:.6g}; gradient and differences give {expected:.6g}"
            )
            steps = _steps(case.primals, tangent)
            yield True, Discrepancy(label="jvp", fault=Fault.WRONG_JVP, detail=detail, excess=excess, steps=steps)
            return


def _recurs(setting: Setting, case: Case, along: tuple[AnyCallable, Tensors]) -> bool:
    for number in _NUDGES:
        try:
            there, gradients = moved(setting, case, nudged(case, number))
            if _wrong(setting, there, gradients, along) is not None:
                return True
        except OracleUnavailable:
            continue
    return False


def _wrong(
    setting: Setting, case: Case, gradients: Gradients, along: tuple[AnyCallable, Tensors]
) -> tuple[float, float, float] | None:
    """(forward mode's slope, the differences', excess) where the jvp is refuted; None where it is not.

    Raises:
        OracleUnavailable: If forward mode does not run here.
    """
    function, tangent = along
    copied = replace(case, primals=case.primals.at([x.clone() for x in case.primals.leaves]))
    forward = ForwardMode(function).slope(copied, tangent)
    backward = rule_slope(*projected(gradients, tangent), forward, setting.tolerance)
    if backward.agrees or setting.differences is None:
        return None
    truth = setting.differences.slope(case, tangent)
    if truth.smoothness is not Smoothness.SMOOTH:
        return None
    weights = case.cotangents
    if truth.masked is not None:
        weights = tuple(w.masked_fill(m, 0) for w, m in zip(weights, truth.masked, strict=True))
        forward = ForwardMode(function).slope(copied, tangent, weights)
        gradients = setting.subject.linearize(case.primals).pullback(weights)
    return _refuted(setting, forward, truth, projected(gradients, tangent))


def _refuted(
    setting: Setting, forward: SlopeEstimate, truth: SlopeEstimate, product: tuple[float, float]
) -> tuple[float, float, float] | None:
    held = rule_slope(*product, truth, setting.tolerance)
    if not held.agrees:
        return None  # the gradient's own business
    allowed = held.tolerance + forward.bound
    difference = abs(forward.value - truth.value)
    if difference <= allowed or not held.resolution < setting.tolerance.coarsest:
        return None
    return forward.value, truth.value, difference / allowed


def _steps(primals: Primals, tangent: Tensors) -> tuple[str, ...]:
    """Forward mode in a script, beside central differences of the forward."""
    spelt = ", ".join(spelled(v) for v in tangent)
    places = [(str(primals.names[int(p[0])]), p[1:]) for p in primals.active]
    return (f"tangents = [{spelt}]", f"places = {places!r}", *_SCRIPT.splitlines())


_SCRIPT = """\
from torch.autograd import forward_ad
def put(value, path, new):
    if not path:
        return new
    items = dict(value) if isinstance(value, dict) else list(value)
    items[path[0]] = put(items[path[0]], path[1:], new)
    return items if isinstance(value, (dict, list)) else tuple(items)
def outputs_at(values):
    changed = dict(arguments)
    for (name, path), new in zip(places, values):
        changed[name] = put(changed[name], path, new)
    return outputs_of(changed)
def weighed(outputs):
    terms = [(w.conj() * y).sum() for w, y in zip(cotangents, outputs) if y is not None]
    return sum((t.real if t.is_complex() else t).item() for t in terms)
def at(t):
    return weighed(outputs_at([x.detach() + t * v for x, v in zip(leaves, tangents)]))
with forward_ad.dual_level():
    duals = [forward_ad.make_dual(x.detach(), v) for x, v in zip(leaves, tangents)]
    got = weighed([forward_ad.unpack_dual(y).tangent for y in outputs_at(duals)])
fine = leaves[0].dtype in (torch.float64, torch.complex128)
h = 1e-4 if fine else 1e-2
expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
print('expected', expected, 'got', got)
sys.exit(int(not abs(got - expected) <= (1e-6 if fine else 1e-2) * (1e-3 + abs(expected))))
"""
