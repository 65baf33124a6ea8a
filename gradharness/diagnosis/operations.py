"""The operations of a hand-written backward: watched while they run, and changed one place of the code at a time."""

from __future__ import annotations

import linecache
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradharness.model.case import Case
from gradharness.model.subject import Subject

_OURS = str(Path(__file__).parents[1])
_TORCHS = str(Path(torch.__file__).parent)
_LONGEST = 60  # characters of source in a sentence

Operation: TypeAlias = Any  # torch's stubs do not describe overloads
aten: Any = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Place:
    """Where the user's code asks for an operation.

    Attributes:
        code: The function that does.
        instruction: Which of its instructions; a loop comes back to the same one.
        operation: What torch runs there, such as ``aten::sum``.
    """

    code: CodeType
    instruction: int
    operation: str

    @property
    def line(self) -> int:
        """Number of the line in the user's file."""
        return self._position[0] or self.code.co_firstlineno

    @property
    def source(self) -> str:
        """The expression as the user wrote it; the operation's name where it is not on one line, or long."""
        first, last, start, end = self._position
        text = linecache.getline(self.code.co_filename, first) if first and first == last else ""
        # Columns count bytes.
        written = text.encode()[start:end].decode(errors="ignore").strip() if end else ""
        return written if written and len(written) <= _LONGEST else self.operation.removeprefix("aten::")

    @property
    def _position(self) -> tuple[int, int, int, int]:
        found = [*self.code.co_positions()][self.instruction // 2]
        first, last, start, end = (0 if p is None else p for p in found)
        return first, last, start, end

    def __str__(self) -> str:
        return f"`{self.source}` in line {self.line} of {Path(self.code.co_filename).name}"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation that ran.

    Attributes:
        place: Where it was asked for.
        operation: The overload.
        arguments: Its arguments.
        options: Those given by name.
        result: What came.
    """

    place: Place
    operation: Operation
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    result: object


def dims_of(call: Call) -> int:
    """Number of dimensions of the first argument; 0 where that is no tensor."""
    x = call.arguments[0] if call.arguments else None
    return x.dim() if isinstance(x, torch.Tensor) else 0


Changed: TypeAlias = Callable[["Watching", Call], object]


@dataclass(slots=True)
class _Notes:
    calls: list[Call] = field(default_factory=list)
    results: dict[Place, torch.Tensor] = field(default_factory=dict)


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes down every operation that the user's own code asks for, and gives another result at some places.

    Args:
        at: Places where the result is changed.
        change: Gives that result; it sees the call with its true result.
        known: Tensors by name, for the change.
    """

    def __init__(
        self,
        at: frozenset[Place] = frozenset(),
        change: Changed | None = None,
        known: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known or {}
        self._at, self._change = at, change
        self._notes = _Notes()

    @property
    def calls(self) -> Sequence[Call]:
        """What ran, in order."""
        return self._notes.calls

    def result(self, place: Place) -> torch.Tensor | None:
        """The latest tensor that came of a place."""
        return self._notes.results.get(place)

    def __torch_dispatch__(
        self, func: Operation, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Runs one operation."""
        options = kwargs or {}
        place = _place(sys._getframe(1), func.name().split(".")[0])
        if place is None:
            return func(*args, **options)
        changed = place in self._at and self._change is not None
        before = args[0].clone() if changed and writes(func) and isinstance(args[0], torch.Tensor) else None
        result = func(*args, **options)
        if changed and self._change is not None:
            given = args if before is None else (before, *args[1:])
            other = self._change(self, Call(place, func, given, options, result))
            if before is not None and isinstance(other, torch.Tensor):
                args[0].copy_(other)
                other = args[0]
            result = other
        self._notes.calls.append(Call(place, func, args, options, result))
        if isinstance(result, torch.Tensor):
            self._notes.results[place] = result
        return result


def writes(operation: Operation) -> bool:
    """Whether an operation works in place."""
    return bool(operation.name().split(".")[0].endswith("_"))


def _place(frame: FrameType | None, operation: str) -> Place | None:
    """The innermost place outside of torch; None if that is not in the user's code."""
    while frame is not None and frame.f_code.co_filename.startswith(_TORCHS):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith((_OURS, "<frozen")):
        return None
    return Place(frame.f_code, frame.f_lasti, operation)


def run(subject: Subject, case: Case, mode: Watching, number: int) -> torch.Tensor | None:
    """One gradient of the subject, its backward being watched; None if it raises."""
    try:
        pullback = subject.linearize(case.primals).pullback
        with warnings.catch_warnings(), mode:
            warnings.simplefilter("ignore")
            return pullback(case.cotangents)[number]
    except Exception:  # what a changed operation leads to in the user's code is anybody's guess
        return None


def known_tensors(case: Case) -> dict[str, torch.Tensor]:
    """Primals, outputs and cotangents of a case by their names."""
    primals = case.primals
    found = {label: x.detach() for label, x in zip(primals.labels, primals.leaves, strict=True)}
    several = len(case.differentiable) > 1
    for i, w in zip(case.differentiable, case.cotangents, strict=True):
        found[case.output_labels[i] if several else "the output"] = case.outputs[i]
        found[f"the cotangent of {case.output_labels[i]}" if several else "the cotangent"] = w
    return found
