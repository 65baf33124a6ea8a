"""Kept witnesses under pytest: one store for each process, and what every item says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gradharness import __version__
from gradharness.config import Config
from gradharness.engine.keeping import DEFAULT, Keeper, Keeping, versions
from gradharness.engine.witness_store import WitnessStore
from gradharness.model.verdict import Report
from gradharness.report.replays import news

PROPERTY = "gradharness_kept"
_KEEPING: pytest.StashKey[Keeping | None] = pytest.StashKey()


def keeper_of(config: pytest.Config, table: Config, path: Path, name: str) -> Keeper | None:
    """What keeps the failures of a gradient test; None where nothing is kept.

    Args:
        config: Of the run.
        table: ``[tool.gradharness]``.
        path: Of the test's file.
        name: Of the test.
    """
    if _KEEPING not in config.stash:
        folder = _folder(config, table)
        made = None if folder is None else Keeping(WitnessStore(folder), config.rootpath, _now, versions(__version__))
        config.stash[_KEEPING] = made
    keeping = config.stash[_KEEPING]
    return None if keeping is None else keeping.of(f"{path}::{name}")


def told(keeper: Keeper | None, report: Report) -> tuple[Report, list[tuple[str, object]]]:
    """The report with the commands that replay what was kept; what a summary has to say, as properties of the item."""
    if keeper is None:
        return report, []
    refused = [f"warning: {error}" for error in keeper.keeping.refused]
    return keeper.told(report), [(PROPERTY, line) for line in (*news(keeper.replayed), *refused)]


def summarize(reporter: pytest.TerminalReporter) -> None:
    """Print what the items have said, whichever process they ran in."""
    lines = dict.fromkeys(
        str(value)
        for reports in reporter.stats.values()
        for one in reports
        if getattr(one, "when", "") == "call"
        for name, value in one.user_properties
        if name == PROPERTY
    )
    if lines:
        reporter.section("gradharness: failures that were kept")
        for line in lines:
            reporter.line(line)


def _folder(config: pytest.Config, table: Config) -> Path | None:
    """Where: an option counts more than the table, and the table more than the default."""
    asked: str | None = config.getoption("gradharness_store")
    if config.getoption("gradharness_no_store") or (table.store is False and not asked):
        return None
    if asked:
        return Path(config.invocation_params.dir, asked)
    return Path(table.here(table.store)) if isinstance(table.store, str) else config.rootpath / DEFAULT


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
