"""A baseline as tables, one for each test, that fit a width of 80."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rich.table import Table
from rich.text import Text

from gradharness.baseline.model import FAIL, PASS, SKIPPED, UNDECIDED, Baseline, Entry, Key

_STYLES = {PASS: "green", FAIL: "bold red", UNDECIDED: "yellow", SKIPPED: "dim"}


def tables(baseline: Baseline, keys: Collection[Key]) -> Iterator[Table | Text]:
    """The chosen entries, test by test; then the known failures, and how it was recorded."""
    for subject in sorted({key.subject for key in keys}):
        yield _of_test(subject, [(k, baseline.entries[k]) for k in sorted(keys) if k.subject == subject])
        yield Text()
    for key, one in sorted(baseline.known.items()):
        if key in keys:
            link = f" ({one.link})" if one.link else ""
            yield Text(f"known failure: {key}: {one.fault_text}: {one.reason}{link}", style="yellow")
    for environment in dict.fromkeys(baseline.entries[key].environment for key in sorted(keys)):
        yield Text("recorded with " + ", ".join(f"{name} {value}" for name, value in environment), style="dim")


def _of_test(subject: str, rows: list[tuple[Key, Entry]]) -> Table:
    table = Table(title=subject, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    table.add_column("check", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for name in ("error", "resolution", "saved", "cost", "calls"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, entry in rows:
        figures = (_two(entry.error), _two(entry.resolution), _whole(entry.saved), _two(entry.cost))
        table.add_row(key.id, Text(entry.verdict, style=_STYLES[entry.verdict]), *figures, _whole(entry.calls or None))
    return table


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)
