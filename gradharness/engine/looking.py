"""One look: from a recipe to a case, and from a case to an observation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.surroundings import watched
from gradharness.engine.known import Given
from gradharness.errors import BackwardRaised, ForwardRaised, OracleUnavailable, SubjectError, first_line, is_refusal
from gradharness.inputs.batches import Batches
from gradharness.inputs.domain import Domain, Origin
from gradharness.inputs.recipe import Recipe, cotangents, directions, realize
from gradharness.model.case import Case
from gradharness.model.subject import Linearization, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics import tree
from gradharness.numerics.layout import copied
from gradharness.subjects.custom_nodes import custom_nodes
from gradharness.subjects.reverse import attached

_NOT_FINITE = "the forward is not finite"
_BUILTIN = "a backward of torch's own rejects it: {}"
# Nodes of torch's own are numbered overloads; a Function's node is its name and "Backward".
_INVALID = re.compile(r"Function \w+Backward\d+ returned an invalid gradient")
_MOST_KNOWN = 256  # prepared recipes that are kept; a search in the largest profile draws more


@dataclass(frozen=True, slots=True)
class Look:
    """What came of one recipe.

    Attributes:
        recipe: What was drawn.
        primals: The point.
        case: None if the forward did not get that far.
        observation: None if the case lies outside of the domain.
        reason: Why it does.
        drawn: The case that the check was given, where it has made ``case`` of it; None where they are the same.
        given: The kept case that was looked at in place of a drawn one; None for a drawn one.
    """

    recipe: Recipe
    primals: Primals
    case: Case | None = None
    observation: Observation | None = None
    reason: str = ""
    drawn: Case | None = None
    given: Given | None = None

    @property
    def failed(self) -> bool:
        """Whether the check failed."""
        return self.observation is not None and self.observation.verdict is Verdict.FAIL


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe as far as no check is involved yet.

    Attributes:
        primals: The point.
        case: The case there; None if the forward did not get that far.
        outside: Why the point is none of the subject's; empty if it is.
        finite: Whether the subject's outputs are.
        raised: What the forward raised, or what else is wrong before any check looks.
    """

    primals: Primals
    case: Case | None = None
    outside: str = ""
    finite: bool = True
    raised: Observation | None = None

    def fresh(self) -> Prepared:
        """The same with copies of the leaves: a subject that writes into its inputs spoils only its own check."""
        primals = self.primals.at(copied(self.primals.leaves))
        case = None if self.case is None else replace(self.case, primals=primals)
        return replace(self, primals=primals, case=case)


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks at recipes with one check in one setting.

    Attributes:
        setting: Subject, oracles, tolerance.
        check: Which looks.
        domain: Where recipes come from.
        known: What other checks in the same setting have prepared already.
    """

    setting: Setting
    check: Check
    domain: Domain
    known: dict[Recipe, Prepared] = field(default_factory=dict)

    def look(self, recipe: Recipe) -> Look:
        """Realises a recipe and examines it. Whatever the subject does, this returns."""
        with watched():  # what one call changes for the whole process is not to spoil the next
            prepared = self._prepared(recipe)
        return self._look(recipe, prepared)

    def look_at(self, given: Given) -> Look:
        """Examines a kept case. Whatever the subject does, this returns."""
        primals = given.primals.at(copied(given.primals.leaves))
        with watched():
            prepared = self._prepare(given.recipe, primals, given.cotangents)
        return replace(self._look(given.recipe, prepared), given=given)

    def _look(self, recipe: Recipe, prepared: Prepared) -> Look:
        primals, case = prepared.primals, prepared.case
        if prepared.raised is not None:
            return Look(recipe, primals, None, prepared.raised)
        # Where the reference is finite and the forward is not, the value check has something to say.
        if prepared.outside or case is None or not (prepared.finite or self.check.name == "value"):
            return Look(recipe, primals, reason=prepared.outside or _NOT_FINITE)
        with watched():
            observation = self._examine(case)
        if observation.at is not None:
            return Look(recipe, observation.at.primals, observation.at, observation, drawn=case)
        return Look(recipe, primals, case, observation)

    def case(self, recipe: Recipe) -> Case | None:
        """The case of a recipe, which no check looks at; None if it lies outside of the domain."""
        with watched():
            return self._prepared(recipe).case

    def _prepared(self, recipe: Recipe) -> Prepared:
        try:
            known = self.known.get(recipe)
        except TypeError:  # a user's strategy has drawn what cannot be hashed
            return self._prepare(recipe, self._realized(recipe))
        if known is not None:
            return known.fresh()
        prepared = self._prepare(recipe, self._realized(recipe))
        if len(self.known) < _MOST_KNOWN:
            self.known[recipe] = prepared.fresh()
        return prepared

    def _realized(self, recipe: Recipe) -> Primals:
        return realize(self.domain, recipe, dtype=self.setting.dtype, device=self.setting.device)

    def _prepare(self, recipe: Recipe, primals: Primals, kept: Tensors = ()) -> Prepared:
        try:
            linearization = self.setting.subject.linearize(primals)
        except ForwardRaised as error:
            return self._forward_raised(primals, error)
        if not linearization.differentiable and self._has_elements(primals, linearization):
            return Prepared(primals, raised=_disconnected(linearization))
        finite = all(bool(y.isfinite().all()) for y in linearization.outputs)
        outside = self._outside(primals, finite=finite) or self._rejected_late(primals)
        case = None if outside else self._case(recipe, primals, linearization, kept)
        return Prepared(primals, case, outside, finite)

    def _case(self, recipe: Recipe, primals: Primals, linearization: Linearization, kept: Tensors) -> Case:
        like = linearization.cotangent_like
        fixed = self.setting.subject.fixed_cotangent
        first = tuple(torch.ones_like(y) for y in like) if fixed else cotangents(recipe, like)
        if not fixed and [(w.shape, w.dtype) for w in kept] == [(y.shape, y.dtype) for y in like]:
            first = kept
        return Case(
            primals=primals,
            outputs=linearization.outputs,
            output_labels=linearization.labels,
            differentiable=linearization.differentiable,
            cotangents=first,
            other_cotangents=cotangents(recipe, like, stream=1),
            directions=directions(self.domain, recipe, primals),
            recipe=recipe.to_json(),
            further=Batches(self.domain, recipe, self.setting.dtype, self.setting.device, {(0, 0): primals}),
        )

    def _examine(self, case: Case) -> Observation:
        try:
            return self.check.examine(self.setting, case)
        except SubjectError as error:
            if _builtin(error):
                return Observation(verdict=Verdict.SKIPPED, reason=_builtin(error))
            return Observation(verdict=Verdict.FAIL, discrepancies=(_raised(error),))
        except OracleUnavailable as error:
            return Observation(verdict=Verdict.UNDECIDED, reason=str(error))

    def _rejected_late(self, primals: Primals) -> str:
        """What a backward of torch's own says where torch's own forward let pass what does not fit.

        An index may be smaller than its source, and sizes of zero are not always provided for.
        """
        tensors = tree.tensors(primals.values)
        if all((t.is_floating_point() or t.is_complex()) and t.numel() for t in tensors):
            return ""
        try:
            linearization = self.setting.subject.linearize(primals)
            linearization.pullback([torch.ones_like(y) for y in linearization.cotangent_like])
        except SubjectError as error:
            return _builtin(error) or (_BUILTIN.format(first_line(error.original)) if self._is_torchs(primals) else "")
        return ""

    def _is_torchs(self, primals: Primals) -> bool:
        """Whether no backward in the subject is written by hand, so that it is torch's own that raises."""
        try:
            outputs = self.setting.subject.traced(primals, attached(primals.leaves))
        except SubjectError:
            return False
        return outputs is not None and not custom_nodes(outputs)

    def _has_elements(self, primals: Primals, linearization: Linearization) -> bool:
        return any(x.numel() for x in primals.leaves) and any(y.numel() for y in linearization.outputs)

    def _outside(self, primals: Primals, *, finite: bool) -> str:
        """Why a point is none of the subject's: its value is not finite there, or the reference rejects it."""
        reference = self.setting.reference
        if finite and (reference is None or self.domain.origin is Origin.DECLARED):
            return ""
        if reference is None:
            return _NOT_FINITE
        try:
            expected = reference.outputs(primals.to(dtype=torch.float64))
        except SubjectError as error:
            return f"the reference rejects it: {first_line(error.original)}"
        return "" if finite or all(bool(y.isfinite().all()) for y in expected) else _NOT_FINITE

    def _forward_raised(self, primals: Primals, error: ForwardRaised) -> Prepared:
        outside = Prepared(primals, outside=f"the forward rejects it: {first_line(error.original)}")
        reference = self.setting.reference
        if reference is None or is_refusal(error.original):
            return outside
        if self.domain.origin is Origin.INFERRED and any(x.numel() == 0 for x in primals.leaves):
            return outside
        try:
            expected = reference.outputs(primals.to(dtype=torch.float64))
        except SubjectError:
            return outside
        if not all(bool(y.isfinite().all()) for y in expected):
            return outside
        return Prepared(primals, raised=Observation(verdict=Verdict.FAIL, discrepancies=(_raised(error),)))


def _builtin(error: SubjectError) -> str:
    """The reason, if it is torch's own backward that rejects the point; empty otherwise."""
    found = isinstance(error, BackwardRaised) and _INVALID.match(str(error.original))
    return _BUILTIN.format(first_line(error.original)) if found else ""


def _raised(error: SubjectError) -> Discrepancy:
    forward = isinstance(error, ForwardRaised)
    fault = Fault.FORWARD_RAISES if forward else Fault.BACKWARD_RAISES
    text = first_line(error.original)
    detail = f"{error.phase} raises {type(error.original).__name__}: {text}"
    if forward:
        detail += "; the reference accepts these inputs"
    if isinstance(error, BackwardRaised) and "incorrect number of gradients" in text:
        fault, detail = Fault.WRONG_COUNT, text
    elif isinstance(error, BackwardRaised) and "invalid gradient" in text and "shape" in text:
        fault, detail = Fault.WRONG_SHAPE, text
    elif isinstance(error, BackwardRaised) and "expected Variable or None" in text:
        fault, detail = Fault.WRONG_TYPE, f"backward returns something that is no tensor: {text}"
    return Discrepancy(label=error.phase, fault=fault, detail=detail)


def _disconnected(linearization: Linearization) -> Observation:
    detail = (
        f"no output is connected to the inputs ({', '.join(linearization.labels)}): the forward detaches them, "
        "or computes outside of autograd"
    )
    found = Discrepancy(label="output", fault=Fault.DISCONNECTED, detail=detail)
    return Observation(verdict=Verdict.FAIL, discrepancies=(found,))
