"""What is asked of a subject: where its inputs come from, what it is compared with, and what a report must say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from gradharness.checks.surroundings import watched
from gradharness.engine import module_state
from gradharness.engine.names import argument_names, check_names, signature_names
from gradharness.errors import BackwardRaised, BuildRaised, OutputError, SpecError, SubjectError, UsageError, first_line
from gradharness.inputs.domain import Domain, Origin, declared_domain
from gradharness.inputs.plain import trial_recipes
from gradharness.inputs.probe import infer_domain
from gradharness.inputs.recipe import realize
from gradharness.inputs.specs import as_spec, is_spec, specs_from_signature, tensor
from gradharness.model.subject import Primals, Subject
from gradharness.numerics import tree
from gradharness.subjects import FunctionSubject, ManualSubject, as_subject
from gradharness.subjects.custom_nodes import custom_nodes
from gradharness.subjects.module_function import Closed, ModuleFunction, module_function
from gradharness.subjects.reverse import attached

AnySubject: TypeAlias = Callable[..., object] | Subject
Inputs: TypeAlias = Sequence[object] | Mapping[str, object]

_SELF_REFERENCE = "the reference is the subject itself: it proves nothing, and is not used"
_NOT_SWAPPED = "the module's parameters are not differentiated: it does not run under torch.func.functional_call"
_NOWHERE = Domain(names=(), specs=(), dims=(), origin=Origin.DECLARED, active=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a subject.

    Attributes:
        subject: The code under test.
        domain: Where its inputs are drawn from.
        reference: An independent implementation; None if there is none.
        surrogate: True if the gradient is meant to differ from the derivative.
        broadcasts: Whether axes may be drawn of size one where neither spec nor example says so.
        notes: What the report has to say beforehand.
        broken: Why there is nothing to call: a module could not be built; None if it could.
    """

    subject: Subject
    domain: Domain
    reference: Subject | None = None
    surrogate: bool = False
    broadcasts: bool = False
    notes: tuple[str, ...] = ()
    broken: BuildRaised | None = None


def ask(subject: AnySubject, inputs: Inputs | None, reference: AnySubject | None, *, surrogate: bool) -> Question:
    """Finds out where inputs come from, and refuses what cannot be asked before anything is drawn.

    Raises:
        UsageError: For inputs that no domain can be made of, examples on which the forward or the reference raises, a
            reference with other outputs, a forward without tensor outputs.
    """
    if surrogate and reference is None:
        raise UsageError("surrogate=True without a reference: give reference=, whose autograd is the gradient meant")
    adapted = as_subject(subject)
    if isinstance(adapted, FunctionSubject) and isinstance(adapted.function, ModuleFunction):
        with watched():
            return _of_module(adapted, adapted.function, inputs, reference, surrogate=surrogate)
    other = None if reference is None else as_subject(reference)
    notes: list[str] = []
    if other is not None and _same_code(other, adapted):
        notes.append(_SELF_REFERENCE)
        other = None
    with watched():
        return _asked(adapted, other, inputs, surrogate=surrogate, notes=notes)


def _asked(
    subject: Subject, reference: Subject | None, inputs: Any, *, surrogate: bool, notes: Sequence[str]
) -> Question:
    domain = _domain(subject, reference, inputs)
    domain, unclaimed = _claimed(subject, domain)
    _same_outputs(subject, reference, domain)
    return Question(
        subject=subject,
        domain=domain,
        reference=reference,
        surrogate=surrogate,
        broadcasts=_broadcasts(subject, domain),
        notes=(*notes, *unclaimed),
    )


def _of_module(
    subject: FunctionSubject, function: ModuleFunction, inputs: Any, reference: AnySubject | None, *, surrogate: bool
) -> Question:
    """Where a module's inputs come from is found out as for any function of them; its own tensors are added then."""
    try:
        closed = FunctionSubject(subject.name, Closed(function))
    except BuildRaised as error:
        return Question(subject=subject, domain=_NOWHERE, broken=error)
    if isinstance(inputs, (tuple, list)):
        function.materialize(inputs)
        bare = FunctionSubject(subject.name, function.fresh())
        if not module_state.swaps(closed, function, inputs) and module_state.runs(bare, inputs):
            return _asked(bare, _bare_reference(reference), inputs, surrogate=surrogate, notes=[_NOT_SWAPPED])
    inputs = module_state.in_own_dtype(closed, function, inputs)
    names = {held.name for held in function.state}
    given: dict[str, object] = {}
    if isinstance(inputs, Mapping):
        given = {n: v for n, v in inputs.items() if n in names and n not in (signature_names(closed) or ())}
        inputs = {n: v for n, v in inputs.items() if n not in given}
    beside = None
    notes: list[str] = []
    if reference is not None and _same_code(as_subject(reference), subject):
        notes.append(_SELF_REFERENCE)
    elif reference is not None:
        beside = module_state.companion(reference, function)
        notes += [beside.note] if beside.note else []
    differentiated = beside is None or beside.shares
    learnt = differentiated and any(held.learnable for held in function.state)
    domain = _domain(closed, None if beside is None else beside.closed, inputs, beside=learnt)
    domain = module_state.fitted(domain, closed, function)
    _same_outputs(closed, None if beside is None else beside.closed, domain)
    return Question(
        subject=subject,
        domain=module_state.with_state(domain, subject, function, given, differentiated=differentiated),
        reference=None if beside is None else beside.whole,
        surrogate=surrogate,
        broadcasts=_broadcasts(closed, domain),
        notes=tuple(notes),
    )


def _bare_reference(reference: AnySubject | None) -> Subject | None:
    if reference is None:
        return None
    other = as_subject(reference)
    function = module_function(other)
    return other if function is None else FunctionSubject(other.name, Closed(function))


def _same_code(reference: Subject, subject: Subject) -> bool:
    if isinstance(reference, FunctionSubject) and isinstance(subject, FunctionSubject):
        return reference.function == subject.function
    return reference is subject


def _domain(subject: Subject, reference: Subject | None, inputs: Any, *, beside: bool = False) -> Domain:
    """The domain of the inputs; ``beside``: whether something else is differentiated too."""
    if inputs is None:
        return _annotated(subject, beside=beside)
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, Mapping):
        return _named(subject, reference, inputs, beside=beside)
    if isinstance(inputs, Sequence) and not isinstance(inputs, str):
        examples = tuple(inputs)
        if isinstance(subject, ManualSubject):
            examples = _with_own_state(subject, examples)
        names = argument_names(subject, len(examples))
        return _inferred(subject, reference, names, examples, beside=beside)
    raise UsageError(
        f"inputs={inputs!r} ({type(inputs).__name__}): give a tuple of example values, or a mapping from argument name "
        "to spec"
    )


def _annotated(subject: Subject, *, beside: bool) -> Domain:
    if isinstance(subject, FunctionSubject) and not isinstance(getattr(subject.function, "__self__", None), type):
        return declared_domain(specs_from_signature(subject.function, {}), beside=beside)
    raise SpecError(f"{subject.name} needs inputs: a tuple of example values, or a mapping from argument name to spec")


def _named(subject: Subject, reference: Subject | None, inputs: Mapping[str, object], *, beside: bool) -> Domain:
    check_names(subject, tuple(inputs))
    order = [n for n in signature_names(subject) or inputs if n in inputs]
    if isinstance(subject, ManualSubject):
        own = _own_state(subject, [n for n in subject.state if n not in inputs])
        if subject.loop is not None and any(map(is_spec, inputs.values())):  # a training has drawn starts
            shapes = {n: t.shape for n, t in own.items() if isinstance(t, torch.Tensor)}
            own = {n: tensor(" ".join(map(str, shape)), low=-1, high=1) for n, shape in shapes.items()}
        inputs = {**{n: inputs[n] for n in order}, **own}
        order = [n for n in signature_names(subject) or inputs if n in inputs]
    missing = [n for n in _required(subject) if n not in inputs]
    if missing:
        raise SpecError(
            f'{subject.name} needs a spec for its argument {missing[0]!r}, such as {{"{missing[0]}": "n d"}}'
        )
    if not any(map(is_spec, inputs.values())) and any(isinstance(v, torch.Tensor) for v in inputs.values()):
        return _inferred(subject, reference, order, tuple(inputs[name] for name in order), beside=beside)
    return declared_domain({name: as_spec(inputs[name], f"inputs[{name!r}]") for name in order}, beside=beside)


def _required(subject: Subject) -> Sequence[str]:
    """Names of arguments without a default, where they are known."""
    if not isinstance(subject, FunctionSubject):
        return signature_names(subject) or ()
    try:
        parameters = inspect.signature(subject.function).parameters
    except (TypeError, ValueError):
        return ()
    known = signature_names(subject) or ()
    return [n for n in known if n not in parameters or parameters[n].default is inspect.Parameter.empty]


def _own_state(subject: ManualSubject, names: Sequence[str]) -> dict[str, object]:
    """The tensors that a fresh object holds under some attributes."""
    obj: Any = subject.build() if names else None
    found: dict[str, object] = {}
    for name in names:
        value = obj
        for attribute in name.split("."):
            value = getattr(value, attribute, None)
        if not isinstance(value, torch.Tensor):
            raise UsageError(f"{subject.name} has no tensor {name!r}: manual(state=…) names what holds its weights")
        value = value.detach().to(torch.float64) if value.is_floating_point() else value.detach()
        found[name] = value.requires_grad_(value.is_floating_point())
    return found


def _with_own_state(subject: ManualSubject, examples: tuple[object, ...]) -> tuple[object, ...]:
    """Examples for the call alone are completed by the state of a fresh object."""
    known = signature_names(subject)
    if known is None or not subject.state or len(examples) != len(known) - len(subject.state):
        return examples
    return (*examples, *_own_state(subject, subject.state).values())


def _inferred(
    subject: Subject, reference: Subject | None, names: Sequence[str], examples: Sequence[object], *, beside: bool
) -> Domain:
    judge = reference if reference is not None else subject
    names = tuple(names)
    # A forward that writes into its inputs gets neither the caller's own nor those that the domain is read from.
    examples = tree.map_tensors(lambda t: t.detach().clone().requires_grad_(t.requires_grad), tuple(examples))

    def accepts(arguments: tuple[object, ...]) -> bool:
        try:
            outputs = judge.outputs(_point(names, arguments))
        except (SubjectError, OutputError):
            return False
        point = _point(names, arguments)
        finite = all(bool(y.isfinite().all()) for y in outputs)
        return finite and not _out_of_range(subject, point) and not (plain and _breaks_later(judge, point))

    _runs(subject, _point(names, examples), f"the forward of {subject.name}", "inputs that it accepts")
    if reference is not None:
        _runs(reference, _point(names, examples), f"the reference {reference.name}", "one that accepts them")
    plain = reference is not None or _is_plain(subject, _point(names, examples))
    return infer_domain(names, examples, accepts, beside=beside)


def _is_plain(subject: Subject, point: Primals) -> bool:
    """Whether the subject is made of torch's own operations, whose gradients are nobody's claim here."""
    point = _active(point)
    try:
        outputs = subject.traced(point, attached(point.leaves))
    except (SubjectError, OutputError):
        return False
    return outputs is not None and not custom_nodes(outputs)


def _breaks_later(judge: Subject, point: Primals) -> bool:
    """Whether a backward of torch's own rejects what its forward let pass: an index smaller than its source."""
    try:
        linearization = judge.linearize(_active(point))
        linearization.pullback([torch.ones_like(y) for y in linearization.cotangent_like])
    except BackwardRaised:
        return True
    except (SubjectError, OutputError):
        return False
    return False


def _active(point: Primals) -> Primals:
    """The point with every floating tensor in it as a leaf."""
    tensors = [(p, leaf) for p, leaf in tree.leaves(point.values) if isinstance(leaf, torch.Tensor)]
    return replace(point, active=tuple(p for p, leaf in tensors if leaf.is_floating_point()))


def _point(names: tuple[str, ...], examples: Sequence[object]) -> Primals:
    return Primals(names, tree.map_tensors(torch.clone, tuple(examples)), ())


def _runs(subject: Subject, point: Primals, who: str, remedy: str) -> None:
    try:
        subject.outputs(point)
    except SubjectError as error:
        raise UsageError(
            f"{who} raises on the example inputs: {type(error.original).__name__}: {first_line(error.original)}; "
            f"give {remedy}"
        ) from error


def _out_of_range(subject: Subject, point: Primals) -> bool:
    """Whether the subject calls an index too large, which a more lenient reference may overlook."""
    try:
        subject.outputs(point)
    except SubjectError as error:
        return isinstance(error.original, IndexError) or "out of bounds" in str(error.original)
    except OutputError:
        pass
    return False


def _claimed(subject: Subject, domain: Domain) -> tuple[Domain, tuple[str, ...]]:
    """Primals for which a manual class has no place for a gradient are not differentiated, and the report says so."""
    asked = any(isinstance(x, torch.Tensor) and x.requires_grad for x in domain.examples or ())
    if not isinstance(subject, ManualSubject) or asked:
        return domain, ()
    for recipe in trial_recipes(domain):
        primals = realize(domain, recipe)
        try:
            like = subject.linearize(primals).cotangent_like
            claims = subject.claimed(primals, [torch.ones_like(y) for y in like])
        except SubjectError:
            continue
        if not any(claims):
            raise UsageError(
                f"gradients(obj) of {subject.name} names none of {', '.join(primals.labels)}: map a primal's position "
                "or name to its gradient"
            )
        active = tuple(p for p, claimed in zip(domain.active, claims, strict=True) if claimed)
        left = [label for label, claimed in zip(primals.labels, claims, strict=True) if not claimed]
        notes = (f"not differentiated, since gradients(obj) has no place for it: {', '.join(left)}",) if left else ()
        return replace(domain, active=active), notes
    return domain, ()


def _same_outputs(subject: Subject, reference: Subject | None, domain: Domain) -> None:
    """A reference with another number of outputs is the caller's mistake; so is a forward without any."""
    for recipe in trial_recipes(domain):
        primals = realize(domain, recipe)
        try:
            ours = subject.outputs(primals)
            theirs = ours if reference is None else reference.outputs(primals)
        except SubjectError:
            continue
        if reference is not None and len(ours) != len(theirs):
            raise UsageError(
                f"the reference {reference.name} returns {len(theirs)} outputs, {subject.name} {len(ours)}: "
                "give a reference of the same function"
            )


def _broadcasts(subject: Subject, domain: Domain) -> bool:
    """Whether a subject with example inputs may be taken to broadcast: it works element by element on equal shapes.

    A missing sum over broadcast dimensions is autograd's business only behind autograd, so that a manual class or a
    pair is not asked for what its author never claimed.
    """
    if domain.examples is None or not isinstance(subject, FunctionSubject):
        return False
    primals = realize(domain, trial_recipes(domain)[0])
    if len(primals.leaves) < 2 or len({x.shape for x in primals.leaves}) > 1:
        return False
    moved = primals.at([_next_place(x) for x in primals.leaves])
    try:
        here, there = subject.outputs(primals), subject.outputs(moved)
    except SubjectError:
        return False
    # Only what works element by element follows when all elements change places.
    return all(
        y.shape == primals.leaves[0].shape and torch.allclose(_next_place(y), z)
        for y, z in zip(here, there, strict=True)
    )


def _next_place(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).roll(1).reshape(tensor.shape)
