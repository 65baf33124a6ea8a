"""``gradharness schema NAME``: the JSON Schema of a file that gradharness writes or reads."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import msgspec

from gradharness.errors import UnknownNameError

DRAFT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Form:
    """Where a file's form is written down.

    Attributes:
        module: Module of the struct.
        struct: Name of the struct of the whole file.
        version: Name of the constant beside it that holds the version.
        title: What the file is.
    """

    module: str
    struct: str
    version: str
    title: str


FORMS = {
    "record": Form("gradharness.report.schema", "Record", "SCHEMA_VERSION", "Reports, as check --json writes them"),
    "campaign": Form(
        "gradharness.report.campaign_record", "CampaignRecord", "SCHEMA_VERSION", "Findings, as fuzz --json writes them"
    ),
    "replay": Form(
        "gradharness.report.replay_record",
        "ReplayRecord",
        "SCHEMA_VERSION",
        "Kept witnesses looked at again, as replay --json writes them",
    ),
    "audit": Form(
        "gradharness.report.audit_record", "AuditRecord", "SCHEMA_VERSION", "Coverage, as audit --json writes it"
    ),
    "baseline": Form("gradharness.baseline.form", "BaselineFile", "VERSION", "A baseline, a TOML file"),
    "witness": Form("gradharness.engine.kept", "Entry", "FORMAT", "witness.json of a kept witness"),
    "config": Form("gradharness.config", "ConfigTable", "CONFIG_VERSION", "[tool.gradharness] of a pyproject.toml"),
}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one kind of file, as plain data.

    Raises:
        UnknownNameError: There is no such kind.
    """
    if name not in FORMS:
        raise UnknownNameError("schema", name, FORMS)
    form = FORMS[name]
    module = importlib.import_module(form.module)
    version = getattr(module, form.version)
    heading = {
        "$schema": DRAFT,
        "$id": f"urn:gradharness:{name}:{version}",
        "title": form.title,
        "version": version,
    }
    return {**heading, **msgspec.json.schema(getattr(module, form.struct))}


def text(name: str) -> str:
    """The same as indented JSON.

    Raises:
        UnknownNameError: There is no such kind.
    """
    return msgspec.json.format(msgspec.json.encode(schema(name)), indent=2).decode()
