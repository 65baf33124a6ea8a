"""Check ``double_backward``: the second derivative is right, or refused with a clear error; never silently wrong.

The gradient g(x, w) = wᵀJ(x) is a function of primals and cotangents like any other, and double backward is its
gradient. It is held against the same oracles in the same way as the first one is in ``vjp``: the reference
differentiated twice, finite differences of the subject's own gradient, and autograd of the subject's own forward
differentiated twice where the differences certify it. Kinks of the gradient (relu at any point has none beside zero)
and round-off are ruled out by the same arbitration.

Through the cotangents the second derivative is J·u itself, which is never zero where there is a gradient at all: a
backward that is detached from autograd shows even where the function is linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch

from gradharness.checks import vjp
from gradharness.checks.base import Check, Setting
from gradharness.checks.steps import LARGEST, compared, expecting
from gradharness.errors import BackwardRaised, first_line
from gradharness.inputs.recipe import Directions, Recipe
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Primals, Subject, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.oracles.autograd import Autograd
from gradharness.oracles.finite_difference import FiniteDifference
from gradharness.subjects.gradient_map import GradientMap
from gradharness.subjects.reverse import attached

NOTHING = "there is no gradient to be differentiated: it is zero, or missing"
REFUSED = "the second derivative is refused: {}"
_NO_GRAPH = "not behind autograd: there is no graph to be differentiated twice"
_FIRST_WRONG = "the gradient itself is wrong here"
_LARGEST = 1 << 17  # elements; differences of as many gradients would take twenty times the memory of a training step
_TOO_LARGE = f"more than {_LARGEST} elements: a smaller size shows the same"
_OTHER_REFERENCE = "the reference's second derivative is not that of the subject's gradient"
_PREFIX = "cotangent of "
# Four calls underestimated the noise of a gradient (saturated attention) by a factor of thirty.
_PLAIN = 1e4
# A second derivative is examined where a difference of gradients can be taken.
_DTYPES = (torch.float64, torch.float32)


def examine(setting: Setting, case: Case) -> Observation:
    """The gradient's own gradient, by every primal and every cotangent, seen through fixed general weights."""
    if case.empty:
        return _skipped(NOTHING)
    if case.elements > _LARGEST:
        return _skipped(_TOO_LARGE)
    if setting.subject.traced(case.primals, attached([x.clone() for x in case.primals.leaves])) is None:
        return _skipped(_NO_GRAPH)
    try:
        gradients = setting.subject.linearize(case.primals).pullback(case.cotangents)
    except BackwardRaised as error:
        return _skipped(f"there is no first derivative: {error}")
    pairs = zip(gradients, case.primals.leaves, strict=True)
    present = tuple(i for i, (g, x) in enumerate(pairs) if g is not None and g.shape == x.shape)
    return _differentiated(setting, case, gradients, present) if present else _skipped(NOTHING)


def _skipped(reason: str) -> Observation:
    return Observation(verdict=Verdict.SKIPPED, reason=reason)


def _differentiated(setting: Setting, case: Case, gradients: Gradients, present: tuple[int, ...]) -> Observation:
    second = _second_case(case, gradients, present)
    around = _second_setting(setting, len(case.cotangents), present)
    try:
        seen = vjp.examine(around, second)
        if seen.verdict is Verdict.FAIL and seen.discrepancies[0].excess < _PLAIN:
            seen = vjp.examine(_thorough(around), second)
        if seen.verdict is Verdict.FAIL and _first_is_wrong(setting, case):
            return _skipped(_FIRST_WRONG)
        return _told(around, second, seen)
    except BackwardRaised as error:
        return _skipped(REFUSED.format(first_line(error.original)))


# --- the gradient as a subject ---------------------------------------------------------------------------------------


def weights_like(gradients: Sequence[torch.Tensor]) -> Tensors:
    """What stands for the tangent u in ⟨g, u⟩: cos k, or exp(ik) for complex numbers, at the k-th element.

    A formula, so that a reproducer needs no values of it; and one count through all gradients, since those of a
    difference are each other's negatives.
    """
    found, before = [], 0
    for g in gradients:
        k = torch.arange(before + 1, before + g.numel() + 1, dtype=torch.float64, device=g.device)
        u = torch.polar(torch.ones_like(k), k) if g.is_complex() else k.cos()
        found.append(u.to(g.dtype).reshape(g.shape))
        before += g.numel()
    return tuple(found)


def _second_case(case: Case, gradients: Gradients, present: Sequence[int]) -> Case:
    """The case of the gradient map: primals and cotangents together are its primals, the gradients its outputs."""
    primals = case.primals
    labels = [_PREFIX + case.output_labels[i] for i in case.differentiable]
    count = len(primals.names)
    together = Primals(
        (*primals.names, *labels),
        (*primals.values, *case.cotangents),
        (*primals.active, *((count + i,) for i in range(len(labels)))),
    )
    outputs = tuple(g.detach().clone() for i in present if (g := gradients[i]) is not None)
    weights = weights_like(outputs)
    return replace(
        case,
        primals=together,
        outputs=outputs,
        output_labels=tuple(f"gradient for {primals.labels[i]}" for i in present),
        differentiable=tuple(range(len(outputs))),
        cotangents=weights,
        other_cotangents=tuple(w.reshape(-1).roll(1).reshape(w.shape) for w in weights),
        directions=_Together(case.directions, _cotangent_directions(case)),
    )


def _cotangent_directions(case: Case) -> Sequence[Tensors]:
    seed = case.recipe.get("seed", 0)
    return Directions(Recipe(seed=seed if isinstance(seed, int) else 0), case.cotangents, count=len(case.directions))


@dataclass(frozen=True, slots=True)
class _Together(Sequence[Tensors]):
    """Tangents of the primals followed by tangents of the cotangents."""

    primals: Sequence[Tensors]
    cotangents: Sequence[Tensors]

    def __len__(self) -> int:
        return len(self.primals)

    @overload
    def __getitem__(self, item: int) -> Tensors: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Tensors]: ...
    def __getitem__(self, item: int | slice) -> Tensors | Sequence[Tensors]:
        if isinstance(item, slice):
            return tuple(self[i] for i in range(*item.indices(len(self))))
        return (*self.primals[item], *self.cotangents[item])


def _second_setting(setting: Setting, weights: int, present: tuple[int, ...]) -> Setting:
    def mapped(subject: Subject) -> GradientMap:
        return GradientMap(subject, weights, present)

    def twice(oracle: Autograd | None) -> Autograd | None:
        return None if oracle is None else replace(oracle, name=f"{oracle.name}, twice", source=mapped(oracle.source))

    subject = mapped(setting.subject)
    return replace(
        setting,
        subject=subject,
        reference=None,
        # Whatever the gradient is meant to be: its derivative is that of itself.
        surrogate=False,
        trusted=twice(setting.trusted),
        own=twice(setting.own),
        differences=FiniteDifference(
            subject, name="finite difference of the gradient", quick_enough=setting.tolerance.rtol
        ),
    )


def _thorough(setting: Setting) -> Setting:
    """Differences with every step and measured noise: a gradient holds more round-off than its own size tells."""
    assert setting.differences is not None
    slow = FiniteDifference(setting.differences.subject, name=setting.differences.name, quick_enough=0.0)
    return replace(setting, differences=slow)


# --- what it means ---------------------------------------------------------------------------------------------------


def _first_is_wrong(setting: Setting, case: Case) -> bool:
    """Whether the gradient itself is wrong here: then nothing more is to be said."""
    return vjp.examine(setting, case).verdict is Verdict.FAIL


def _told(setting: Setting, case: Case, seen: Observation) -> Observation:
    """The observation in words of second derivatives."""
    if seen.verdict is Verdict.FAIL:
        found = setting.subject.linearize(case.primals).pullback(case.cotangents)
        silent = tuple(_is_nothing(g) for g in found)
        recorded = bool(setting.subject.traced(case.primals, attached([x.clone() for x in case.primals.leaves])))
        told = tuple(_named(case, d, silent, recorded=recorded) for d in seen.discrepancies)
        return Observation(verdict=Verdict.FAIL, discrepancies=told)
    if seen.verdict is Verdict.SKIPPED:
        return replace(seen, reason=NOTHING)
    if seen.warnings:  # the differences side with the subject
        return _skipped(_OTHER_REFERENCE)
    return replace(seen, warnings=())


def _is_nothing(gradient: torch.Tensor | None) -> bool:
    return gradient is None or not bool(gradient.any())


def _named(case: Case, found: Discrepancy, silent: Sequence[bool], *, recorded: bool) -> Discrepancy:
    number = case.primals.labels.index(found.label)
    detail = _in_words(found.label, recorded=recorded, nothing=silent[number])
    return replace(found, fault=Fault.SECOND_ORDER, detail=detail, steps=_steps(found, number))


def _in_words(label: str, *, recorded: bool, nothing: bool) -> str:
    if not recorded:
        return (
            "backward is detached from autograd: second derivatives come out as zero, silently; mark it "
            "@once_differentiable, or compute it of ops that autograd can differentiate"
        )
    if label.startswith(_PREFIX):
        what = "missing: backward detaches it" if nothing else "wrong"
        return f"the second derivative by the {label} is {what}; mark backward @once_differentiable, or mend it"
    cause = "what forward saves besides its inputs and outputs is a constant to it"
    what = f"missing: backward is detached from {label}, or {cause}"
    if not nothing:
        what = f"wrong: {cause}, or a backward within backward is wrong"
    return (
        f"the gradient is right and the second derivative by {label} is {what}; compute it in backward from saved "
        "inputs, or mark backward @once_differentiable"
    )


def _steps(found: Discrepancy, number: int) -> tuple[str, ...]:
    """Shows the second derivative by one primal or cotangent in a script, beside its value or differences."""
    told = _MEASURED
    expected = found.expected
    if expected is not None and expected.numel() <= LARGEST and bool(expected.isfinite().all()):
        told = expecting(expected, found.bound)
    return (*_SECOND.format(number=number).splitlines(), *told, *compared())


_SECOND = """\
weights = [w.clone().requires_grad_() for w in cotangents]
place = [*leaves, *weights][{number}]
def weighed(gradient, before):
    k = before + torch.arange(1, gradient.numel() + 1, dtype=torch.float64)
    u = torch.polar(torch.ones_like(k), k) if gradient.is_complex() else k.cos()
    terms = u.to(gradient.dtype).reshape(gradient.shape).conj() * gradient
    return (terms.real if terms.is_complex() else terms).sum()
def total(create_graph):  # all gradients as one number
    torch.manual_seed(0)
    outputs = [t for t in tensors(call_subject(*arguments.values())) if t.requires_grad]
    found = torch.autograd.grad(outputs, leaves, weights, create_graph=create_graph, allow_unused=True)
    found = [g for g in found if g is not None]
    return sum(weighed(g, sum(h.numel() for h in found[:i])) for i, g in enumerate(found))
try:
    whole = total(True)
    if whole.requires_grad:
        whole.backward()
    got = place.grad
except RuntimeError as error:
    print('refused, which is no fault:', error)
    sys.exit(0)"""

_MEASURED = tuple(
    """\
expected = torch.zeros_like(place).detach()
fine = place.dtype in (torch.float64, torch.complex128)
step = 1e-4 if fine else 1e-2
def at(i, value):
    with torch.no_grad():
        place[i] = value
    return total(False).item()
for i in __import__('itertools').product(*map(range, place.shape)):  # central differences of the gradient
    value = place[i].item()
    h = step * max(1, abs(value))
    for unit in (1, 1j) if place.is_complex() else (1,):
        near, far = (at(i, value + s * h * unit) - at(i, value - s * h * unit) for s in (1, 2))
        expected[i] += unit * (8 * near - far) / (12 * h)
    at(i, value)
bound = (1e-6 if fine else 2e-2) * expected.abs().max() + (1e-8 if fine else 1e-2) * (1 + abs(total(False).item()))
""".splitlines()
)


def _applies(setting: Setting) -> str | None:
    if setting.dtype not in _DTYPES and setting.trusted is None:
        return "differences of a gradient resolve nothing in float16 and bfloat16: give reference="
    return None


CHECK = Check(
    name="double_backward",
    proves="The second derivative is right by every primal and every cotangent, or refused with an error.",
    cannot="A refusal is taken as it is; a backward that nobody differentiates twice is not excused from saying so.",
    causes=(
        (
            "backward uses detach, .data, numpy or a kernel without a gradient",
            "mark it @once_differentiable, or write it in differentiable operations",
        ),
        (
            "an intermediate of forward is kept for backward, and taken as a constant there",
            "compute it again in backward from the saved inputs, or return it as an output as well",
        ),
    ),
    examine=examine,
    applies=_applies,
    weight=0.2,
    optional=True,
)
