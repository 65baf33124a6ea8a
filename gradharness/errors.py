"""Every exception of gradharness.

GradharnessError
├── UsageError            the caller asked for something that cannot be: value, place, remedy
│   ├── SpecError         an argument's spec is malformed or fits no argument
│   ├── UnknownNameError  no check, profile, device or dtype of that name ("did you mean …")
│   └── LoadError         a file or module of the user's does not import
├── SubjectError          the code under test raised; the original exception is the cause
│   ├── ForwardRaised
│   └── BackwardRaised
└── OracleUnavailable     this source of a derivative cannot answer here, and why

GradientError(AssertionError)   a gradient is wrong; the text is the report
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GradharnessError(Exception):
    """Root of all exceptions that gradharness raises on purpose."""


class UsageError(GradharnessError):
    """The call itself is wrong. The message is one line: the value, its place, the remedy."""


class SpecError(UsageError):
    """An argument's spec is malformed, or names an argument that does not exist."""


class UnknownNameError(UsageError):
    """No check, profile, device or dtype goes by this name.

    Args:
        what: Kind of thing that was looked up, such as "check".
        name: The name that was not found.
        known: All names that would have been found.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
        super().__init__(f"unknown {what} {name!r}: {hint}")


class OutputError(UsageError):
    """The forward returned something in which there is no tensor."""


class LoadError(UsageError):
    """A file or module that was to be checked does not import, or lacks the attribute."""


class SubjectError(GradharnessError):
    """The code under test raised. ``original`` is its exception."""

    phase = "call"

    def __init__(self, original: BaseException) -> None:
        self.original = original
        super().__init__(f"{self.phase} raised {type(original).__name__}: {first_line(original)}")


class ForwardRaised(SubjectError):
    """The subject's (or the reference's) forward raised."""

    phase = "forward"


class BackwardRaised(SubjectError):
    """The subject's (or the reference's) backward raised."""

    phase = "backward"


class OracleUnavailable(GradharnessError):
    """An oracle has no answer at this point; the message says why."""


class GradientError(AssertionError):
    """A gradient is wrong. The text is the whole report."""


def first_line(error: BaseException, width: int = 200) -> str:
    """First line of an exception's text, cut at ``width`` characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:width] if lines else "(no message)"
