"""An audit on a terminal: a table of definitions, what could not be tried, and the totals in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradharness.audit.coverage import Audit, Entry, Standing
from gradharness.audit.definitions import short
from gradharness.report import show

_STYLES = {
    Standing.COVERED: "green",
    Standing.UNCOVERED: "bold red",
    Standing.EXEMPT: "yellow",
    Standing.LEFT_OUT: "dim",
}
_NOTHING = "{} has no hand-written backward in {}: nothing asks for a gradient test"


class AuditReporter:
    """Shows an audit.

    Args:
        out: Where to print.
    """

    def __init__(self, out: Console) -> None:
        self._out = out

    @contextmanager
    def trying(self, address: str) -> Iterator[None]:
        """Says what runs, on a terminal only."""
        if not self._out.is_terminal:
            yield
            return
        with self._out.status(f"trying {address}"):
            yield

    def report(self, audit: Audit, limit: float | None = None) -> None:
        """Print the table, and below it what else is to be known.

        Args:
            audit: What was found.
            limit: The least percentage that passes; None for none.
        """
        if audit.entries:
            self._out.print(_table(audit))
            self._out.print()
        for test in audit.tests:
            if test.failed:
                self._print(f"{test.address} covers nothing: {test.failed}", "yellow")
        for entry in audit.entries:
            if entry.unneeded and entry.definition.exemption is not None:
                self._print(f"{entry.definition.exemption.place}: {_unneeded(entry)}", "yellow")
        self._print(summary(audit, limit), "" if _reaches(audit, limit) else "bold red")

    def _print(self, content: str, style: str) -> None:
        self._out.print(Text(content, style=style))


def summary(audit: Audit, limit: float | None = None) -> str:
    """``75.0 %: 5 gradient tests reached 3 of 4 hand-written backwards in 2 files; 1 exempt``."""
    files, tried = show.count(len(audit.listing.files), "file"), show.count(len(audit.tests), "gradient test")
    counts = [(audit.count(Standing.EXEMPT), "exempt"), (audit.count(Standing.LEFT_OUT), "not counted")]
    rest = "".join(f"; {n} {word}" for n, word in counts if n)
    if audit.asked:
        covered = f"{audit.count(Standing.COVERED)} of {show.count(audit.asked, 'hand-written backward')}"
        text = f"{tried} reached {covered} in {files}{rest}"
    elif audit.entries:
        text = f"nothing in {files} of {audit.listing.package} asks for a gradient test{rest}"
    else:
        text = _NOTHING.format(audit.listing.package, files)
    below = "" if _reaches(audit, limit) else f"; --fail-under asks for {limit:g} %"
    return f"{percent(audit.percentage)}: {text}{below}"


def percent(value: Fraction) -> str:
    """One digit after the point, rounded down: what is called 100 % is all of it."""
    return f"{int(value * 10) / 10:.1f} %"


def _reaches(audit: Audit, limit: float | None) -> bool:
    return limit is None or audit.percentage >= limit


def _unneeded(entry: Entry) -> str:
    name = entry.definition.qualname
    if entry.standing is Standing.COVERED:
        return f"the exemption of {name} is not needed, since {entry.covers[0].test} covers it; remove it"
    return f"the exemption of {name} is not needed, since it is not counted; remove it"


def _table(audit: Audit) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("name", overflow="fold", ratio=5)
    table.add_column("kind", no_wrap=True)
    table.add_column("place", overflow="fold", ratio=6)
    table.add_column("covered by", overflow="fold", ratio=8)
    for entry in audit.entries:
        one = entry.definition
        kind = f"local {one.kind.value}" if one.local else one.kind.value
        remark = Text(_remark(entry), style=_STYLES[entry.standing])
        table.add_row(Text(one.qualname), kind, f"{short(one.path)}:{one.line}", remark)
    return table


def _remark(entry: Entry) -> str:
    match entry.standing:
        case Standing.COVERED:
            first, more = entry.covers[0], len(entry.covers) - 1
            text = first.test if first.direct else f"inside of {first.test}"
            return text + (f" and {more} more" if more else "")
        case Standing.EXEMPT:
            exemption = entry.definition.exemption
            return f"exempt: {exemption.reason if exemption else ''}"
        case Standing.LEFT_OUT:
            return f"not counted: {entry.definition.left_out}"
        case _:
            return "no test" + (f": {entry.note}" if entry.note else "")
