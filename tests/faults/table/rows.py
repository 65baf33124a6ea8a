"""All rows, in the order of their numbers."""

from tests.faults.table import cotangents, entries, layouts, orders, precision, regions, state, tolerances

PARTS = (precision, layouts, regions, state, orders, cotangents)
ROWS = [*sorted((row for part in PARTS for row in part.ROWS), key=lambda row: row.number)]
ROWS += [*tolerances.ROWS, *entries.ROWS]
