"""What a verdict costs: ratios, all measured in one run.

    python benchmarks/verdict_cost.py [verdict] [check] [catalogue] [collection] [--quick]

``verdict``: one first-order verdict at one point beside torch.autograd.gradcheck, and the smallest error that each
sees. ``check``: the share of a whole check that is the subject's own. ``catalogue``: what each check takes of it, and
how that grows with the subject. ``collection``: what the idle plugin adds. All four unless named; how to read the
tables: benchmarks/README.md.
"""

from __future__ import annotations

import math
import sys
from statistics import median

import catalogue
import collection
import torch
from functions import CANDIDATES
from one_verdict import LARGEST_SLOW, SLOW_SIZES, Point, costs, seen_from, slow_cost
from whole_check import COSTS, share

_SIZES = (100, 1000, 10_000, 100_000)
_WAYS = ("no reference", "no reference, opaque", "reference", "fast", "slow")
_TIMES = "{:<11}{:>7}{:>10}{:>9}{:>8}{:>11}{:>8}{:>8}{:>10}{:>8}{:>8}{:>8}{:>9}{:>8}"
_TIMES_HEAD = (
    "function", "N", "f+b, us", "no ref.", "opaque", "reference", "look", "fast", "slow",
    "n/fast", "o/fast", "r/fast", "slow/n", "slow/o",
)  # fmt: skip
_SEEN = "{:<11}{:>7}" + "{:>22}" * 5


def verdict(*, quick: bool) -> None:
    print("\nCost of one first-order verdict, in forward+backwards of the function (~: extrapolated)")
    print(_TIMES.format(*_TIMES_HEAD))
    points = {(c.name, n): Point.of(c, n) for c in CANDIDATES for n in _SIZES}
    for candidate in CANDIDATES:
        found = {n: costs(points[candidate.name, n], 20 if quick else 200, 3.0 if quick else 12.0) for n in _SIZES}
        _extrapolated(found, slow_cost(Point.of(candidate, LARGEST_SLOW)))
        for n in _SIZES:
            print(_cost_row(candidate.name, n, found[n]), flush=True)
    print("\nSmallest relative error seen: of all elements alike / of every element at random, rms (never: not 100 %)")
    print(_SEEN.format("function", "N", *_WAYS))
    for candidate in CANDIDATES:
        for n in _SIZES[: 2 if quick else 4]:
            ways = [way for way in _WAYS if way != "slow" or n <= max(SLOW_SIZES)]
            seen = {way: seen_from(points[candidate.name, n], way) for way in ways}
            cells = [f"{_error(seen[w]['uniform'])} / {_error(seen[w]['dense'])}" if w in seen else "-" for w in _WAYS]
            print(_SEEN.format(candidate.name, n, *cells), flush=True)


def _extrapolated(found: dict[int, dict[str, float]], largest: float) -> None:
    """Beyond what was run, slow mode grows as it did up to there."""
    last = max(SLOW_SIZES)
    power = math.log(largest / found[last]["slow"]) / math.log(LARGEST_SLOW / last)
    for n, times in found.items():
        times.setdefault("slow", largest * (n / LARGEST_SLOW) ** power)


def _cost_row(name: str, n: int, t: dict[str, float]) -> str:
    base, fast, slow = t["forward+backward"], t["fast"], t["slow"]
    plain, dark, referenced = (t[way] for way in _WAYS[:3])
    mark = "" if n <= max(SLOW_SIZES) else "~"
    times = [f"{v / base:.1f}" for v in (plain, dark, referenced, t["look"], fast)]
    to_fast = [f"{v / fast:.2f}" for v in (plain, dark, referenced)]
    to_slow = [f"{mark}{slow / v:.0f}" for v in (plain, dark)]
    return _TIMES.format(name, n, f"{1e6 * base:.0f}", *times, f"{mark}{slow / base:.0f}", *to_fast, *to_slow)


def _error(size: float) -> str:
    return f"{size:.1e}" if math.isfinite(size) else "never"


def whole(*, quick: bool) -> None:
    print("\nShare of a whole check's wall time that is inside forward, backward and reference (median of runs)")
    print(f"{'one call, us':>12}{'reference':>11}{'inputs':>10}{'wall, s':>9}{'calls':>7}{'counted':>9}{'metered':>9}")
    cases = [(cost, ref, decl) for cost in COSTS for ref in (False, True) for decl in (False, True)]
    share(min(COSTS), referenced=True, declared=False, seed=0)
    runs = [{case: share(case[0], referenced=case[1], declared=case[2], seed=s) for case in cases}
            for s in range(2 if quick else 7)]  # fmt: skip
    for case in cases:
        wall, counted, metered, calls = (
            median(getattr(run[case], name) for run in runs) for name in ("wall", "counted", "metered", "calls")
        )
        cost, ref, decl = case
        print(
            f"{1e6 * cost:>12.0f}{'yes' if ref else 'no':>11}{'declared' if decl else 'example':>10}"
            f"{wall:>9.2f}{calls:>7.0f}{counted:>9.2f}{metered:>9.2f}"
        )


def whole_catalogue(*, quick: bool) -> None:
    for referenced in (True, False):
        print(f"\nAll checks on one subject {'beside a reference' if referenced else 'alone'} (medians)")
        print("\n".join(catalogue.rows(referenced=referenced, runs=2 if quick else 7)))


def plugin(*, quick: bool) -> None:
    print("\nWhat the idle plugin adds to pytest --collect-only -q")
    print("\n".join(collection.measure(4 if quick else 20)))


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    quick = "--quick" in arguments
    parts = {"verdict": verdict, "check": whole, "catalogue": whole_catalogue, "collection": plugin}
    chosen = [a for a in arguments if not a.startswith("-")] or list(parts)
    for name in chosen:
        parts[name](quick=quick)


if __name__ == "__main__":
    main(sys.argv[1:])
