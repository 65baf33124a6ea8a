"""Exhibits as SVG, for a page that is light or dark.

Text is left to the page's font, and colours are the page's variables: a picture follows the scheme by itself.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gradharness.model.exhibit import HeatMap, LengthCurve, OracleValue, StepCurve
from gradharness.report import show

# What matplotlib is told, and the page's variable that takes its place.
INK, MUTED, GRID, GOOD, BAD, SURFACE = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    SURFACE: "var(--surface)",
}
# Signed values and excesses are drawn as more or less of one colour upon the page's own, light or dark, never so much
# of it that a number could not be read there.
_BLUE, _ORANGE, _RED = (0.16, 0.50, 0.90), (0.80, 0.42, 0.00), (0.86, 0.20, 0.27)
_FULL = 0.7
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", [(0.0, (*_BLUE, _FULL)), (0.5, (*_BLUE, 0.0)), (0.5, (*_ORANGE, 0.0)), (1.0, (*_ORANGE, _FULL))]
)
_EXCESS = LinearSegmentedColormap.from_list("excess", [(*_RED, 0.0), (*_RED, _FULL)])
_NOT_FINITE = (0.55, 0.35, 0.75, 0.9)

_WIDTH = 3.6  # inches; at 72 dots it is drawn in the size in which a phone shows it
_BESIDE, _BELOW, _RIGHT = 0.72, 0.42, 0.1  # what ticks and labels take
_NUMBERED = (8, 5)  # rows and columns up to which elements are written out
_DECADES = 8.0  # of excess, from one tolerance to full colour
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn exhibit.

    Attributes:
        svg: The element.
        title: One line above it.
        label: What it shows, for whoever does not see it.
    """

    svg: str
    title: str
    label: str


def heat_maps(shown: HeatMap, key: str) -> tuple[Picture, ...]:
    """Expected, got and their difference, in this order.

    Args:
        shown: The elements.
        key: Prefix of all ids in the pictures, unlike that of any other picture on the page.
    """
    expected, got, bound = (t.to(torch.float64).numpy() for t in (shown.expected, shown.got, shown.bound))
    finite = [float(np.abs(v[np.isfinite(v)]).max(initial=0.0)) for v in (expected, got)]
    largest = max(finite) or 1.0
    difference = got - expected
    with np.errstate(all="ignore"):
        excess = np.abs(difference) / bound
        heat = np.where(excess > 1, 0.3 + 0.7 * np.log10(excess) / _DECADES, 0.0)
    heat = np.where(np.isfinite(expected) & np.isfinite(got), np.nan_to_num(heat, nan=0.0, posinf=1.0), np.nan)
    part = f"{shown.part} part, " if shown.part else ""
    wrong = int((np.isnan(heat) | (heat > 0)).sum())
    told = f"{wrong} of {expected.size - shown.padding} elements shown are out of bounds"
    made = []
    for name, values, colours, norm, tells in (
        ("expected", expected, _SIGNED, Normalize(-largest, largest), f"largest magnitude {show.size(finite[0])}"),
        ("got", got, _SIGNED, Normalize(-largest, largest), f"largest magnitude {show.size(finite[1])}"),
        ("difference", difference, _EXCESS, Normalize(0, 1), told),
    ):
        painted = heat if name == "difference" else values
        svg = _map(shown, (values, painted), colours, norm, f"{key}-{name}")
        made.append(Picture(svg, name, f"Heat map, {part}{name} of {shown.label}: {tells}."))
    return tuple(made)


def oracle_values(values: Sequence[OracleValue], expected: complex | float, got: complex | float, key: str) -> Picture:
    """How far from the expected value everybody is: the oracles with their bounds, and the subject.

    Args:
        values: The oracles'.
        expected: What the subject was held against.
        got: The subject's.
        key: As in ``heat_maps``.
    """
    off = abs(got - expected)
    apart = [abs(v.value - expected) for v in values]
    positive = [x for x in (off, *apart, *(v.bound for v in values)) if x > 0 and math.isfinite(x)] or [1.0]
    left, right = min(positive) / 30, max(positive) * 30
    names = [*(v.oracle for v in values), "the subject"]
    with _figure(0.6 + 0.34 * len(names), left=0.12, top=0.12) as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        for row, (value, distance) in enumerate(zip(values, apart, strict=True)):
            axes.plot(
                [left, max(value.bound, left)], [row, row], color=GOOD, linewidth=6, alpha=0.35, solid_capstyle="butt"
            )
            axes.plot([max(distance, left)], [row], "o", color=GOOD, clip_on=False)
        axes.plot([off if math.isfinite(off) and off > 0 else right], [len(values)], "D", color=BAD, clip_on=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.yaxis.set_major_locator(NullLocator())
        for row, name in enumerate(names):
            axes.text(0.0, row - 0.22, name, transform=axes.get_yaxis_transform(), va="bottom", fontsize=8.5)
        _logarithmic(axes, "x")
        axes.set_xlabel("distance from the expected value")
        svg = _svg(figure, key)
    known = ", ".join(f"{v.oracle} {show.number(v.value)} ± {show.size(v.bound)}" for v in values)
    label = f"Distance from the expected value, logarithmic: {known}; the subject is off by {show.size(off)}."
    return Picture(svg, "what everybody says of the worst element", label)


def step_curve(curve: StepCurve, key: str) -> Picture:
    """Distance of the differences from the subject's gradient and from the expected one, against the step."""
    steps = np.array(curve.steps)
    bounds = np.array(curve.bounds)
    to_claimed = np.abs(np.array(curve.values) - curve.claimed)
    to_expected = np.abs(np.array(curve.values) - curve.expected)
    plateau = abs(curve.claimed - curve.expected)
    seen = np.concatenate([bounds, to_claimed, to_expected, [plateau]])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    bottom, top = (float(seen.min()) / 10, float(seen.max()) * 10) if seen.size else (0.1, 10.0)
    with _figure(2.8, left=_BESIDE, top=0.62) as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        axes.fill_between(steps, bottom, np.clip(bounds, bottom, None), color=GOOD, alpha=0.15, linewidth=0)
        if plateau > 0:
            axes.axhline(plateau, color=BAD, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(steps, np.clip(to_claimed, bottom, None), "D-", color=BAD, label="from the subject's gradient")
        axes.plot(steps, np.clip(to_expected, bottom, None), "o-", color=GOOD, label="from the expected gradient")
        axes.fill_between([], [], color=GOOD, alpha=0.15, label="error bound of the difference")
        _logarithmic(axes, "both")
        axes.set_xlabel("step")
        axes.set_ylabel("distance")
        _legend(figure)
        svg = _svg(figure, key)
    place = curve.label + (str(list(curve.index)) if curve.index else "")
    label = (
        f"Central differences at {place} for {len(steps)} steps from {show.size(curve.steps[0])} to "
        f"{show.size(curve.steps[-1])}, both axes logarithmic. They come within {show.size(float(to_expected.min()))} "
        f"of the expected gradient, and stay {show.size(float(to_claimed.min()))} or more away from the subject's."
    )
    return Picture(svg, "finite differences against their step", label)


def length_curve(curve: LengthCurve, key: str) -> Picture:
    """Relative error in a low precision against the length of a sum, beside plain torch's."""
    with _figure(2.6, left=_BESIDE, top=0.45) as (figure, axes):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.plot(curve.lengths, curve.errors, "D-", color=BAD, label="the subject")
        if curve.plain:
            axes.plot(curve.lengths, curve.plain, "o-", color=GOOD, label="plain torch")
        _logarithmic(axes, "y")
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(visible=True)
        axes.set_xlabel(f"size of {curve.dim}")
        axes.set_ylabel(f"relative error in {curve.dtype}")
        _legend(figure)
        svg = _svg(figure, key)
    last = (
        f"{show.size(curve.errors[0])} at {curve.lengths[0]} and {show.size(curve.errors[-1])} at {curve.lengths[-1]}"
    )
    plain = f"; plain torch's is {show.size(curve.plain[-1])} there" if curve.plain else ""
    what = f"Relative error of the gradient of {curve.label} in {curve.dtype} against the size of {curve.dim}"
    label = f"{what}: {last}{plain}."
    return Picture(svg, f"error in {curve.dtype} against length", label)


# ---------------------------------------------------------------------------------------------------------------- parts


def _map(
    shown: HeatMap, values: tuple[np.ndarray, np.ndarray], colours: LinearSegmentedColormap, norm: Normalize, key: str
) -> str:
    numbers, painted = values
    rows, columns = numbers.shape
    cell = np.clip(_WIDTH / columns, 0.0, 0.42)
    with _figure(float(np.clip(cell * rows, 0.35, _WIDTH)) + 0.33, left=0.42, top=0.08, bottom=0.25) as (figure, axes):
        rgba = colours(norm(np.nan_to_num(painted, posinf=0.0, neginf=0.0)))
        rgba[~np.isfinite(numbers)] = _NOT_FINITE
        if shown.padding:
            rgba[-1, columns - shown.padding :] = 0.0
        axes.imshow(rgba, aspect="auto", interpolation="none", extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
        axes.add_patch(_outline(shown.worst[1], shown.worst[0], INK, 1.6))
        if rows <= _NUMBERED[0] and columns <= _NUMBERED[1]:
            for row, column in np.ndindex(rows, columns):
                text = _short(float(numbers[row, column]))
                axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=INK)
        top, left = (0, 0) if shown.wrapped else ((0, *shown.corner)[-2:])
        for axis, first, count in ((axes.xaxis, left, columns), (axes.yaxis, top, rows)):
            axis.set_major_locator(MaxNLocator(nbins=min(count, 6), integer=True, min_n_ticks=1))
            axis.set_major_formatter(FuncFormatter(_counted(first, count)))
        if shown.wrapped:
            axes.yaxis.set_major_formatter(FuncFormatter(_wrapped(shown.corner[0], columns, rows)))
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(GRID)
        axes.tick_params(length=0)
        return _svg(figure, key)


def _outline(x: float, y: float, colour: str, width: float) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width, clip_on=False)


def _counted(first: int, count: int) -> Callable[[float, object], str]:
    return lambda value, _: f"{int(value) + first}" if value == int(value) and 0 <= value < count else ""


def _wrapped(first: int, columns: int, count: int) -> Callable[[float, object], str]:
    return lambda value, _: f"{first + int(value) * columns}" if value == int(value) and 0 <= value < count else ""


def _short(value: float) -> str:
    return show.number(value, 3)


@contextmanager
def _figure(height: float, *, left: float, top: float = 0.1, bottom: float = _BELOW) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one system of axes; all lengths in inches. Margins are given, since finding them takes a second."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        box = left / _WIDTH, bottom / height, 1 - (left + _RIGHT) / _WIDTH, 1 - (top + bottom) / height
        yield figure, figure.add_axes(box)


def _legend(figure: Figure) -> None:
    figure.legend(loc="upper left", bbox_to_anchor=(0.02, 1.0), fontsize=8.5, handlelength=2.2, borderaxespad=0.0)


def _logarithmic(axes: Axes, which: Literal["x", "y", "both"]) -> None:
    """Few ticks, written as numbers are in the rest of the report."""
    for axis in (axes.xaxis, axes.yaxis) if which == "both" else (getattr(axes, f"{which}axis"),):
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.0e}" if not 0.01 <= value < 1000 else f"{value:g}")
        )
    axes.grid(visible=True, axis=which)


def _svg(figure: Figure, key: str) -> str:
    """The element alone, with ids of its own and the page's colours."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": key}):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
