"""Ratios on a noisy machine: all contestants in turn, round after round, and the median of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

# A contestant makes what one call needs (not timed) and gives the call.
Contestant = Callable[[], Callable[[], object]]


def medians(contestants: Mapping[str, Contestant], *, rounds: int, seconds: float = 30.0) -> dict[str, float]:
    """Median seconds of one call of each, right after an untimed call of the same: a search calls again and again.

    Args:
        contestants: By name.
        rounds: Most timed calls of each.
        seconds: No further round is begun after so long, once there were five.
    """
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    begin = time.perf_counter()
    for number in range(rounds):
        if number >= 5 and time.perf_counter() - begin > seconds:
            break
        for name, prepare in contestants.items():
            prepare()()
            call = prepare()
            started = time.perf_counter()
            call()
            spent[name].append(time.perf_counter() - started)
    return {name: median(found) for name, found in spent.items()}
