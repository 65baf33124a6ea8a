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
from gradharness.checks.explanation import is_right
from gradharness.checks.steps import judged, spelled
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
_OUTPUT = "gradient for "
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
        output_labels=tuple(_OUTPUT + primals.labels[i] for i in present),
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
    """Whether the gradient itself is wrong here: then nothing more is to be said.

    Also where only the round-off of the subject's own formula excuses it: the derivative of rounded numbers is no
    derivative.
    """
    gradients = setting.subject.linearize(case.primals).pullback(case.cotangents)
    given = [(n, g) for n, g in zip(case.primals.labels, gradients, strict=True) if g is not None]
    return any(is_right(setting, case, n, g) is False for n, g in given) or (
        vjp.examine(setting, case).verdict is Verdict.FAIL
    )


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
    return replace(found, fault=Fault.SECOND_ORDER, detail=detail, steps=_steps(case, found, number))


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


def _steps(case: Case, found: Discrepancy, number: int) -> tuple[str, ...]:
    """Shows the second derivative by one primal or cotangent in a script, beside its value or differences."""
    expected = found.expected
    known = found.oracle.endswith(", twice") and expected is not None and bool(expected.isfinite().all())
    weights = [f"{spelled(w)}.requires_grad_()" for w in _weights(case)]
    numbers = [case.primals.labels.index(label.removeprefix(_OUTPUT)) for label in case.output_labels]
    return (
        f"weights = [{', '.join(weights)}]",
        f"us = [{', '.join(map(spelled, case.cotangents))}]  # of the gradients whose derivative this is",
        *_SECOND.format(number=number, numbers=numbers).splitlines(),
        # Differences of a wrong gradient are its own: a script takes those of the gradient that it finds.
        *(_known(expected, found.bound) if known and expected is not None else _measured(case.primals.leaves[number])),
    )


def _weights(case: Case) -> Tensors:
    """The cotangents of the first backward, which are primals here."""
    pairs = zip(case.primals.labels, case.primals.leaves, strict=True)
    return tuple(x for label, x in pairs if label.startswith(_PREFIX))


_SECOND = """\
def total(graph=False):
    found = torch.autograd.grad(outputs_of(arguments), leaves, weights, create_graph=graph, allow_unused=True)
    return sum((found[i].conj() * u).sum().real for i, u in zip({numbers}, us) if found[i] is not None)
place = [*leaves, *weights][{number}]
try:
    (total(graph=True) + 0 * place.real.sum()).backward()
except RuntimeError as error:
    sys.exit(print('refused, which is no fault:', error) or 0)
got = place.grad"""


def _known(expected: torch.Tensor, bound: torch.Tensor | float) -> tuple[str, ...]:
    return (f"expected = {spelled(expected)}", *judged(expected, bound))


def _measured(place: torch.Tensor) -> tuple[str, ...]:
    """Lines that take central differences of the gradient."""
    fine = place.dtype in (torch.float64, torch.complex128)
    h = (1e-4 if fine else 1e-2) * max(1.0, float(place.abs().max()))
    slope = f"(8 * at({h!r}) - 8 * at(-{h!r}) - at({2 * h!r}) + at(-{2 * h!r})) / {12 * h!r}"
    if place.is_complex():
        slope = (
            f"sum(u * (8 * at({h!r} * u) - 8 * at(-{h!r} * u) - at({2 * h!r} * u) + at(-{2 * h!r} * u)) "
            f"for u in (1, 1j)) / {12 * h!r}"
        )
    rtol, atol = (1e-6, 1e-8) if fine else (2e-2, 1e-2)
    return (
        "expected = torch.zeros_like(got)",
        "for i in itertools.product(*map(range, place.shape)):  # central differences of the gradient",
        "    def at(move, value=place[i].item()):",
        "        place.data[i] = value + move",
        "        return float(total())",
        f"    expected[i] = {slope}",
        "    at(0)",
        f"bound = {rtol!r} * expected.abs().max() + {atol!r} * (1 + abs(float(total())))",
        "print('expected', expected, '\\ngot     ', got)",
        "sys.exit(int(not ((got - expected).abs() <= bound).all()))",
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
