"""Shapes written as named dims: ``"n d"``, ``"n 3"``, ``"*batch d"``, ``"#n d"``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from gradharness.errors import SpecError

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
ELLIPSIS_NAME = "..."
_REMEDY = "write names and sizes with spaces between them, such as 'n d', 'n 3', '*batch d' or '' for a scalar"


class Broadcast(Enum):
    """Whether an axis may have size one while its dim has another."""

    NEVER = "has always the size of its dim"
    POSSIBLE = "could be one: the forward accepts it, the example does not show it"
    DECLARED = "may be one: the spec or the example says so"


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor: a dim by name, or a size.

    Attributes:
        name: The dim's name; empty if the size is literal.
        size: The literal size; None if the axis has a name.
        variadic: True if the name stands for any number of dims.
        broadcast: Whether the axis may be one.
        factor: The axis is so many times as long as its dim (the four gates of an LSTM); only ever inferred.
    """

    name: str = ""
    size: int | None = None
    variadic: bool = False
    broadcast: Broadcast = Broadcast.NEVER
    factor: int = 1

    def __str__(self) -> str:
        if self.size is not None:
            return str(self.size)
        if self.variadic:
            return self.name if self.name == ELLIPSIS_NAME else f"*{self.name}"
        if self.factor > 1:
            return f"{self.factor}*{self.name}"
        return f"#{self.name}" if self.broadcast is Broadcast.DECLARED else self.name


Shape: TypeAlias = tuple[Axis, ...]


def shape_text(shape: Shape) -> str:
    """The shape as it is written."""
    return " ".join(str(axis) for axis in shape)


def parse_shape(text: object, where: str = "shape") -> Shape:
    """Read a shape.

    Args:
        text: Names, sizes, ``#name`` (the axis may also be one) and at most one ``*name`` or ``...``.
        where: What is read, for the message.

    Returns:
        One axis per token.

    Raises:
        SpecError: If the text is no shape.
    """
    if not isinstance(text, str):
        raise SpecError(f"{where}: shape must be text such as 'n d', not {text!r}")
    shape = tuple(_axis(token, text, where) for token in text.split())
    if sum(axis.variadic for axis in shape) > 1:
        raise SpecError(f"{where}: shape {text!r} has more than one variadic part; keep one '*name' or '...'")
    return shape


def _axis(token: str, text: str, where: str) -> Axis:
    if token.isascii() and token.isdigit():
        return Axis(size=int(token))
    if token == ELLIPSIS_NAME:
        return Axis(ELLIPSIS_NAME, variadic=True)
    mark, name = (token[0], token[1:]) if token[0] in "*#" else ("", token)
    if not NAME.fullmatch(name):
        raise SpecError(f"{where}: {token!r} in shape {text!r} is no dim; {_REMEDY}")
    return Axis(name, variadic=mark == "*", broadcast=Broadcast.DECLARED if mark == "#" else Broadcast.NEVER)
