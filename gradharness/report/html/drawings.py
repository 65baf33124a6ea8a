"""A program's graph as SVG: leaves at the top, outputs at the bottom, the guilty node marked by more than a colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from gradharness.model.exhibit import Drawing, DrawnNode, NodeKind
from gradharness.report.html.pictures import Picture

_LETTER, _HEIGHT, _GAP, _LEVEL, _EDGE = 7.6, 30.0, 18.0, 66.0, 8.0
_LONGEST = 26  # letters in a box
_SWEEPS = 6


@dataclass(slots=True)
class _Layout:
    """Where everything lies. Numbers from ``len(nodes)`` on stand for edges on their way past a level."""

    drawing: Drawing
    levels: list[list[int]] = field(default_factory=list)
    below: dict[int, list[int]] = field(default_factory=dict)
    routes: list[list[int]] = field(default_factory=list)
    centre: dict[int, float] = field(default_factory=dict)
    width: float = 0.0

    def __post_init__(self) -> None:
        depth = _depths(self.drawing)
        self.levels = [[] for _ in range(max(depth) + 1)]
        for number, level in enumerate(depth):
            self.levels[level].append(number)
        passing = len(depth)
        for start, end in self.drawing.edges:
            route = [start]
            for level in range(depth[start] + 1, depth[end]):
                self.levels[level].append(passing)
                route.append(passing)
                passing += 1
            self.routes.append([*route, end])
        for route in self.routes:
            for upper, lower in pairwise(route):
                self.below.setdefault(upper, []).append(lower)
        self._order()
        self._place()

    def box_width(self, number: int) -> float:
        """Of a node; an edge on its way needs little."""
        if number >= len(self.drawing.nodes):
            return _EDGE
        return max(48.0, 22.0 + _LETTER * len(_text(self.drawing.nodes[number])))

    def _order(self) -> None:
        """Barycentres, down and up in turn, so that few edges cross."""
        above: dict[int, list[int]] = {}
        for upper, lowers in self.below.items():
            for lower in lowers:
                above.setdefault(lower, []).append(upper)
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            levels = self.levels if down else self.levels[::-1]
            for known, level in pairwise(levels):
                places = {number: place for place, number in enumerate(known)}
                near = above if down else self.below
                keys = {}
                for place, number in enumerate(level):
                    seen = [places[n] for n in near.get(number, ()) if n in places]
                    keys[number] = sum(seen) / len(seen) if seen else place
                level.sort(key=keys.__getitem__)

    def _place(self) -> None:
        widths = [sum(map(self.box_width, level)) + _GAP * (len(level) - 1) for level in self.levels]
        self.width = max(widths) + 2 * _GAP
        for level, width in zip(self.levels, widths, strict=True):
            x = (self.width - width) / 2
            for number in level:
                self.centre[number] = x + self.box_width(number) / 2
                x += self.box_width(number) + _GAP


def program_drawing(drawing: Drawing, key: str) -> Picture:
    """The graph.

    Args:
        drawing: Its nodes and edges.
        key: Prefix of all ids in the picture, unlike that of any other picture on the page.
    """
    layout = _Layout(drawing)
    height = _LEVEL * (len(layout.levels) - 1) + _HEIGHT + 2 * _GAP
    rows = {number: row for row, level in enumerate(layout.levels) for number in level}
    parts = [
        f'<svg viewBox="0 0 {layout.width:.0f} {height:.0f}" style="max-width: {layout.width:.0f}px" class="graph" '
        'aria-hidden="true" focusable="false" xmlns="http://www.w3.org/2000/svg">',
        f'<defs><marker id="{key}-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" class="head"/></marker></defs>',
    ]
    for route in layout.routes:
        points = [(layout.centre[n], _GAP + _LEVEL * rows[n]) for n in route]
        parts.append(f'<path d="{_path(points)}" class="edge" marker-end="url(#{key}-arrow)"/>')
    for number, node in enumerate(drawing.nodes):
        parts.append(_box(node, layout.centre[number], _GAP + _LEVEL * rows[number], layout.box_width(number)))
    parts.append("</svg>")
    guilty = [n.label for n in drawing.nodes if n.guilty]
    told = f", in which {guilty[0]} is to blame" if guilty else ""
    words = "; ".join(f"{drawing.nodes[a].label} to {drawing.nodes[b].label}" for a, b in drawing.edges)
    return Picture("".join(parts), "the program", f"Graph of the program{told}. Edges: {words}.")


def _depths(drawing: Drawing) -> list[int]:
    """Longest way from a leaf to each node; an edge that would close a circle is not followed."""
    parents: dict[int, list[int]] = {}
    for start, end in drawing.edges:
        parents.setdefault(end, []).append(start)
    known: dict[int, int] = {}

    def depth(number: int, path: frozenset[int]) -> int:
        if number not in known:
            ways = [depth(p, path | {number}) + 1 for p in parents.get(number, ()) if p not in path | {number}]
            known[number] = max(ways, default=0)
        return known[number]

    found = [depth(number, frozenset()) for number in range(len(drawing.nodes))]
    # A leaf stands just above the first node that takes it.
    for number in range(len(found)):
        lower = [found[end] for start, end in drawing.edges if start == number]
        if number not in parents and lower:
            found[number] = max(0, min(lower) - 1)
    return found


def _path(points: list[tuple[float, float]]) -> str:
    (x, y), *rest = points
    text = f"M{x:.1f} {y + _HEIGHT:.1f}"
    bottom = y + _HEIGHT
    for number, (to_x, to_y) in enumerate(rest):
        last = number == len(rest) - 1
        middle = (bottom + to_y) / 2
        text += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y - (1 if last else 0):.1f}"
        if not last:
            text += f"L{to_x:.1f} {to_y + _HEIGHT:.1f}"
        x, bottom = to_x, to_y + _HEIGHT
    return text


def _box(node: DrawnNode, x: float, y: float, width: float) -> str:
    kind = f"{node.kind.value}{' guilty' if node.guilty else ''}"
    radius = _HEIGHT / 2 if node.kind in (NodeKind.LEAF, NodeKind.OUTPUT) else 5
    return (
        f'<g class="node {kind}"><rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" '
        f'rx="{radius:.0f}"/><text x="{x:.1f}" y="{y + _HEIGHT / 2 + 4.5:.1f}">{escape(_text(node))}</text></g>'
    )


def _text(node: DrawnNode) -> str:
    mark = "\N{BALLOT X} " if node.guilty else ""
    label = node.label if len(node.label) <= _LONGEST else node.label[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return mark + label
