"""What came of kept witnesses, in lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gradharness.engine.kept import KeptStatus
from gradharness.engine.known import Replayed
from gradharness.engine.replaying import Replay
from gradharness.report import text

WORDS = {
    KeptStatus.FIXED: "fixed",
    KeptStatus.FAILING: "still fails",
    KeptStatus.ERRORING: "cannot run",
    KeptStatus.UNDECIDED: "undecided",
}
STYLES = {
    KeptStatus.FIXED: "green",
    KeptStatus.FAILING: "bold red",
    KeptStatus.ERRORING: "yellow",
    KeptStatus.UNDECIDED: "yellow",
}


def news(replayed: Iterable[Replayed]) -> Iterator[str]:
    """What a run has to say beside its findings: of what was fixed before and still is, nothing."""
    for one in replayed:
        kept, before = one.kept.entry, one.kept.entry.status
        if one.status is KeptStatus.FIXED and before is not KeptStatus.FIXED:
            yield f"fixed: {kept.id} no longer fails ({kept.fault})"
        elif one.status is KeptStatus.FAILING:
            word = "fails again" if before is KeptStatus.FIXED else "still fails"
            yield f"{word}: {kept.id} ({kept.fault})"
        elif one.status in (KeptStatus.ERRORING, KeptStatus.UNDECIDED):
            yield f"{WORDS[one.status]}: {kept.id} ({kept.fault}): {one.reason}"


def line(replayed: Replayed) -> str:
    """One witness: its id, what it was, what came of it."""
    kept = replayed.kept.entry
    reason = f": {replayed.reason}" if replayed.reason else ""
    return f"{WORDS[replayed.status].ljust(11)}  {kept.id}  {kept.title}{reason}"


def block(replay: Replay, command: str) -> str:
    """The finding that a failing witness shows; empty where nothing failed.

    Args:
        replay: What came of it.
        command: What looks at it again.
    """
    if replay.report is None or replay.replayed.status is not KeptStatus.FAILING:
        return ""
    kept = replay.replayed.kept.entry
    found = [
        text.finding_text(
            replay.report,
            replace(seen, finding=replace(seen.finding, replay=command)),
            target=kept.address,
            full=True,
        )
        for seen in text.worst_last(replay.report)
    ]
    return "\n\n".join([*found, f"  kept since {kept.first_seen[:10]}, failed last {kept.last_seen[:10]}\n"])


def summary(replayed: Iterable[Replayed], *, refused: int = 0) -> str:
    """How many there are of each kind.

    Args:
        replayed: What came of those that could be read.
        refused: How many files could not.
    """
    found = [one.status for one in replayed]
    several = {**WORDS, KeptStatus.FAILING: "still fail"}
    counts = [
        f"{found.count(status)} {word if found.count(status) == 1 else several[status]}"
        for status, word in WORDS.items()
        if status in found
    ]
    if refused:
        counts.append(f"{refused} file{'' if refused == 1 else 's'} refused")
    return ", ".join([f"{len(found)} kept witness{'' if len(found) == 1 else 'es'}", *counts])
