"""Annotations of one ``gradharness check``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from gradharness.cli.targets import Target
from gradharness.model.verdict import Report
from gradharness.report.annotations import Place, Style, annotate, lines, place_of


def annotated(found: Iterable[tuple[Target, Report]], style: Style) -> list[str]:
    """One line for each fault of each test."""
    if style is Style.NONE:
        return []
    each = [annotate(report, place(target), target=target.address) for target, report in found]
    return lines((one for several in each for one in several), style)


def place(target: Target) -> Place:
    """Where a target's test stands."""
    path, colons, name = target.address.partition("::")
    if not colons:
        module_name, _, name = target.address.partition(":")
        path = getattr(sys.modules.get(module_name), "__file__", None) or module_name
    return place_of(getattr(target.test, "function", None), Path(path), name)
