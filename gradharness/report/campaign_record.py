"""What a campaign has found as a versioned JSON file.

This module imports msgspec, so import it only where a record is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from gradharness.engine.findings import CampaignFinding, Progress
from gradharness.report import record

SCHEMA_VERSION = 1


class CampaignFindingRecord(msgspec.Struct, kw_only=True):
    """One finding. ``status`` is "found", "recurs" or "gone"; ``replay`` is a program's literal, or a test's JSON."""

    number: int
    status: str
    source: str
    key: str
    title: str
    text: str
    replay: str
    round: int


class CampaignRecord(msgspec.Struct, kw_only=True):
    """A whole file."""

    schema_version: int
    tool: str
    kind: str
    seed: int
    rounds: int
    programs: int
    tests: int
    undecided: int
    ops: list[str]
    findings: list[CampaignFindingRecord]


def dump(findings: Sequence[CampaignFinding], progress: Progress, seed: int, path: str | os.PathLike[str]) -> None:
    """Write a record; the file is either the old one or the whole new one, never a part.

    Raises:
        UsageError: The file cannot be written.
    """
    made = CampaignRecord(
        schema_version=SCHEMA_VERSION,
        tool=record.TOOL,
        kind="campaign",
        seed=seed,
        rounds=progress.rounds,
        programs=progress.programs,
        tests=progress.tests,
        undecided=progress.undecided,
        ops=sorted(progress.ops),
        findings=[_finding(one) for one in findings],
    )
    record.write(made, path)


def _finding(one: CampaignFinding) -> CampaignFindingRecord:
    return CampaignFindingRecord(
        number=one.number,
        status=one.status.value,
        source=one.source,
        key=one.key,
        title=one.title,
        text=one.text,
        replay=one.replay,
        round=one.round,
    )
