"""Reports with every kind of exhibit, made without a search, for the tests of the page."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser

import torch

from gradharness.engine.plan import Item
from gradharness.model.exhibit import (
    Drawing,
    DrawnNode,
    HeatMap,
    LengthCurve,
    NodeKind,
    OracleValue,
    StepCurve,
)
from gradharness.model.verdict import CheckResult, Fault, Finding, Report
from gradharness.report.html.view import About, Shown
from tests.fakes import ERROR, WARNING, result

ABOUT = About(version="1.2.3", when="2026-01-02 03:04 UTC")


def heat_map(rows: int = 3, columns: int = 4, *, label: str = "x") -> HeatMap:
    expected = torch.linspace(-2, 3, rows * columns, dtype=torch.float64).reshape(rows, columns)
    got = expected.clone()
    got[-1, 0] *= -2
    return HeatMap(
        label=label,
        expected=expected,
        got=got,
        bound=torch.full_like(expected, 1e-6),
        shape=(rows, columns),
        corner=(0, 0),
        worst=(rows - 1, 0),
    )


ORACLES = (
    OracleValue(oracle="autograd of the reference", value=-0.25, bound=1e-15),
    OracleValue(oracle="finite difference", value=-0.25000000001, bound=3e-10),
)
STEPS = StepCurve(
    label="x",
    index=(0, 1),
    steps=tuple(2.0**-k for k in range(1, 26, 2)),
    values=tuple(-0.25 + 0.1 * 4.0**-k for k in range(13)),
    bounds=tuple(0.2 * 4.0**-k + 1e-12 for k in range(13)),
    claimed=-0.5,
    expected=-0.25,
)
LENGTHS = LengthCurve(
    label="w", dtype="bfloat16", dim="n", lengths=(64, 256, 1024), errors=(0.01, 0.05, 0.3), plain=(1e-3, 2e-3, 2e-3)
)
PROGRAM = Drawing(
    nodes=(
        DrawnNode(label="x", kind=NodeKind.LEAF),
        DrawnNode(label="sin", kind=NodeKind.OP),
        DrawnNode(label="Scale", kind=NodeKind.SUBJECT, guilty=True),
        DrawnNode(label="add", kind=NodeKind.OP),
        DrawnNode(label="output", kind=NodeKind.OUTPUT),
    ),
    edges=((0, 1), (1, 2), (2, 3), (0, 3), (3, 4)),
    why="another branch is added to its output",
)
EVERYTHING = (heat_map(), *ORACLES, STEPS, LENGTHS, PROGRAM)
SCRIPT = "import torch\n\nprint('expected', 1 < 2 & 3)\n"


def finding(**changes: object) -> Finding:
    """An error with every kind of exhibit and a reproducer."""
    return replace(ERROR, **{"exhibits": EVERYTHING, "reproducer": SCRIPT, **changes})


def failed(check: str, *findings: Finding) -> CheckResult:
    return replace(result(Item(check, "cpu", "float64"), "fail"), findings=findings)


def report(name: str, *results: CheckResult, **changes: object) -> Report:
    given = Report(
        subject=name,
        results=results,
        domain=("x: float64[n, d] (declared)",),
        notes=("the reference is float32",),
        seed=17,
        environment=(("torch", "2.13"), ("machine", "x86_64")),
        seconds=1.5,
    )
    return replace(given, **changes)


def shown(name: str, *results: CheckResult, **changes: object) -> Shown:
    return Shown(report=report(name, *results, **changes), target=f"test_ops.py::{name}")


def passing(name: str = "test_right") -> Shown:
    items = [Item(check, "cpu", "float64") for check in ("vjp", "linearity", "leak")]
    return shown(name, result(items[0], "pass"), result(items[1], "pass"), result(items[2], "skipped"))


def examples() -> list[Shown]:
    """One subject of each verdict, warnings among them; the right one first, to see the order change."""
    warning = result(Item("contract", "cpu", "float64"), "warning")
    other = finding(check="shape", fault=Fault.WRONG_FOR_SHAPE, message="wrong for <n> = 0", exhibits=())
    return [
        passing(),
        shown("test_open", result(Item("vjp", "cpu", "float32"), "undecided")),
        shown("test_wrong", failed("vjp", finding()), warning, failed("shape", other)),
    ]


def many(subjects: int = 50, findings: int = 20) -> list[Shown]:
    """A large page: some subjects with large pictures, all others with twenty checks each."""
    checks = [f"check{n}" for n in range(20)]
    made = []
    for number in range(subjects):
        results = [result(Item(check, "cpu", "float64"), "pass") for check in checks]
        if number < findings:
            exhibits = (heat_map(64, 64), *ORACLES, STEPS, LENGTHS, PROGRAM)
            results[3] = failed("check3", finding(exhibits=exhibits, reproducer=SCRIPT * 10))
        made.append(shown(f"test_{number}", *results))
    return made


VOID = {"meta", "link", "br", "hr", "img", "input"}
WARNED = WARNING


class Page(HTMLParser):
    """A page as a list of elements, for questions about it. Refuses elements that are not closed in order.

    Attributes:
        elements: (tag, attributes) in order.
        texts: (tag, id of the nearest element with one, text) of everything written.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> without its start"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag, **attributes):
        """Attributes of the elements of a tag, with these among them (``class_`` for class)."""
        wanted = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items()}
        return [
            a
            for t, a in self.elements
            if t == tag and all((a.get(k) or "").split(" ").count(v) for k, v in wanted.items())
        ]

    @property
    def ids(self):
        return [a["id"] for _, a in self.elements if "id" in a]

    @property
    def text(self):
        return " ".join(text for tag, text in self.texts if tag not in ("style", "script"))


def is_finite(values):
    return all(math.isfinite(v) for v in values)
