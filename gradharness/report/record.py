"""Reports as a versioned JSON file, and back.

This module imports msgspec, so import it only where a record is read or written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from gradharness.errors import UsageError
from gradharness.model.verdict import CheckResult, Fault, Finding, Report, Severity, Verdict, Witness
from gradharness.report import codec
from gradharness.report.exhibit_record import decoded, encoded
from gradharness.report.files import write_whole
from gradharness.report.schema import (
    SCHEMA_VERSION,
    FindingRecord,
    Heading,
    Record,
    ReportRecord,
    ResultRecord,
    WitnessRecord,
)

TOOL = "gradharness"


def to_record(reports: Iterable[Report]) -> dict[str, Any]:
    """Plain data that JSON can hold."""
    record = Record(schema_version=SCHEMA_VERSION, tool=TOOL, reports=[_report(r) for r in reports])
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return data


def from_record(data: object) -> tuple[Report, ...]:
    """The reports that ``to_record`` was given.

    Raises:
        UsageError: The data is no record, or one of a newer version.
    """
    return _reports(data, "the record")


def dump(reports: Iterable[Report], path: str | os.PathLike[str]) -> None:
    """Write a record; the file is either the old one or the whole new one, never a part.

    Raises:
        UsageError: The file cannot be written.
    """
    write(to_record(reports), path)


def write(data: object, path: str | os.PathLike[str]) -> None:
    """Write data as JSON; the file is either the old one or the whole new one, never a part.

    Raises:
        UsageError: The file cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(data), indent=1)
    target = Path(path)
    try:
        write_whole(target, text + b"\n")
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; give a path in a folder that exists") from error


def load(path: str | os.PathLike[str]) -> tuple[Report, ...]:
    """Read a record.

    Tensors come back on the CPU. One whose values were left out, being large, comes back on the meta device.

    Raises:
        UsageError: The file is missing, truncated, foreign, or of a newer version.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give a file that --json has written") from error
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not JSON ({error}); write it again with --json") from error
    return _reports(data, str(path))


def _reports(data: object, source: str) -> tuple[Report, ...]:
    try:
        heading = msgspec.convert(data, Heading)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{source} is not a record of gradharness ({error}); give a file that --json has written"
        ) from error
    if heading.tool != TOOL:
        raise UsageError(f"{source} was written by {heading.tool!r}; give a file that gradharness --json has written")
    if heading.schema_version > SCHEMA_VERSION:
        raise UsageError(
            f"{source} has schema_version {heading.schema_version}, this gradharness reads up to {SCHEMA_VERSION}; "
            "update gradharness"
        )
    try:
        return tuple(_unreport(r) for r in msgspec.convert(data, Record).reports)
    except (msgspec.ValidationError, ValueError, KeyError) as error:
        raise UsageError(f"{source} is damaged ({error}); write it again with --json") from error


# ---------------------------------------------------------------------------------------------------- to the structs


def _report(report: Report) -> ReportRecord:
    return ReportRecord(
        subject=report.subject,
        verdict=report.verdict.name.lower(),
        results=[_result(r) for r in report.results],
        domain=list(report.domain),
        notes=list(report.notes),
        seed=report.seed,
        profile=report.profile,
        environment=list(report.environment),
        seconds=codec.number(report.seconds),
    )


def _result(result: CheckResult) -> ResultRecord:
    return ResultRecord(
        check=result.check,
        device=result.device,
        dtype=result.dtype,
        verdict=result.verdict.name.lower(),
        findings=[_finding(f) for f in result.findings],
        resolution=_optional(result.resolution),
        error=_optional(result.error),
        saved_bytes=result.saved_bytes,
        cost_ratio=_optional(result.cost_ratio),
        examples=result.examples,
        discarded=result.discarded,
        undecided=result.undecided,
        seconds=codec.number(result.seconds),
        inside=codec.number(result.inside),
        calls=result.calls,
        reason=result.reason,
    )


def _finding(finding: Finding) -> FindingRecord:
    return FindingRecord(
        check=finding.check,
        fault=finding.fault.value,
        severity=finding.severity.value,
        message=finding.message,
        evidence=list(finding.evidence),
        witness=None if finding.witness is None else _witness(finding.witness),
        reproducer=finding.reproducer,
        exhibits=[encoded(exhibit) for exhibit in finding.exhibits],
    )


def _witness(witness: Witness) -> WitnessRecord:
    return WitnessRecord(
        arguments=[(name, codec.encode(value)) for name, value in witness.arguments],
        cotangents=[codec.encode(value) for value in witness.cotangents],
        recipe=codec.encode(witness.recipe),
        label=witness.label,
        index=None if witness.index is None else list(witness.index),
        expected=codec.encode(witness.expected),
        got=codec.encode(witness.got),
        bound=_optional(witness.bound),
        active=list(witness.active),
        outputs=list(witness.outputs),
        whole=codec.encode(witness.whole),
        whole_bound=codec.encode(witness.whole_bound),
        steps=list(witness.steps),
    )


def _optional(value: float | None) -> float | str | None:
    return None if value is None else codec.number(value)


# -------------------------------------------------------------------------------------------------- from the structs


def _unreport(record: ReportRecord) -> Report:
    return Report(
        subject=record.subject,
        results=tuple(_unresult(r) for r in record.results),
        domain=tuple(record.domain),
        notes=tuple(record.notes),
        seed=record.seed,
        profile=record.profile,
        environment=tuple(record.environment),
        seconds=float(record.seconds),
    )


def _unresult(record: ResultRecord) -> CheckResult:
    return CheckResult(
        check=record.check,
        device=record.device,
        dtype=record.dtype,
        verdict=Verdict[record.verdict.upper()],
        findings=tuple(_unfinding(f) for f in record.findings),
        resolution=_unoptional(record.resolution),
        error=_unoptional(record.error),
        saved_bytes=record.saved_bytes,
        cost_ratio=_unoptional(record.cost_ratio),
        examples=record.examples,
        discarded=record.discarded,
        undecided=record.undecided,
        seconds=float(record.seconds),
        inside=float(record.inside),
        calls=record.calls,
        reason=record.reason,
    )


def _unfinding(record: FindingRecord) -> Finding:
    return Finding(
        check=record.check,
        fault=Fault(record.fault),
        severity=Severity(record.severity),
        message=record.message,
        evidence=tuple(record.evidence),
        witness=None if record.witness is None else _unwitness(record.witness),
        reproducer=record.reproducer,
        exhibits=tuple(decoded(exhibit) for exhibit in record.exhibits),
    )


def _unwitness(record: WitnessRecord) -> Witness:
    return Witness(
        arguments=tuple((name, codec.decode(value)) for name, value in record.arguments),
        cotangents=tuple(codec.decode(value) for value in record.cotangents),
        recipe=codec.decode(record.recipe),
        label=record.label,
        index=None if record.index is None else tuple(record.index),
        expected=codec.decode(record.expected),
        got=codec.decode(record.got),
        bound=_unoptional(record.bound),
        active=tuple(record.active),
        outputs=tuple(record.outputs),
        whole=codec.decode(record.whole),
        whole_bound=codec.decode(record.whole_bound),
        steps=tuple(record.steps),
    )


def _unoptional(value: float | str | None) -> float | None:
    return None if value is None else float(value)
