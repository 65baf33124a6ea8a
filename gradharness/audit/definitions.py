"""The nouns of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradharness.audit.files import SourceFile
from gradharness.model.reach import BackwardKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Why no gradient test is asked for.

    Attributes:
        reason: In the author's words.
        place: Where that stands.
    """

    reason: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A place in the source that defines something with a hand-written backward.

    Attributes:
        name: What an exemption calls it: ``package.module.Name``, of an op ``namespace::name``.
        qualname: Its qualified name in its module; of an op, its name, with ``*`` for parts that are not literal.
        kind: What it is.
        path: The file.
        line: Where it begins.
        last: Its last line.
        module: Name of its module.
        local: Whether it is made inside of a function.
        bases: Names of the definitions that it inherits from, nearest first.
        left_out: Why it asks for no test; empty if it does.
        exemption: What the author says; None if nothing.
    """

    name: str
    qualname: str
    kind: BackwardKind
    path: Path
    line: int
    last: int
    module: str
    local: bool = False
    bases: tuple[str, ...] = ()
    left_out: str = ""
    exemption: Exemption | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file whose definitions are not known.

    Attributes:
        path: Which.
        reason: Why.
    """

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a package's source says.

    Attributes:
        package: As it was asked for.
        files: What was looked at.
        definitions: All, in the order of files and lines.
        unread: Files that cannot be read.
        mistakes: What is wrong with exemptions, one line each.
    """

    package: str
    files: tuple[SourceFile, ...]
    definitions: tuple[Definition, ...]
    unread: tuple[Unread, ...] = ()
    mistakes: tuple[str, ...] = ()


def short(path: Path) -> str:
    """A path as somebody in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
