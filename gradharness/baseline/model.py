"""What a baseline holds: levels of checks with the environment of each, and known failures.

Nothing here needs torch: pytest asks before there is a gradient test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

PASS, FAIL, UNDECIDED, SKIPPED = VERDICTS = ("pass", "fail", "undecided", "skipped")
DIGITS = 2  # significant digits of what is recorded: reruns give the same file, and only the order of an error counts

Environment: TypeAlias = tuple[tuple[str, str], ...]  # (name, value), such as ("torch", "2.13.0"), in a fixed order


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One check of one gradient test, on one device in one dtype.

    Attributes:
        subject: Its address, such as ``tests/test_ops.py::test_linear``; the path is relative to the baseline's folder.
        check: Name of the check.
        device: As planned, such as ``cpu``.
        dtype: As planned, such as ``float64``.
    """

    subject: str
    check: str
    device: str
    dtype: str

    @classmethod
    def of(cls, subject: str, id: str) -> Key:
        """From the id of a planned item.

        Raises:
            ValueError: It is not ``check-device-dtype``.
        """
        check, device, dtype = id.rsplit("-", 2)
        return cls(subject, check, device, dtype)

    @property
    def id(self) -> str:
        """As in ``test_linear[vjp-cpu-float64]``."""
        return f"{self.check}-{self.device}-{self.dtype}"

    @property
    def path(self) -> str:
        """The file of the test; empty for ``module:attribute``."""
        return self.subject.partition("::")[0] if "::" in self.subject else ""

    def __str__(self) -> str:
        return f"{self.subject}[{self.id}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The levels of one check.

    Attributes:
        verdict: One of ``VERDICTS``.
        error: Largest relative error that it saw; None where it measures none.
        resolution: Smallest relative error that it would have flagged; None if no claim.
        saved: Bytes that one forward keeps for its backward; None where not measured.
        cost: Time beside that of plain autograd; None where not measured.
        calls: Calls of the subject and the reference.
        environment: Where and how it was measured.
    """

    verdict: str
    error: float | None = None
    resolution: float | None = None
    saved: int | None = None
    cost: float | None = None
    calls: int = 0
    environment: Environment = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A failure that is known, and for now accepted.

    Attributes:
        key: The check that fails.
        fault: The fault that is pinned: with another one the check fails.
        label: The gradient or output that is pinned; empty for any.
        reason: Why it is accepted.
        id: Of the kept witness; else the key itself.
        link: Where more is told of it.
    """

    key: Key
    fault: str
    reason: str
    label: str = ""
    id: str = ""
    link: str = ""

    @property
    def fault_text(self) -> str:
        """``constant factor of weight``."""
        return f"{self.fault} of {self.label}" if self.label else self.fault


@dataclass(frozen=True, slots=True)
class Baseline:
    """A whole file.

    Attributes:
        entries: The levels.
        known: Known failures, at most one for each check.
    """

    entries: Mapping[Key, Entry] = field(default_factory=lambda: MappingProxyType({}))
    known: Mapping[Key, Known] = field(default_factory=lambda: MappingProxyType({}))

    def subjects(self) -> tuple[str, ...]:
        """The addresses of all tests in it."""
        return tuple(sorted({key.subject for key in self.entries}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run has found of one check.

    Attributes:
        key: Which check.
        entry: Its levels.
        fault: Of its first error; empty if there is none.
        label: The gradient or output of that.
        message: What that says; else why there is no decision.
        no_device: Whether it was skipped because its device is not there.
    """

    key: Key
    entry: Entry
    fault: str = ""
    label: str = ""
    message: str = ""
    no_device: bool = False


def rounded(value: float | None) -> float | None:
    """With the digits that are recorded; None for what is not finite too, since no claim is made then."""
    if value is None or value != value or abs(value) == float("inf"):
        return None
    return float(f"{value:.{DIGITS - 1}e}")
