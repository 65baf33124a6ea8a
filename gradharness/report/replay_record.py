"""What came of kept witnesses as a versioned JSON file.

This module imports msgspec, so import it only where a record is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from gradharness.engine.replaying import Replay
from gradharness.errors import StoreError, first_line
from gradharness.report import record
from gradharness.report.schema import ReportRecord

SCHEMA_VERSION = 1


class ReplayedRecord(msgspec.Struct, kw_only=True):
    """One witness. ``before`` and ``status`` are "failing", "fixed", "erroring" or "undecided".

    ``report`` is as in the record of ``gradharness check``; null where nothing ran.
    """

    id: str
    address: str
    check: str
    device: str
    dtype: str
    fault: str
    message: str
    first_seen: str
    last_seen: str
    before: str
    status: str
    reason: str
    report: ReportRecord | None


class ReplayRecord(msgspec.Struct, kw_only=True):
    """A whole file. ``refused`` has a line for every file that could not be read."""

    schema_version: int
    tool: str
    kind: str
    replayed: list[ReplayedRecord]
    refused: list[str]


def dump(replays: Sequence[Replay], refused: Sequence[StoreError], path: str | os.PathLike[str]) -> None:
    """Write a record; the file is either the old one or the whole new one, never a part.

    Raises:
        UsageError: The file cannot be written.
    """
    made = ReplayRecord(
        schema_version=SCHEMA_VERSION,
        tool=record.TOOL,
        kind="replay",
        replayed=[_replayed(one) for one in replays],
        refused=[first_line(error, 1000) for error in refused],
    )
    record.write(made, path)


def _replayed(one: Replay) -> ReplayedRecord:
    entry = one.replayed.kept.entry
    return ReplayedRecord(
        id=entry.id,
        address=entry.address,
        check=entry.check,
        device=entry.device,
        dtype=entry.dtype,
        fault=entry.fault,
        message=entry.message,
        first_seen=entry.first_seen,
        last_seen=entry.last_seen,
        before=entry.status.value,
        status=one.replayed.status.value,
        reason=one.replayed.reason,
        report=None if one.report is None else record.to_record([one.report])["reports"][0],
    )
