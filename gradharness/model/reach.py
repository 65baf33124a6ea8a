"""What hand-written backwards there are, and which of them a call has reached. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class BackwardKind(Enum):
    """What holds a hand-written backward; the value is what reports call it."""

    FUNCTION = "Function"
    CLASS = "class"
    OP = "custom op"


@dataclass(frozen=True, slots=True)
class Holder:
    """What holds a hand-written backward, as a running program knows it.

    Attributes:
        kind: Function, plain class or custom op.
        name: Qualified name in its module; of an op, ``namespace::name``.
        file: Where its module was read from; empty for an op.
        lines: First lines of its own methods in that file.
    """

    kind: BackwardKind
    name: str
    file: str = ""
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reached:
    """A holder whose backward has run.

    Attributes:
        holder: Which.
        direct: Whether it was the only one that ran outside of any other hand-written backward.
    """

    holder: Holder
    direct: bool
