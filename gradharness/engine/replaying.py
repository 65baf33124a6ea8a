"""A kept witness looked at again, by itself: does the same case still fail?"""

from __future__ import annotations

from dataclasses import dataclass

from gradharness.engine.events import Event, WitnessReplayed
from gradharness.engine.kept import KeptStatus, KeptWitness
from gradharness.engine.known import Known, Replayed
from gradharness.engine.plan import plan
from gradharness.engine.question import Question
from gradharness.engine.runner import run
from gradharness.engine.settings import PROFILES, RunSettings
from gradharness.errors import UsageError
from gradharness.model.verdict import Report, Verdict


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a kept witness, with the report that shows it; None where nothing ran."""

    replayed: Replayed
    report: Report | None = None


def replay(question: Question, kept: KeptWitness) -> Replay:
    """Looks at a kept case with the check that failed there, in the setting of the run that found it.

    Nothing else is drawn, but for what tells a failure's kind. Pure, but for what the user's code does.

    Args:
        question: Of the test at the witness's address.
        kept: What failed.
    """
    entry = kept.entry
    try:
        plan((entry.check,), (entry.device,), (entry.dtype,))
    except UsageError as error:
        return Replay(Replayed(kept, KeptStatus.ERRORING, str(error)))
    profile = entry.profile if entry.profile in PROFILES else "dev"
    settings = RunSettings(profile=profile, seed=entry.seed, strict=entry.strict)
    seen: list[Replayed] = []

    def emit(event: Event) -> None:
        if isinstance(event, WitnessReplayed):
            seen.append(event.replayed)

    report = run(question, (entry.item,), settings, emit, Known(lambda _item: (kept,), alone=True))
    return Replay(seen[0] if seen else _not_looked_at(kept, report), report)


def _not_looked_at(kept: KeptWitness, report: Report) -> Replayed:
    """Why the check did not come to look."""
    result = report.results[0]
    if result.verdict is Verdict.FAIL:  # a module that cannot be built
        return Replayed(kept, KeptStatus.FAILING, result.findings[0].message if result.findings else "")
    return Replayed(kept, KeptStatus.UNDECIDED, result.reason or result.verdict.value)
