"""Faults planted in backward code as people write it, each with what a report may truly say of it."""

from __future__ import annotations

from properties.naming import (
    arrangements,
    axes,
    cotangents,
    duplicates,
    factors,
    in_place,
    layouts,
    modes,
    numbers,
    places,
    projections,
    reductions,
    regions,
    returned,
    shifts,
    signs,
    special,
    states,
)
from properties.naming.entry import Planted

_MODULES = (factors, signs, arrangements, reductions, cotangents, regions, places, shifts, axes, projections)
_MODULES += (modes, states, numbers, layouts, duplicates, in_place, returned, special)

ENTRIES: tuple[Planted, ...] = tuple(entry for module in _MODULES for entry in module.ENTRIES)
