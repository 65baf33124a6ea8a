"""A comparison in words: the environment first, since it says how far the rest goes; regressions last."""

from __future__ import annotations

from collections.abc import Iterator

from gradharness.baseline.comparing import Comparison, Kind

ORDER = (Kind.EXPECTED, Kind.NEW, Kind.IMPROVED, Kind.ABSENT, Kind.MENDED, Kind.VANISHED, Kind.REGRESSION)
STYLES = {
    Kind.EXPECTED: "dim",
    Kind.NEW: "cyan",
    Kind.IMPROVED: "green",
    Kind.ABSENT: "bold yellow",
    Kind.MENDED: "bold yellow",
    Kind.VANISHED: "bold red",
    Kind.REGRESSION: "bold red",
}
_MANY = 20  # lines of one kind; regressions are all told


def lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """(line, style) of everything but the totals."""
    for name, was, now in sorted(comparison.differences):
        yield f"THE ENVIRONMENT DIFFERS: {name}: recorded with {was}, here {now}", "bold yellow"
    for one, count in comparison.uncompared.items():
        where = f"recorded with {one.name} {one.was}, here {one.now}"
        yield f"not compared: {one.figure} of {counted(count, 'check')}: {where}", "bold yellow"
    for kind in ORDER:
        told = comparison.of(kind)
        shown = told if kind.fails else told[:_MANY]
        yield from ((str(remark), STYLES[kind]) for remark in shown)
        if len(told) > len(shown):
            yield f"{kind.value}: {len(told) - len(shown)} more", STYLES[kind]


def totals(comparison: Comparison) -> str:
    """One line: how many checks were compared, and what of."""
    parts = [f"{counted(comparison.compared, 'check')} compared"]
    words = {
        Kind.REGRESSION: "regression",
        Kind.VANISHED: "vanished",
        Kind.EXPECTED: "known failure",
        Kind.MENDED: "known failure that passes now",
        Kind.IMPROVED: "improved",
        Kind.NEW: "new",
        Kind.ABSENT: "not run",
    }
    for kind, word in words.items():
        if found := comparison.of(kind):
            plural = kind in (Kind.REGRESSION, Kind.EXPECTED)
            parts.append(counted(len(found), word) if plural else f"{len(found)} {word}")
    if not comparison.failed():
        parts.append("no regression")
    return ", ".join(parts)


def counted(amount: int, noun: str) -> str:
    """``1 check``, ``2 checks``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"
