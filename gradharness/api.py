"""What users call: ``check``, ``assert_gradients`` and the decorator ``gradient_test``."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch

from gradharness.engine.events import Emit, silent
from gradharness.engine.plan import Item, plan
from gradharness.engine.runner import Question, run, with_findings
from gradharness.engine.settings import RunSettings
from gradharness.errors import GradientError, OutputError, SpecError, SubjectError, UsageError, first_line
from gradharness.inputs.domain import Domain, declared_domain
from gradharness.inputs.plain import trial_recipes
from gradharness.inputs.probe import infer_domain
from gradharness.inputs.recipe import realize
from gradharness.inputs.specs import as_spec, specs_from_signature
from gradharness.model.subject import Primals, Subject
from gradharness.model.verdict import Report, Verdict
from gradharness.report.sources import reproduced
from gradharness.report.text import render
from gradharness.subjects import FunctionSubject, ManualSubject, PairSubject, as_subject

AnySubject: TypeAlias = Callable[..., object] | Subject
Inputs: TypeAlias = Sequence[object] | Mapping[str, object]

_SELF_REFERENCE = "the reference is the subject itself: it proves nothing, and is not used"


def check(
    subject: AnySubject,
    inputs: Inputs | None = None,
    *,
    reference: AnySubject | None = None,
    surrogate: bool = False,
    checks: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    dtypes: Sequence[str | torch.dtype] | None = None,
    profile: str = "dev",
    seed: int | None = None,
    time_limit: float | None = None,
    strict: bool = False,
    emit: Emit = silent,
) -> Report:
    """Decides whether a hand-written backward is right.

    Args:
        subject: A ``torch.autograd.Function`` (or its ``apply``), any callable that goes through autograd,
            ``manual(...)`` or ``pair(...)``.
        inputs: A tuple of example values, whose shapes and values are then varied as far as the forward (or the
            reference) accepts; or a mapping from argument name to spec. None reads jaxtyping annotations.
        reference: An independent, differentiable implementation of the same function.
        surrogate: Declares that the gradient is meant to differ from the derivative (straight-through, reversal): it
            is compared with autograd of the reference alone.
        checks: Names of checks; all by default.
        devices: "cpu", "cuda" or "cuda:1"; one that is not there is skipped with its reason.
        dtypes: Names or torch dtypes; float64 by default.
        profile: Budget: "dev", "ci" or "deep".
        seed: Gives the same verdict again. None draws one (profile "ci": takes 0); the report names it.
        time_limit: Seconds for everything; None for no limit.
        strict: Holds float64 to 1e-9, and lets warnings fail.
        emit: Gets the run's events while it runs.

    Returns:
        The report.

    Raises:
        UsageError: If the call itself is wrong: an unknown name, a malformed spec, no differentiable input, examples
            on which the forward raises, a reference with other outputs.
    """
    settings = RunSettings(profile=profile, seed=_seed(seed, profile), strict=strict, time_limit=time_limit)
    items = plan(checks, devices, dtypes)
    question = _question(as_subject(subject), inputs, reference, surrogate=surrogate)
    report = run(question, items, settings, emit)
    return with_findings(report, reproduced(report, question.subject))


def assert_gradients(subject: AnySubject, inputs: Inputs | None = None, **options: Any) -> None:
    """Raises if ``check`` of the same arguments does not pass.

    Raises:
        GradientError: If the verdict is FAIL or UNDECIDED; its text is the report.
        UsageError: As ``check``.
    """
    report = check(subject, inputs, **options)
    if report.verdict is not Verdict.PASS:
        raise GradientError(render(report))


def _seed(seed: int | None, profile: str) -> int:
    if seed is not None:
        return seed
    return 0 if profile == "ci" else secrets.randbelow(2**31)


def _question(subject: Subject, inputs: Inputs | None, reference: AnySubject | None, *, surrogate: bool) -> Question:
    other = None if reference is None else as_subject(reference)
    notes: list[str] = []
    if other is not None and _same_code(other, subject):
        notes.append(_SELF_REFERENCE)
        other = None
    domain = _domain(subject, other, inputs)
    domain, more = _unclaimed(subject, domain)
    _first_call(subject, other, domain)
    return Question(
        subject=subject,
        domain=domain,
        reference=other,
        surrogate=surrogate,
        broadcasts=_broadcasts(subject, domain),
        notes=(*notes, *more),
    )


def _broadcasts(subject: Subject, domain: Domain) -> bool:
    """Whether a subject with example inputs may be taken to broadcast: it works element by element on equal shapes.

    A missing sum over broadcast dimensions is autograd's business only behind autograd, so that a manual class or a
    pair is not asked for what its author never claimed.
    """
    if domain.examples is None or not isinstance(subject, FunctionSubject):
        return False
    primals = realize(domain, trial_recipes(domain)[0])
    try:
        shapes = {t.shape for t in subject.outputs(primals)}
    except SubjectError:
        return False
    return len(primals.leaves) > 1 and {t.shape for t in primals.leaves} == shapes and len(shapes) == 1


def _same_code(reference: Subject, subject: Subject) -> bool:
    if isinstance(reference, FunctionSubject) and isinstance(subject, FunctionSubject):
        return reference.function == subject.function
    return reference is subject


def _domain(subject: Subject, reference: Subject | None, inputs: Inputs | None) -> Domain:
    if inputs is None:
        return declared_domain(specs_from_signature(_callable_of(subject), {}))
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, str) or not isinstance(inputs, (Mapping, Sequence)):
        raise UsageError(
            f"inputs={inputs!r} ({type(inputs).__name__}): give a tuple of example values, or a mapping from argument "
            "name to spec"
        )
    if isinstance(inputs, Mapping):
        if any(isinstance(v, torch.Tensor) for v in inputs.values()):
            names, examples = tuple(inputs), tuple(inputs.values())
            _check_names(subject, names)
            return _inferred(subject, reference, names, examples)
        _check_names(subject, tuple(inputs))
        return declared_domain({name: as_spec(value, f"inputs[{name!r}]") for name, value in inputs.items()})
    examples = tuple(inputs)
    return _inferred(subject, reference, argument_names(subject, len(examples)), examples)


def _inferred(subject: Subject, reference: Subject | None, names: Sequence[str], examples: Sequence[object]) -> Domain:
    if isinstance(subject, ManualSubject) and len(examples) < len(names):
        names = names[: len(examples)]
    judge = reference if reference is not None else subject

    def accepts(arguments: tuple[object, ...]) -> bool:
        try:
            outputs = judge.outputs(Primals(tuple(names), arguments, ()))
        except (SubjectError, OutputError):
            return False
        return all(bool(y.isfinite().all()) for y in outputs) and not _out_of_range(subject, names, arguments)

    _examples_run(subject, names, examples)
    return infer_domain(names, examples, accepts)


def _out_of_range(subject: Subject, names: Sequence[str], arguments: tuple[object, ...]) -> bool:
    """Whether the subject calls an index too large, which a more lenient reference may overlook."""
    try:
        subject.outputs(Primals(tuple(names), arguments, ()))
    except SubjectError as error:
        return isinstance(error.original, IndexError) or "out of bounds" in str(error.original)
    except OutputError:
        pass
    return False


def _examples_run(subject: Subject, names: Sequence[str], examples: Sequence[object]) -> None:
    try:
        subject.outputs(Primals(tuple(names), tuple(examples), ()))
    except SubjectError as error:
        raise UsageError(
            f"the forward of {subject.name} raises on the example inputs: "
            f"{type(error.original).__name__}: {first_line(error.original)}; give inputs that it accepts"
        ) from error


def _first_call(subject: Subject, reference: Subject | None, domain: Domain) -> None:
    """A reference with other outputs is the caller's mistake, and is told before anything is drawn."""
    if reference is None:
        return
    for recipe in trial_recipes(domain):
        primals = realize(domain, recipe)
        try:
            ours, theirs = subject.outputs(primals), reference.outputs(primals)
        except SubjectError as error:
            if domain.examples is not None and error.phase == "forward":
                _reference_raises(reference, primals)
            continue
        if len(ours) != len(theirs):
            raise UsageError(
                f"the reference {reference.name} returns {len(theirs)} outputs, {subject.name} {len(ours)}: "
                "give a reference of the same function"
            )


def _reference_raises(reference: Subject, primals: Primals) -> None:
    try:
        reference.outputs(primals)
    except SubjectError as error:
        raise UsageError(
            f"the reference {reference.name} raises on the example inputs: "
            f"{type(error.original).__name__}: {first_line(error.original)}; give one that accepts them"
        ) from error


def _unclaimed(subject: Subject, domain: Domain) -> tuple[Domain, list[str]]:
    """Primals for which a manual class has no place for a gradient are not differentiated, and the report says so."""
    if not isinstance(subject, ManualSubject) or _asked_for(domain):
        return domain, []
    for recipe in trial_recipes(domain):
        primals = realize(domain, recipe)
        try:
            like = subject.linearize(primals).cotangent_like
            claims = subject.claimed(primals, [torch.ones_like(y) for y in like])
        except SubjectError:
            continue
        if not any(claims):
            raise UsageError(f"gradients(obj) of {subject.name} names none of {', '.join(primals.labels)}")
        active = tuple(p for p, claimed in zip(domain.active, claims, strict=True) if claimed)
        left = [label for label, claimed in zip(primals.labels, claims, strict=True) if not claimed]
        notes = [f"not differentiated, since gradients(obj) has no place for it: {', '.join(left)}"] if left else []
        return replace(domain, active=active), notes
    return domain, []


def _asked_for(domain: Domain) -> bool:
    """Whether the examples themselves say which gradients are wanted."""
    examples = domain.examples or ()
    return any(isinstance(x, torch.Tensor) and x.requires_grad for x in examples)


def _callable_of(subject: Subject) -> Callable[..., object]:
    if isinstance(subject, FunctionSubject):
        owner = getattr(subject.function, "__self__", None)
        return subject.function if owner is None or not isinstance(owner, type) else owner.forward
    if isinstance(subject, PairSubject):
        return subject.forward
    raise SpecError(f"{subject.name} needs inputs: a tuple of example values, or a mapping from argument name to spec")


def signature_names(subject: Subject) -> tuple[str, ...] | None:
    """Names of a subject's arguments as far as its signature tells; None if it does not."""
    try:
        if isinstance(subject, ManualSubject):
            return _manual_names(subject)
        function = _callable_of(subject)
        names = [p.name for p in inspect.signature(function).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        variable = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())
    except (TypeError, ValueError, SpecError):
        return None
    if names and names[0] == "ctx" and isinstance(getattr(function, "__self__", None), type(None)):
        names = names[1:] if isinstance(subject, FunctionSubject) else names
    return None if variable else tuple(names)


def _manual_names(subject: ManualSubject) -> tuple[str, ...] | None:
    forward = subject.forward if callable(subject.forward) else getattr(subject.build, subject.forward, None)
    if forward is None:
        forward = getattr(subject.build(), str(subject.forward), None)
        skipped = 0
    else:
        skipped = 1  # the object itself
    if forward is None:
        return None
    parameters = inspect.signature(forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return (*[p.name for p in parameters][skipped:], *subject.targets, *subject.state)


def argument_names(subject: Subject, count: int) -> tuple[str, ...]:
    """Names for ``count`` positional arguments."""
    known = signature_names(subject) or ()
    if isinstance(subject, ManualSubject) and len(known) > count:
        return known
    return tuple(known[i] if i < len(known) else f"argument {i}" for i in range(count))


def _check_names(subject: Subject, names: tuple[str, ...]) -> None:
    known = signature_names(subject)
    if known is None:
        return
    for name in names:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its arguments: {', '.join(known)}"
            raise SpecError(f"{subject.name} has no argument {name!r}: {hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientTest:
    """A test made by ``gradient_test``: pytest and the command line collect it, and calling it runs it.

    Attributes:
        name: The test's name.
        function: What the decorator stood on.
        subject: The code under test.
        options: Arguments of ``check``.
        pytestmark: Marks that pytest's decorators left on the function.
    """

    name: str
    function: Callable[..., object]
    subject: AnySubject
    options: Mapping[str, Any]
    pytestmark: list[Any] = field(default_factory=list)

    # Tells the pytest plugin what this is without an import.
    __gradharness__ = True

    def items(self) -> tuple[Item, ...]:
        """One per check, device and dtype; does not run the subject."""
        return plan(self.options.get("checks"), self.options.get("devices", ("cpu",)), self.options.get("dtypes"))

    def run(
        self,
        items: Sequence[Item] | None = None,
        *,
        emit: Emit = silent,
        seed: int | None = None,
        profile: str | None = None,
        strict: bool | None = None,
        time_limit: float | None = None,
    ) -> Report:
        """Runs all items, or only some; arguments that are given override the decorator's.

        Raises:
            UsageError: As ``check``.
        """
        options = dict(self.options)
        profile = profile or options.get("profile") or "dev"
        settings = RunSettings(
            profile=profile,
            seed=_seed(seed if seed is not None else options.get("seed"), profile),
            strict=options.get("strict", False) if strict is None else strict,
            time_limit=time_limit if time_limit is not None else options.get("time_limit"),
        )
        question = self._question()
        report = run(question, tuple(items) if items is not None else self.items(), settings, emit)
        return with_findings(replace(report, subject=self.name), reproduced(report, question.subject))

    def _question(self) -> Question:
        return _question(
            as_subject(self.subject),
            self.options["inputs"],
            self.options.get("reference"),
            surrogate=self.options.get("surrogate", False),
        )

    def __call__(self) -> None:
        """Runs all items.

        Raises:
            GradientError: If the verdict is not PASS; its text is the report.
        """
        report = self.run()
        if report.verdict is not Verdict.PASS:
            raise GradientError(render(report))


def gradient_test(
    subject: AnySubject | None = None,
    *,
    inputs: Inputs | None = None,
    reference: AnySubject | None = None,
    surrogate: bool = False,
    checks: Sequence[str] | None = None,
    devices: Sequence[str] = ("cpu",),
    dtypes: Sequence[str | torch.dtype] | None = None,
    profile: str | None = None,
    seed: int | None = None,
    time_limit: float | None = None,
    strict: bool = False,
    **specs: object,
) -> Any:
    """Makes a gradient test: of the decorated function, or of a given subject.

    As a decorator, ``@gradient_test(x="n d", ...)``, the function *is* the subject: it gets primals, returns outputs.
    As a call, ``test_name = gradient_test(manual(...), x="n d", ...)``, the subject is given.

    Args:
        subject: The code under test, where this is not used as a decorator with keywords.
        inputs: As for ``check``; in place of keywords.
        reference: As for ``check``.
        surrogate: As for ``check``.
        checks: As for ``check``.
        devices: As for ``check``.
        dtypes: As for ``check``.
        profile: As for ``check``; the command line's or pytest's by default.
        seed: As for ``check``.
        time_limit: As for ``check``.
        strict: As for ``check``.
        **specs: One per argument: named dims (``"n d"``), ``tensor(...)``, ``index(...)``, ``mask(...)``, a Hypothesis
            strategy, or an example value. Arguments without one take their jaxtyping annotation or their default.

    Returns:
        A ``GradientTest``, or a decorator that makes one.

    Raises:
        SpecError: If a spec is malformed or fits no argument.
        UnknownNameError: For a check, device, dtype or profile that does not exist.
    """
    options = {
        "reference": reference,
        "surrogate": surrogate,
        "checks": checks,
        "devices": devices,
        "dtypes": dtypes,
        "profile": profile,
        "seed": seed,
        "time_limit": time_limit,
        "strict": strict,
    }
    plan(checks, devices, dtypes)
    RunSettings(profile=profile or "dev", seed=seed or 0, time_limit=time_limit)

    def make(target: AnySubject) -> GradientTest:
        chosen = inputs if inputs is not None else _specs(target, specs)
        function = target if inspect.isfunction(target) else make
        name = getattr(target, "__name__", None) or getattr(target, "name", None) or type(target).__name__
        marks = list(getattr(target, "pytestmark", []))
        return GradientTest(
            name=str(name),
            function=function,
            subject=target,
            options={**options, "inputs": chosen},
            pytestmark=marks,
        )

    return make if subject is None else make(subject)


def _specs(target: AnySubject, specs: Mapping[str, object]) -> Mapping[str, object]:
    if inspect.isfunction(target):
        return specs_from_signature(target, specs)
    subject = as_subject(target)
    _check_names(subject, tuple(specs))
    order = signature_names(subject) or tuple(specs)
    missing = [name for name in order if name not in specs]
    if missing:
        raise SpecError(f"{subject.name} needs a spec for its argument {missing[0]!r}, such as {missing[0]}=\"n d\"")
    return {name: as_spec(specs[name], name) for name in order}
