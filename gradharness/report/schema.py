"""The record's form, as typed structs. A change of meaning or a removed field is a new ``SCHEMA_VERSION``.

Numbers that JSON has no word for are text (``"nan"``, ``"inf"``, ``"-inf"``); arguments are in the form of ``codec``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gradharness.report.exhibit_record import ExhibitRecord

SCHEMA_VERSION = 1


class WitnessRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The smallest failing case."""

    arguments: list[tuple[str, Any]]
    cotangents: list[Any]
    recipe: dict[str, Any]
    label: str = ""
    index: list[int] | None = None
    expected: Any = None
    got: Any = None
    bound: float | str | None = None
    active: list[str] = []
    outputs: list[str] = []
    whole: Any = None
    whole_bound: Any = 0.0
    steps: list[str] = []


class FindingRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is wrong."""

    check: str
    fault: str
    severity: str
    message: str
    evidence: list[str] = []
    witness: WitnessRecord | None = None
    reproducer: str = ""
    exhibits: list[ExhibitRecord] = []


class ResultRecord(msgspec.Struct, kw_only=True):
    """Outcome of one check on one device in one dtype."""

    check: str
    device: str
    dtype: str
    verdict: str
    findings: list[FindingRecord]
    resolution: float | str | None
    examples: int
    discarded: int
    undecided: int
    seconds: float | str
    inside: float | str
    calls: int
    reason: str
    error: float | str | None = None
    saved_bytes: int | None = None
    cost_ratio: float | str | None = None


class ReportRecord(msgspec.Struct, kw_only=True):
    """All results for one subject. ``verdict`` follows from the results and is there for other readers."""

    subject: str
    verdict: str
    results: list[ResultRecord]
    domain: list[str]
    notes: list[str]
    seed: int
    profile: str
    environment: list[tuple[str, str]]
    seconds: float | str


class Record(msgspec.Struct, kw_only=True):
    """A whole file."""

    schema_version: int
    tool: str
    reports: list[ReportRecord]


class Heading(msgspec.Struct):
    """What is read first, to tell a foreign or newer file from a broken one."""

    schema_version: int
    tool: str
