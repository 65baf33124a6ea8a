"""What the whole catalogue costs on one subject: seconds and calls of each check, and how they grow with its size."""

from __future__ import annotations

from statistics import median

import torch
from whole_check import Clock, costly

import gradharness
from gradharness.model.verdict import Report

SIZES = (100, 1000)
_ROW = "{:<17}{:>9}{:>9}{:>8}{:>11}{:>11}"
_HEAD = ("check", *(f"s at {n}" for n in SIZES), "share", *(f"calls {n}" for n in SIZES))


def run(elements: int, *, referenced: bool, seed: int) -> Report:
    """Checks a Function of about so many elements, whose calls take no longer than their arithmetic."""
    function, reference = costly(0.0, Clock())
    g = torch.Generator().manual_seed(seed)
    width = round(elements**0.5)
    inputs = (
        torch.randn(width, width, generator=g, dtype=torch.float64),
        torch.randn(width, generator=g, dtype=torch.float64),
    )
    return gradharness.check(function, inputs, reference=reference if referenced else None, seed=seed)


def rows(*, referenced: bool, runs: int) -> list[str]:
    """One line per check: median seconds at each size, the share of the whole, and its calls."""
    reports = {n: [run(n, referenced=referenced, seed=s) for s in range(runs)] for n in SIZES}
    whole = {n: median(r.seconds for r in found) for n, found in reports.items()}
    lines = []
    for number, result in enumerate(reports[SIZES[0]][0].results):
        seconds = [median(r.results[number].seconds for r in reports[n]) for n in SIZES]
        calls = [round(median(r.results[number].calls for r in reports[n])) for n in SIZES]
        share = seconds[0] / whole[SIZES[0]]
        lines.append(_ROW.format(result.check, *(f"{s:.2f}" for s in seconds), f"{share:.0%}", *calls))
    times = [f"{whole[n]:.2f}" for n in SIZES]
    calls = [round(median(sum(x.calls for x in r.results) for r in reports[n])) for n in SIZES]
    return [_ROW.format(*_HEAD), *lines, _ROW.format("all", *times, "100%", *calls)]
