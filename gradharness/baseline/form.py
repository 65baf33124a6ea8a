"""The file: TOML with one line for each check, so that a diff shows what has changed and nothing else.

Reading trusts nobody: sizes are limited, every value has its type and range, and nothing in the file is executed.
Writing is by hand, since no library writes one check as one line: the same levels give the same bytes.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from gradharness.baseline.model import Baseline, Entry, Environment, Key, Known
from gradharness.errors import BaselineError

VERSION = 1
MAX_BYTES = 8 * 2**20
_LONGEST_LINE = 4000  # no line of ours has a tenth of it; nesting and dotted keys end here
_PRINTABLE = r"\A[^\x00-\x1f\x7f-\x9f]*\Z"  # what is read is printed: no control sequences for a terminal

Text: TypeAlias = Annotated[str, Meta(max_length=1000, pattern=_PRINTABLE)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500, pattern=_PRINTABLE)]
Level: TypeAlias = Annotated[float, Meta(ge=0)]
Natural: TypeAlias = Annotated[int, Meta(ge=0, lt=2**62)]

HEADER = """\
# Levels of gradient tests, one line for each check: review its diffs. Written by `gradharness baseline record`;
# `error` and `resolution` are relative, `saved` is in bytes, `cost` is time beside plain autograd.
"""


class _Heading(msgspec.Struct, forbid_unknown_fields=True):
    """What is read first, to tell a newer file from a broken one."""

    version: Annotated[int, Meta(ge=1, lt=2**31)]


class _Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One check."""

    verdict: Literal["pass", "fail", "undecided", "skipped"]
    error: Level | None = None
    resolution: Level | None = None
    saved: Natural | None = None
    cost: Level | None = None
    calls: Natural = 0
    environment: Annotated[int, Meta(ge=1, lt=2**31)] = 1


class _KnownRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One known failure. ``test`` may be left out where ``id`` says it: ``test_ops.py::test_f[vjp-cpu-float64]``."""

    id: Name
    test: Text = ""
    fault: Name
    label: Text = ""
    reason: Text
    link: Text = ""


class BaselineFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    gradharness_baseline: _Heading = msgspec.field(name="gradharness-baseline")
    environment: dict[Name, dict[Name, Text]] = {}
    tests: dict[Name, dict[Name, _Row]] = {}
    known: list[_KnownRow] = []


# ---------------------------------------------------------------------------------------------------------- reading


def parse(content: bytes, source: str) -> Baseline:
    """The baseline that a file holds.

    Args:
        content: All bytes of the file.
        source: How messages call it.

    Raises:
        BaselineError: It is too large, no TOML, another program's, of a newer version, or damaged.
    """
    data = _toml(content, source)
    heading = data.get("gradharness-baseline")
    if not isinstance(heading, dict):
        raise BaselineError(
            f"{source} is no baseline of gradharness: it has no [gradharness-baseline]; give a file that "
            "`gradharness baseline record` has written"
        )
    version = heading.get("version")
    if isinstance(version, int) and version > VERSION:
        raise BaselineError(
            f"{source} has version {version}, this gradharness reads up to {VERSION}; update gradharness"
        )
    try:
        return _baseline(msgspec.convert(data, BaselineFile))
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise BaselineError(f"{source} is damaged ({error}); mend that line, or restore the file") from error


def _toml(content: bytes, source: str) -> dict[str, object]:
    if len(content) > MAX_BYTES:
        raise BaselineError(
            f"{source} has {len(content)} bytes, which no baseline has (limit: {MAX_BYTES}); give another file"
        )
    long = next((n for n, line in enumerate(content.splitlines(), 1) if len(line) > _LONGEST_LINE), None)
    if long is not None:
        raise BaselineError(f"{source}, line {long}: longer than {_LONGEST_LINE} bytes, which no line of a baseline is")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise BaselineError(f"{source} is no baseline: it is nested too deeply; restore the file") from error
    except ValueError as error:
        told = str(error).replace("\n", " ")
        raise BaselineError(f"{source} is not TOML ({told}); mend that line, or restore the file") from error


def _baseline(file: BaselineFile) -> Baseline:
    """The nouns of a file's structs. Raises ``ValueError`` for what types alone cannot say."""
    environments = {name: tuple(pairs.items()) for name, pairs in file.environment.items()}
    entries = {}
    for subject, rows in file.tests.items():
        for id, row in rows.items():
            entries[_key(subject, id)] = _entry(row, environments, f"tests.{subject!r}.{id}")
    known: dict[Key, Known] = {}
    for number, failure in enumerate(file.known, 1):
        one = _known(failure, f"known failure {number}")
        if one.key in known:
            raise ValueError(f"known failure {number}: there is one for {one.key} already")
        known[one.key] = one
    return Baseline(MappingProxyType(entries), MappingProxyType(known))


def _key(subject: str, id: str) -> Key:
    if id.count("-") < 2 or not all(id.rsplit("-", 2)):
        raise ValueError(f"{id!r} of {subject!r} is not check-device-dtype, such as vjp-cpu-float64")
    return Key.of(subject, id)


def _entry(row: _Row, environments: Mapping[str, Environment], place: str) -> Entry:
    name = str(row.environment)
    if name not in environments:
        raise ValueError(f"{place}: there is no [environment.{name}]")
    for figure in ("error", "resolution", "cost"):
        value = getattr(row, figure)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{place}: {figure} = {value}; a finite number was recorded")
    levels = {field: getattr(row, field) for field in ("verdict", "error", "resolution", "saved", "cost", "calls")}
    return Entry(**levels, environment=environments[name])


def _known(row: _KnownRow, place: str) -> Known:
    test = row.test or row.id
    if not row.reason.strip():
        raise ValueError(f"{place}: its reason is empty; say why the failure is accepted")
    subject, bracket, id = test.removesuffix("]").rpartition("[")
    if not (bracket and subject and test.endswith("]")):
        raise ValueError(
            f"{place}: {test!r} is not test[check-device-dtype], such as test_ops.py::test_linear[vjp-cpu-float64]"
            + ("" if row.test else "; give test = beside the id of a witness")
        )
    return Known(
        key=_key(subject, id), fault=row.fault, label=row.label, reason=row.reason.strip(), id=row.id, link=row.link
    )


# ---------------------------------------------------------------------------------------------------------- writing


def render(baseline: Baseline) -> str:
    """The file's text: sorted, with the environment that most entries share as the first."""
    shared = Counter(entry.environment for entry in baseline.entries.values())
    order = sorted(shared, key=lambda e: (-shared[e], e))
    names = {environment: number for number, environment in enumerate(order, 1)}
    parts = [HEADER, f"\n[gradharness-baseline]\nversion = {VERSION}\n"]
    for environment, number in names.items():
        parts.append(f"\n[environment.{number}]\n")
        parts += [f"{_word(name)} = {_quoted(value)}\n" for name, value in environment]
    for subject in baseline.subjects():
        parts.append(f"\n[tests.{_quoted(subject)}]\n")
        rows = sorted((key, entry) for key, entry in baseline.entries.items() if key.subject == subject)
        parts += [f"{_word(key.id)} = {_row(entry, names[entry.environment])}\n" for key, entry in rows]
    for _, one in sorted(baseline.known.items()):
        parts.append("\n[[known]]\n")
        parts += [f"{name} = {_quoted(value)}\n" for name, value in _known_fields(one)]
    return "".join(parts)


def _row(entry: Entry, environment: int) -> str:
    told = [f"verdict = {_quoted(entry.verdict)}"]
    for name in ("error", "resolution", "saved", "cost"):
        value = getattr(entry, name)
        told += [] if value is None else [f"{name} = {value!r}"]
    told += [f"calls = {entry.calls}"] if entry.calls else []
    told += [f"environment = {environment}"] if environment != 1 else []
    return "{ " + ", ".join(told) + " }"


def _known_fields(one: Known) -> Iterator[tuple[str, str]]:
    yield "id", one.id or str(one.key)
    if one.id and one.id != str(one.key):
        yield "test", str(one.key)
    yield "fault", one.fault
    if one.label:
        yield "label", one.label
    yield "reason", one.reason
    if one.link:
        yield "link", one.link


def _word(text: str) -> str:
    """A key as it is, if TOML allows that."""
    plain = text.replace("-", "").replace("_", "")
    return text if plain.isascii() and plain.isalnum() else _quoted(text)


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are JSON's but for the one of U+007F."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
