"""``[tool.gradharness]`` of a ``pyproject.toml``: what a project says once in place of options in every call.

The command line and the pytest plugin read it; ``check`` and ``assert_gradients``, called as functions, do not: what
they do depends on their arguments alone. Of several places that name the same thing, the first of these counts:

    an option of the command  >  a value given to @gradient_test  >  this table  >  the default

Nothing in the environment changes a verdict. ``CI=true`` chooses no profile either: the budget and the fixed seed of
``ci`` come with ``--profile ci``, or with ``profile = "ci"`` here.

    [tool.gradharness]
    profile = "nightly"
    tests = ["tests/gradients"]

    [tool.gradharness.profiles.nightly]
    examples = 400

This module needs neither torch nor Hypothesis.
"""

from __future__ import annotations

import math
import os
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from gradharness.engine.settings import BUILT_IN, Profile
from gradharness.errors import ConfigError, UnknownNameError

FILE = "pyproject.toml"
TABLE = "tool.gradharness"
CONFIG_VERSION = 1


class ProfileTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """``[tool.gradharness.profiles.NAME]``: an own budget, or a changed one.

    What is left out is as in the built-in profile of that name; in a profile of another name, as in ``dev``.
    """

    examples: Annotated[int, Meta(ge=1, description="a whole number from 1 on")] | None = None
    shrinks: Annotated[int, Meta(ge=0, description="a whole number from 0 on")] | None = None
    shrink_seconds: Annotated[float, Meta(gt=0, description="a positive number of seconds")] | None = None

    def profile(self, name: str) -> Profile:
        """The budget that it says."""
        base = BUILT_IN.get(name) or BUILT_IN["dev"]
        return Profile(
            examples=base.examples if self.examples is None else self.examples,
            shrinks=base.shrinks if self.shrinks is None else self.shrinks,
            shrink_seconds=base.shrink_seconds if self.shrink_seconds is None else self.shrink_seconds,
        )


class AuditTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """``[tool.gradharness.audit]``."""

    exempt: Annotated[dict[str, str], Meta(description='a table such as { "pkg.mod.Name" = "reason" }')] = {}


class ConfigTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """``[tool.gradharness]``, key by key. None or empty where the file says nothing.

    Attributes:
        profile: How long to search.
        seed: Of the draws.
        strict: Whether a warning fails too.
        time_limit: Seconds for one gradient test; in pytest, for one of its items.
        devices: On which to run.
        dtypes: In which to run.
        checks: Which to run.
        store: Folder of kept witnesses; False for none.
        baseline: Its file.
        undecided: What becomes of an undecided check in pytest.
        annotate: How findings are annotated.
        html: Where to write a page.
        tests: Targets of a command that is given none.
        fail_under: Least percentage of backward code that gradient tests cover.
        fail_on: What growth beyond a baseline fails, such as ``error:2x``.
        profiles: Own or changed budgets.
        audit: What is told of the audit.
    """

    profile: Annotated[str, Meta(description='the name of a profile, such as "ci"')] | None = None
    seed: Annotated[int, Meta(ge=0, description="a whole number from 0 on")] | None = None
    strict: Annotated[bool, Meta(description="true or false")] | None = None
    time_limit: Annotated[float, Meta(gt=0, description="a positive number of seconds")] | None = None
    devices: Annotated[tuple[str, ...], Meta(min_length=1, description='a list such as ["cpu", "cuda"]')] | None = None
    dtypes: (
        Annotated[tuple[str, ...], Meta(min_length=1, description='a list such as ["float64", "float32"]')] | None
    ) = None
    checks: Annotated[tuple[str, ...], Meta(min_length=1, description='a list such as ["vjp", "linearity"]')] | None = (
        None
    )
    store: Annotated[str | bool, Meta(description="the path of a folder, or false for none")] | None = None
    baseline: Annotated[str, Meta(min_length=1, description="the path of a file")] | None = None
    undecided: Annotated[Literal["fail", "skip"], Meta(description='"fail" or "skip"')] | None = None
    annotate: (
        Annotated[Literal["auto", "github", "plain", "none"], Meta(description='"auto", "github", "plain" or "none"')]
        | None
    ) = None
    html: Annotated[str, Meta(min_length=1, description="the path of a file")] | None = None
    tests: Annotated[tuple[str, ...], Meta(description='a list of targets, such as ["tests/gradients"]')] = ()
    fail_under: Annotated[float, Meta(ge=0, le=100, description="a percentage from 0 to 100")] | None = None
    fail_on: Annotated[tuple[str, ...], Meta(description='a list such as ["error:2x", "cost:1.5x"]')] | None = None
    profiles: Annotated[dict[str, ProfileTable], Meta(description="a table of profiles")] = {}
    audit: AuditTable = AuditTable()


class Config(ConfigTable, frozen=True, kw_only=True, rename="kebab"):
    """The table, and the file where it stands.

    Attributes:
        path: The ``pyproject.toml``; None where none has the table.
    """

    path: Path | None = None

    def here(self, text: str) -> str:
        """A path of the table, which is relative to its file, as one from the current folder."""
        if self.path is None:
            return text
        return os.path.relpath(self.path.parent / text)

    @property
    def root(self) -> Path | None:
        """The folder of the file; None where no file has the table."""
        return None if self.path is None else self.path.parent

    @property
    def targets(self) -> tuple[str, ...]:
        """``tests`` as one would write it in the current folder; ``module:attribute`` stays as it is."""
        return tuple(text if _is_module(text) else self._target(text) for text in self.tests)

    @property
    def defaults(self) -> dict[str, Any]:
        """What a gradient test takes from here where its decorator leaves it open: arguments of ``gradient_test``."""
        names = ("profile", "seed", "strict", "time_limit", "devices", "dtypes", "checks")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def insist_on_names(self) -> None:
        """Loads the checks, so call it only where there is something to run.

        Raises:
            ConfigError: There is no check, device or dtype of a name that the table gives.
        """
        from gradharness.engine.plan import plan

        try:
            plan(self.checks, self.devices or ("cpu",), self.dtypes)
        except UnknownNameError as error:
            raise ConfigError(f"{_short(self.path or Path(FILE))}, [{TABLE}]: {error}") from error

    @property
    def own_profiles(self) -> dict[str, Profile]:
        """The budgets that the table names."""
        return {name: table.profile(name) for name, table in self.profiles.items()}

    def _target(self, text: str) -> str:
        path, colons, name = text.partition("::")
        return f"{self.here(path)}{colons}{name}"


def load_config(start: Path) -> Config:
    """The table of the nearest ``pyproject.toml`` that has one, in the folder ``start`` or above it.

    Args:
        start: The current folder; in pytest, its root.

    Returns:
        Defaults throughout where no file has the table.

    Raises:
        ConfigError: A file cannot be read or is not TOML, or a value is not what its key takes.
        UnknownNameError: No key or profile goes by that name.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        path = folder / FILE
        table = _table(path) if path.is_file() else None
        if table is not None:
            return _config(table, path)
    return Config()


def _table(path: Path) -> object:
    """What stands under ``[tool.gradharness]``; None where there is no such table."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {_short(path)}: {error.strerror}; make it readable") from error
    except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
        text = "its tables are nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{_short(path)} is not TOML: {text}") from error
    tool = data.get("tool", {})
    return tool.get("gradharness") if isinstance(tool, dict) else None


def _config(table: object, path: Path) -> Config:
    read = _struct(table, ConfigTable, _Place(path, ""))
    config = Config(**{name: getattr(read, name) for name in ConfigTable.__struct_fields__}, path=path)
    known = {*BUILT_IN, *config.profiles}
    if config.profile is not None and config.profile not in known:
        raise UnknownNameError(f"profile in [{TABLE}] of {_short(path)}:", config.profile, known)
    return config


class _Place(typing.NamedTuple):
    """Where a value stands, for messages."""

    path: Path
    key: str

    @property
    def table(self) -> str:
        """As the header of the table is written."""
        return f"[{TABLE}{self.key}]"

    def wrong(self, name: str, value: object, expected: str) -> ConfigError:
        return ConfigError(f"{_short(self.path)}, {self.table}: {name} = {_toml(value)}; expected {expected}")


Table = TypeVar("Table", ConfigTable, ProfileTable, AuditTable)


def _struct(data: object, kind: type[Table], place: _Place) -> Table:
    """A table as its struct; each key on its own, so that an error names it."""
    if not isinstance(data, dict):
        raise ConfigError(f"{_short(place.path)}: {place.table[1:-1]} = {_toml(data)}; expected a table")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in fields:
            raise UnknownNameError(f"key in {place.table} of {_short(place.path)}:", key, fields)
        values[fields[key].name] = _value(value, fields[key], place)
    return kind(**values)


def _value(value: object, field: msgspec.structs.FieldInfo, place: _Place) -> object:
    if field.name == "audit":
        return _struct(value, AuditTable, place._replace(key=f"{place.key}.audit"))
    if field.name == "profiles" and isinstance(value, dict):
        return _profiles(value, place)
    try:
        read = msgspec.convert(value, field.type)
    except (msgspec.ValidationError, OverflowError) as error:
        raise place.wrong(field.encode_name, value, _expected(field.type)) from error
    if isinstance(read, float) and not math.isfinite(read):
        raise place.wrong(field.encode_name, value, _expected(field.type))
    return read


def _profiles(tables: Mapping[str, object], place: _Place) -> dict[str, ProfileTable]:
    return {
        name: _struct(table, ProfileTable, place._replace(key=f"{place.key}.profiles.{name}"))
        for name, table in tables.items()
    }


def _expected(hint: object) -> str:
    """What a type's own description says; its name where it has none."""
    for part in (hint, *typing.get_args(hint)):
        described = [m.description for m in getattr(part, "__metadata__", ()) if isinstance(m, Meta)]
        if described and described[0]:
            return described[0]
    return str(hint)


def _toml(value: object) -> str:
    """A value as one would find it in the file, cut where it is long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_module(text: str) -> bool:
    """Whether a target is ``module:attribute``, as ``gradharness check`` reads it."""
    return ":" in text.replace("::", "") and os.sep not in text and not text.endswith(".py")


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
