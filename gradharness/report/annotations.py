"""Findings as lines that a CI service or an editor ties to the place of the user's test.

``github`` writes workflow commands, which GitHub shows beside the code; ``plain`` writes what compilers write:

    test_ops.py:12: error: the gradient of `x` is 2 times the right one [constant factor]

This module needs no torch until it is given a report: what writes the lines need not be what ran the tests.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from gradharness.errors import UsageError

if TYPE_CHECKING:
    from gradharness.model.verdict import CheckResult, Report


class Style(StrEnum):
    """How findings are annotated."""

    GITHUB = "github"
    PLAIN = "plain"
    NONE = "none"


UNDECIDED = "undecided"
STYLES = ("auto", *(style.value for style in Style))


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, counted from 1."""

    path: Path
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One finding at one place.

    Attributes:
        path: File of the user's test.
        line: First line of the test, from 1.
        severity: ``error`` or ``warning``.
        subject: Name of the test.
        check: Id of the check that found it, such as ``vjp-cpu-float64``.
        fault: Kind of fault.
        message: The finding's sentence.
        details: Where, the two numbers, and the command that replays it.
    """

    path: str
    line: int
    severity: str
    subject: str
    check: str
    fault: str
    message: str
    details: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int, str, str, str, str]:
        """The same for one fault that several checks see."""
        check = self.check if self.fault == UNDECIDED else ""
        return (self.path, self.line, self.subject, self.severity, self.fault, check)


def style_of(choice: str | None, environment: Mapping[str, str] = os.environ) -> Style:
    """What is meant by a choice: ``auto`` (or None) is ``github`` on GitHub's runners and ``none`` elsewhere.

    Raises:
        UsageError: There is no such style.
    """
    if choice in (None, "auto"):
        return Style.GITHUB if environment.get("GITHUB_ACTIONS") == "true" else Style.NONE
    if choice not in STYLES:
        raise UsageError(f"annotate={choice!r}: give one of {', '.join(STYLES)}")
    return Style(choice)


def annotate(report: Report, place: Place, *, target: str = "") -> tuple[Annotation, ...]:
    """Each check that could not decide, as a warning, and each fault of a report once, the worst last.

    Args:
        report: What was found.
        place: Of the test.
        target: As for ``text.render``.
    """
    from gradharness.model.verdict import Verdict
    from gradharness.report import text

    found = [_undecided(report, result, place) for result in report.results if result.verdict is Verdict.UNDECIDED]
    for seen in text.worst_last(report):
        finding = seen.finding
        numbers = () if finding.witness is None else tuple(text.numbers(finding.witness))
        annotation = Annotation(
            path=str(place.path),
            line=place.line,
            severity=finding.severity.value,
            subject=report.subject,
            check=text.identity(seen.by[0]),
            fault=finding.fault.value,
            message=finding.message,
            details=(*numbers, *finding.evidence, f"replay: {text.command(report, seen, target)}"),
        )
        found.append(annotation)
    return tuple(found)


def _undecided(report: Report, result: CheckResult, place: Place) -> Annotation:
    from gradharness.report import text

    return Annotation(
        path=str(place.path),
        line=place.line,
        severity="warning",
        subject=report.subject,
        check=text.identity(result),
        fault=UNDECIDED,
        message=f"could not decide: {result.reason or 'no reason is known'}",
        details=("this is not a pass",),
    )


def lines(found: Iterable[Annotation], style: Style) -> list[str]:
    """What to print: one line for each fault of each test, however many checks saw it."""
    if style is Style.NONE:
        return []
    writer: Callable[[Annotation], str] = github if style is Style.GITHUB else plain
    once: dict[object, Annotation] = {}
    for annotation in found:
        once.setdefault(annotation.key, annotation)
    return [writer(annotation) for annotation in once.values()]


def github(annotation: Annotation) -> str:
    """A workflow command. Its path is one from the root of the repository, as GitHub wants it."""
    title = f"{annotation.subject} [{annotation.check}]: {annotation.fault}"
    path = _from(_repository(), annotation.path)
    content = "\n".join([annotation.message, *annotation.details])
    return (
        f"::{annotation.severity} file={_property(path)},line={annotation.line},title={_property(title)}"
        f"::{_data(content)}"
    )


def plain(annotation: Annotation) -> str:
    """As compilers write; the path is one from the current folder."""
    message = " ".join(annotation.message.split())
    path = _from(Path.cwd(), annotation.path)
    return f"{path}:{annotation.line}: {annotation.severity}: {message} [{annotation.fault}]"


def place_of(function: Callable[..., object] | None, path: Path, name: str) -> Place:
    """Where a test stands: its function's first line, else the line of the file that gives it its name.

    Args:
        function: What the decorator stood on; None for ``test_name = gradient_test(...)``.
        path: File where the test was found.
        name: Its name there.
    """
    code = getattr(function, "__code__", None)
    if code is not None:
        return Place(Path(code.co_filename), code.co_firstlineno)
    return Place(path, _line_of(path, name))


def _line_of(path: Path, name: str) -> int:
    """The last line that binds the name at the top of a file; 1 where none is found."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return 1
    return max((node.lineno for node in _at_the_top(tree) if name in _bound(node)), default=1)


def _at_the_top(tree: ast.AST) -> Iterator[ast.stmt | ast.expr]:
    """Statements and expressions that are not inside a function or a class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt | ast.expr):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _at_the_top(node)


def _bound(node: ast.AST) -> set[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        targets = [node.target]
    elif isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}


def _repository() -> Path:
    """The checkout that CI works in; without one the folder with ``.git``, at last the current folder."""
    here = Path.cwd()
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and here.is_relative_to(Path(workspace).resolve()):
        return Path(workspace).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def _from(folder: Path, path: str) -> str:
    whole = Path(path).resolve()
    return (whole.relative_to(folder) if whole.is_relative_to(folder) else whole).as_posix()


def _data(content: str) -> str:
    return content.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(content: str) -> str:
    return _data(content).replace(":", "%3A").replace(",", "%2C")
