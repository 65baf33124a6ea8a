"""The stand-alone scripts of a report's findings."""

from __future__ import annotations

from dataclasses import replace

from gradharness.checks.training_script import MARK
from gradharness.model.subject import Subject
from gradharness.model.verdict import Fault, Finding, Report, Severity, Witness
from gradharness.report.failure import Failure, SubjectSource
from gradharness.report.reproduction import script
from gradharness.report.traced_source import module_source, traced_source
from gradharness.report.untraced_source import manual_source, pair_source, training_source
from gradharness.subjects import FunctionSubject, ManualSubject, PairSubject
from gradharness.subjects.module_function import ModuleFunction

_MOST = 100_000  # elements that a script may hold; the seed replays what is larger
_REPEATS = 20  # of a call whose gradient is another one each time, and may be right by chance


def reproduced(report: Report, subject: Subject) -> dict[int, Finding]:
    """Every finding that has a witness, by its ``id``, with its reproducer or, in its evidence, why there is none."""
    noisy = any(f.fault is Fault.NOT_DETERMINISTIC and f.severity is Severity.ERROR for f in report.findings)
    return {id(f): _with_script(f, f.witness, subject, noisy=noisy) for f in report.findings if f.witness is not None}


def _with_script(finding: Finding, witness: Witness, subject: Subject, *, noisy: bool) -> Finding:
    why = _unscripted(finding, witness)
    if why:
        return replace(finding, evidence=(*finding.evidence, f"there is no stand-alone script: {why}"))
    return replace(finding, reproducer=script(_source(subject, witness), _failure(finding, witness, noisy=noisy)))


def _unscripted(finding: Finding, witness: Witness) -> str:
    """Why a script would not show it; empty where one does."""
    if finding.fault is Fault.REFERENCE_SUSPECT:
        return "it would show the subject, which may well be right"
    if witness.elements > _MOST:
        return f"it would hold {witness.elements} numbers; the seed gives them again"
    return ""


def _failure(finding: Finding, witness: Witness, *, noisy: bool) -> Failure:
    return Failure(
        title=finding.message,
        arguments=witness.arguments,
        active=witness.active,
        outputs=witness.outputs,
        cotangents=witness.cotangents,
        label=witness.label,
        expected=witness.whole,
        bound=witness.whole_bound,
        steps=witness.steps,
        repeats=_REPEATS if noisy else 1,
    )


def _source(subject: Subject, witness: Witness) -> SubjectSource:
    names = [name for name, _ in witness.arguments]
    if isinstance(subject, ManualSubject):
        if any(MARK in line for line in witness.steps):
            return training_source(subject, names, " ".join(witness.steps))
        return manual_source(subject, names)
    if isinstance(subject, PairSubject):
        return pair_source(subject, names)
    assert isinstance(subject, FunctionSubject)
    if isinstance(subject.function, ModuleFunction):
        return module_source(subject.function, names)
    return traced_source(subject.function)
