"""From a run's report to what a baseline holds of it, and from several runs to a new baseline."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradharness.baseline.model import (
    FAIL,
    PASS,
    SKIPPED,
    Baseline,
    Entry,
    Environment,
    Key,
    Known,
    Measured,
    rounded,
)

if TYPE_CHECKING:
    from gradharness.model.verdict import Report

# Times differ from run to run: a cost this near to the recorded one is the same, and its line stays as it is.
_SAME_COST = 1.25


def measured(key: Key, report: Report, *, version: str, strict: bool = False) -> Measured:
    """What the report of one item has to say.

    Args:
        key: The item.
        report: Of a run of this item alone.
        version: Of gradharness: another one may draw other cases.
        strict: Whether warnings failed in it.
    """
    (result,) = report.results
    verdict = result.verdict.name.lower()
    error = next((f for f in result.findings if f.severity.value == "error" or strict), None)
    environment = _environment(report, key.device, version, strict=strict)
    entry = Entry(
        verdict=verdict,
        error=rounded(result.error),
        resolution=rounded(result.resolution),
        saved=result.saved_bytes,
        cost=rounded(result.cost_ratio),
        calls=result.calls if verdict == PASS else 0,
        environment=environment,
    )
    witness = error.witness if error is not None else None
    return Measured(
        key=key,
        entry=entry,
        fault=error.fault.value if error is not None else "",
        label=witness.label if witness is not None else "",
        message=result.reason or (error.message if error is not None else ""),
        no_device=verdict == SKIPPED and key.device != "cpu" and "cuda" in result.reason.lower(),
    )


def _environment(report: Report, device: str, version: str, *, strict: bool) -> Environment:
    """Everything that a figure may depend on; the name of a GPU only where one was used."""
    pairs = [(name, value) for name, value in report.environment if name != "cuda" or device != "cpu"]
    run = [("profile", report.profile), ("seed", str(report.seed))]
    return (("gradharness", version), *pairs, *run, *((("strict", "yes"),) if strict else ()))


def run_settings(
    said: Mapping[str, Any], entry: Entry | None, *, profile: str | None = None, seed: int | None = None
) -> tuple[str, int]:
    """Profile and seed of a run that is to be compared, or recorded.

    What was asked for counts most, then how the entry was recorded, then what the test and the configuration say; a
    baseline of which nobody says anything is drawn from seed 0 in the profile ``ci``.

    Args:
        said: Options of the test.
        entry: The recorded one to be compared with; None to record.
        profile: As asked for.
        seed: As asked for.
    """
    recorded = dict(entry.environment) if entry is not None else {}
    if seed is None and recorded.get("seed", "").isdecimal():
        seed = int(recorded["seed"])
    if seed is None:
        seed = said.get("seed") or 0
    return profile or recorded.get("profile") or said.get("profile") or "ci", seed


def merged(
    baseline: Baseline, found: Iterable[Measured], gone: Collection[Key], known: Mapping[Key, Known]
) -> Baseline:
    """The baseline with what was measured, and without what is gone; all else stays as it is.

    Args:
        baseline: What there is by now.
        found: To be recorded.
        gone: Entries whose tests are no longer there.
        known: Failures that are accepted from now on.
    """
    entries = {key: entry for key, entry in baseline.entries.items() if key not in gone}
    failures = {key: one for key, one in baseline.known.items() if key not in gone}
    for one in found:
        if one.no_device:
            continue
        entries[one.key] = _settled(baseline.entries.get(one.key), one.entry)
        if one.entry.verdict != FAIL:
            failures.pop(one.key, None)
    return Baseline(entries, {**failures, **known})


def _settled(was: Entry | None, now: Entry) -> Entry:
    """The new entry, with the old cost where that has only flickered."""
    if was is None or was.cost is None or now.cost is None or was.environment != now.environment:
        return now
    near = was.cost > 0 and 1 / _SAME_COST <= now.cost / was.cost <= _SAME_COST
    return replace(now, cost=was.cost) if near else now
