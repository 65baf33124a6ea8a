"""What came of kept witnesses, told from looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradharness.checks.base import Setting
from gradharness.engine.kept import KeptStatus
from gradharness.engine.known import Given, Known, Replayed, given
from gradharness.engine.looking import Look
from gradharness.engine.metering import Metered
from gradharness.engine.plan import Item
from gradharness.engine.settings import RunSettings
from gradharness.errors import UsageError
from gradharness.inputs.domain import Domain
from gradharness.model.verdict import CheckResult, Verdict

_OUTSIDE = "its values are none of the subject's inputs any more: {}"
_ELSEWHERE = "this case passes; the check does not"
_DRAWS = "this case passes, but the subject draws random numbers: gradharness replay draws the same ones again"


def ready(known: Known, item: Item, domain: Domain, setting: Setting) -> tuple[list[Given], list[Replayed]]:
    """The cases of an item's kept witnesses, and those that are none any more."""
    cases: list[Given] = []
    refused: list[Replayed] = []
    for kept in known.of(item):
        try:
            cases.append(given(kept, domain, dtype=setting.dtype, device=setting.device))
        except UsageError as error:
            refused.append(Replayed(kept, KeptStatus.ERRORING, str(error)))
    return cases, refused


def outcomes(looks: Sequence[Look], result: CheckResult, settings: RunSettings, setting: Setting) -> Iterator[Replayed]:
    """What came of each; one is fixed only if its check passes as well.

    Args:
        looks: At kept cases.
        result: Of their check, in the same run.
        settings: Of that run.
        setting: In which it ran.
    """
    subject = setting.subject
    seeded = isinstance(subject, Metered) and subject.seed is not None
    for look in looks:
        if look.given is None:
            continue
        kept = look.given.kept
        status, reason = came_of(look, strict=settings.strict)
        if status is KeptStatus.FIXED and result.verdict is not Verdict.PASS:
            status, reason = KeptStatus.UNDECIDED, _ELSEWHERE
        elif status is KeptStatus.FIXED and seeded and kept.entry.seed != settings.seed:
            status, reason = KeptStatus.UNDECIDED, _DRAWS
        yield Replayed(kept, status, reason)


def came_of(look: Look, *, strict: bool) -> tuple[KeptStatus, str]:
    """What one look shows, and why it is neither right nor wrong."""
    seen = look.observation
    if seen is None:
        return KeptStatus.ERRORING, _OUTSIDE.format(look.reason)
    if seen.verdict is Verdict.FAIL or (strict and seen.warnings):
        return KeptStatus.FAILING, ""
    if seen.verdict is Verdict.PASS:
        return KeptStatus.FIXED, ""
    return KeptStatus.UNDECIDED, seen.reason
