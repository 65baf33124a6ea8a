"""What users call: ``check``, ``assert_gradients`` and the decorator ``gradient_test``."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gradharness.engine.events import Emit, silent
from gradharness.engine.kept import KeptWitness
from gradharness.engine.known import NOTHING, Known
from gradharness.engine.names import check_names, signature_names
from gradharness.engine.plan import Item, plan
from gradharness.engine.question import AnySubject, Inputs, Question, ask
from gradharness.engine.replaying import Replay, replay
from gradharness.engine.runner import random_state_kept, run, with_findings
from gradharness.engine.settings import RunSettings
from gradharness.errors import GradientError, SpecError
from gradharness.inputs.specs import as_spec, specs_from_signature
from gradharness.model.verdict import Report, Verdict
from gradharness.report.sources import reproduced
from gradharness.report.text import render
from gradharness.subjects import ManualSubject, as_subject


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
    items = plan(_meant(subject, checks), devices, dtypes)
    with random_state_kept():
        question = ask(subject, inputs, reference, surrogate=surrogate)
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


def _meant(subject: AnySubject, checks: Sequence[str] | None) -> Sequence[str] | None:
    """Of a training loop, whose gradients are autograd's, the training alone, unless other checks are asked for."""
    loops = isinstance(subject, ManualSubject) and subject.loop is not None
    return ("training",) if checks is None and loops else checks


def _seed(seed: int | None, profile: str) -> int:
    if seed is not None:
        return seed
    return 0 if profile == "ci" else secrets.randbelow(2**31)


@dataclass(slots=True, kw_only=True)
class GradientTest:
    """A test made by ``gradient_test``: pytest and the command line collect it, and calling it runs it.

    Attributes:
        name: The test's name.
        subject: The code under test.
        options: Arguments of ``check``.
        function: What the decorator stood on; None if the subject was given.
        pytestmark: Marks that pytest's decorators left; those above ``gradient_test`` are added by pytest.
        defaults: Arguments of ``check`` from a project's configuration, for what ``options`` leaves open (None).
    """

    name: str
    subject: AnySubject
    options: Mapping[str, Any]
    function: Callable[..., object] | None = None
    pytestmark: list[Any] = field(default_factory=list)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    _question: Question | None = field(default=None, repr=False)

    # Tells the pytest plugin what this is without an import.
    __gradharness__ = True

    @property
    def __name__(self) -> str:
        """Pytest takes what has a name for something that marks can be put on."""
        return self.name

    def named(self, name: str) -> None:
        """Takes the name under which a module holds it, unless it has a function's."""
        if self.function is None:
            self.name = name

    def items(self) -> tuple[Item, ...]:
        """One per check, device and dtype; does not run the subject."""
        checks = _meant(self.subject, self.options["checks"]) or self.defaults.get("checks")
        devices = self._said("devices")
        return plan(checks, ("cpu",) if devices is None else devices, self._said("dtypes"))

    def question(self) -> Question:
        """What it asks; probing the examples once is enough for all items.

        Raises:
            UsageError: As ``check``.
        """
        if self._question is None:
            options = self.options
            with random_state_kept():
                self._question = ask(
                    self.subject, options["inputs"], options["reference"], surrogate=options["surrogate"]
                )
        return self._question

    def run(
        self,
        items: Sequence[Item] | None = None,
        *,
        emit: Emit = silent,
        seed: int | None = None,
        profile: str | None = None,
        strict: bool = False,
        time_limit: float | None = None,
        known: Known = NOTHING,
    ) -> Report:
        """Runs all items, or only some; arguments that are given override the decorator's.

        What failed before (``known``) is looked at first.

        Raises:
            UsageError: As ``check``.
        """
        profile = profile or self._said("profile") or "dev"
        settings = RunSettings(
            profile=profile,
            seed=_seed(seed if seed is not None else self._said("seed"), profile),
            strict=strict or bool(self._said("strict")),
            time_limit=time_limit if time_limit is not None else self._said("time_limit"),
        )
        question = self.question()
        report = run(question, tuple(items) if items is not None else self.items(), settings, emit, known)
        return with_findings(replace(report, subject=self.name), reproduced(report, question.subject))

    def replay(self, kept: KeptWitness) -> Replay:
        """Looks again at one case that failed.

        Raises:
            UsageError: As ``check``.
        """
        question = self.question()
        seen = replay(question, kept)
        if seen.report is None:
            return seen
        report = with_findings(replace(seen.report, subject=self.name), reproduced(seen.report, question.subject))
        return replace(seen, report=report)

    def _said(self, name: str) -> Any:
        """What the decorator says, else what the configuration says."""
        value = self.options[name]
        return self.defaults.get(name) if value is None else value

    def __call__(self) -> None:
        """Runs all items. Reads no configuration: pytest and the command line do that.

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
    devices: Sequence[str] | None = None,
    dtypes: Sequence[str | torch.dtype] | None = None,
    profile: str | None = None,
    seed: int | None = None,
    time_limit: float | None = None,
    strict: bool | None = None,
    **specs: object,
) -> Any:
    """Makes a gradient test: of the decorated function, or of a given subject.

    As a decorator, ``@gradient_test(x="n d", ...)``, the function *is* the subject: it gets primals, returns outputs.
    As a call, ``test_name = gradient_test(manual(...), x="n d", ...)``, the subject is given.

    What is given here counts more than ``[tool.gradharness]`` in pyproject.toml, and less than an option of the command
    line or of pytest. What is left open (None) is taken from that table, and at last is as ``check`` has it.

    Args:
        subject: The code under test, where this is not used as a decorator with keywords.
        inputs: As for ``check``; in place of keywords.
        reference: As for ``check``.
        surrogate: As for ``check``.
        checks: As for ``check``.
        devices: As for ``check``.
        dtypes: As for ``check``.
        profile: As for ``check``; one of the project's own, too.
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
    plan(checks, ("cpu",) if devices is None else devices, dtypes)
    RunSettings(profile=profile or "dev", seed=seed or 0, time_limit=time_limit)

    def make(target: AnySubject) -> GradientTest:
        name = getattr(target, "__name__", None) or getattr(target, "name", None) or type(target).__name__
        return GradientTest(
            name=str(name),
            subject=target,
            options={**options, "inputs": inputs if inputs is not None else _specs(target, specs)},
            function=target if inspect.isfunction(target) else None,
            pytestmark=list(getattr(target, "pytestmark", [])),
        )

    return make if subject is None else make(subject)


def _specs(target: AnySubject, specs: Mapping[str, object]) -> Mapping[str, object]:
    """Keywords of the decorator as specs, in the order of the subject's arguments."""
    if inspect.isfunction(target):
        return specs_from_signature(target, specs)
    subject = as_subject(target)
    check_names(subject, tuple(specs))
    order = [n for n in signature_names(subject) or specs if n in specs]
    if not order:
        raise SpecError(f'{subject.name} needs inputs: give inputs=, or a spec per argument, such as x="n d"')
    return {name: as_spec(specs[name], name) for name in order}
