"""An audit as a versioned JSON file.

This module imports msgspec, so import it only where a record is written.
"""

from __future__ import annotations

import os

import msgspec

from gradharness.audit.coverage import Audit, Entry, Standing
from gradharness.audit.definitions import short
from gradharness.report import record

SCHEMA_VERSION = 1


class CoverRecord(msgspec.Struct, kw_only=True):
    """A gradient test that reaches a definition; ``direct`` if it is about this one alone."""

    test: str
    direct: bool


class DefinitionRecord(msgspec.Struct, kw_only=True):
    """One row. ``standing`` is "covered", "no test", "exempt" or "not counted"; ``note`` says why, if it is known."""

    name: str
    kind: str
    file: str
    line: int
    local: bool
    standing: str
    covered_by: list[CoverRecord]
    exemption: str | None
    exemption_unneeded: bool
    note: str


class TestRecord(msgspec.Struct, kw_only=True):
    """A gradient test that was tried; ``failed`` says why it reached nothing."""

    address: str
    failed: str


class AuditRecord(msgspec.Struct, kw_only=True):
    """A whole file."""

    schema_version: int
    tool: str
    kind: str
    package: str
    percentage: float
    fail_under: float | None
    covered: int
    uncovered: int
    exempt: int
    not_counted: int
    definitions: list[DefinitionRecord]
    tests: list[TestRecord]
    unread: dict[str, str]
    mistakes: list[str]


def dump(audit: Audit, limit: float | None, path: str | os.PathLike[str]) -> None:
    """Write a record; the file is either the old one or the whole new one, never a part.

    Raises:
        UsageError: The file cannot be written.
    """
    made = AuditRecord(
        schema_version=SCHEMA_VERSION,
        tool=record.TOOL,
        kind="audit",
        package=audit.listing.package,
        percentage=float(audit.percentage),
        fail_under=limit,
        covered=audit.count(Standing.COVERED),
        uncovered=audit.count(Standing.UNCOVERED),
        exempt=audit.count(Standing.EXEMPT),
        not_counted=audit.count(Standing.LEFT_OUT),
        definitions=[_definition(entry) for entry in audit.entries],
        tests=[TestRecord(address=test.address, failed=test.failed) for test in audit.tests],
        unread={short(one.path): one.reason for one in audit.listing.unread},
        mistakes=list(audit.listing.mistakes),
    )
    record.write(made, path)


def _definition(entry: Entry) -> DefinitionRecord:
    one = entry.definition
    return DefinitionRecord(
        name=one.name,
        kind=one.kind.value,
        file=short(one.path),
        line=one.line,
        local=one.local,
        standing=entry.standing.value,
        covered_by=[CoverRecord(test=cover.test, direct=cover.direct) for cover in entry.covers],
        exemption=None if one.exemption is None else one.exemption.reason,
        exemption_unneeded=entry.unneeded,
        note=one.left_out or entry.note,
    )
