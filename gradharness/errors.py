"""Every exception of gradharness.

GradharnessError
├── UsageError            the caller asked for something that cannot be: value, place, remedy
│   ├── SpecError         an argument's spec is malformed or fits no argument
│   ├── UnknownNameError  no check, profile, device or dtype of that name ("did you mean …")
│   ├── LoadError         a file or module of the user's does not import
│   ├── ConfigError       [tool.gradharness] of pyproject.toml cannot be read
│   ├── BaselineError     a baseline is missing, damaged, foreign, of a newer version, or cannot be written
│   └── StoreError        a store cannot be opened or written, or a file in it is refused
├── SubjectError          the code under test raised; the original exception is the cause
│   ├── ForwardRaised
│   ├── BackwardRaised
│   └── BuildRaised       a module cannot even be built
├── RuleError             a hand-written VJP of an op raised, or returned what is no gradient
├── OperandsRefused       the forward of an op raised: a program puts another op in its place
└── OracleUnavailable     this source of a derivative cannot answer here, and why

GradientError(AssertionError)   a gradient is wrong; the text is the report
UndecidedWarning(UserWarning)   nothing is wrong as far as could be told, and that was not far
"""

from __future__ import annotations

import difflib
import linecache
from collections.abc import Iterable
from traceback import extract_tb


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


class ConfigError(UsageError):
    """``[tool.gradharness]`` cannot be read, or holds a value that its key does not take."""


class BaselineError(UsageError):
    """A baseline is missing, damaged, another program's, of a newer version, or cannot be written."""


class StoreError(UsageError):
    """The store of a campaign or of kept witnesses cannot be opened or written, or a file in it is refused."""


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


class BuildRaised(SubjectError):
    """The factory or class of a module raised, or made something that is not ready to be used."""

    phase = "building"


class RuleError(GradharnessError):
    """The VJP of an op raised, or returned something that is no gradient of its operands.

    Args:
        step: Number of the step in its program.
        op: Name of the op.
        what: What it did, as "raised …" or "gave …".
    """

    def __init__(self, step: int, op: str, what: str) -> None:
        self.step = step
        self.op = op
        self.what = what
        super().__init__(f"the VJP of {op} {what}")


class OperandsRefused(GradharnessError):
    """The forward of an op does not take such operands."""


class OracleUnavailable(GradharnessError):
    """An oracle has no answer at this point; the message says why."""


class GradientError(AssertionError):
    """A gradient is wrong. The text is the whole report."""


class UndecidedWarning(UserWarning):
    """Where an answer has to be True or False: nothing was found wrong, and nothing was proved right."""


def first_line(error: BaseException, width: int = 200) -> str:
    """First line of an exception's text, cut at ``width`` characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:width] if lines else "(no message)"


def is_refusal(error: BaseException) -> bool:
    """Whether an exception was raised on purpose: its innermost Python line is a ``raise`` or an ``assert``.

    An operation that breaks on unexpected inputs raises from within torch; the innermost line is then a call.
    """
    frames = extract_tb(error.__traceback__)
    if not frames or "/torch/" in frames[-1].filename.replace("\\", "/"):
        return False
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    words = ("assert ", "assert(") if isinstance(error, AssertionError) else ("raise ", "raise(")
    return line.startswith(words)
