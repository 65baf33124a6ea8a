"""The callable inside of a subject, and the same subject around another callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from gradharness.model.subject import Subject
from gradharness.subjects.function import FunctionSubject

AnyCallable = Callable[..., Any]


def transformed(subject: Subject, change: Callable[[AnyCallable], AnyCallable]) -> Subject | None:
    """The subject, and whatever is wrapped around it, with its callable changed; None if it has none."""
    if isinstance(subject, FunctionSubject):
        return replace(subject, function=change(subject.function))
    inner = getattr(subject, "subject", None)
    if inner is None:
        return None
    changed = transformed(inner, change)
    wrapper: Any = subject
    return None if changed is None else replace(wrapper, subject=changed)


def bare_function(subject: Subject) -> AnyCallable | None:
    """The callable itself; None for a subject that is not behind autograd."""
    while not isinstance(subject, FunctionSubject):
        inner = getattr(subject, "subject", None)
        if inner is None:
            return None
        subject = inner
    return subject.function


def is_random(subject: Subject) -> bool:
    """Whether it draws random numbers, so that every call is given a seed."""
    return getattr(subject, "seed", None) is not None


def with_copies(function: AnyCallable) -> AnyCallable:
    """The function with every tensor that it saves for backward replaced by a copy, as an offloading hook does."""

    def called(*arguments: object) -> object:
        with saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
            return function(*arguments)

    return called


def with_recomputation(function: AnyCallable) -> AnyCallable:
    """The function with nothing saved for backward: what it saves is computed again when backward asks for it.

    That is what ``torch.utils.checkpoint.checkpoint(use_reentrant=False)`` does, without what it imports.
    """

    def called(*arguments: object) -> object:
        run = _Recomputed(function, arguments)
        with saved_tensors_hooks(run.pack, run.unpack):
            return function(*arguments)

    return called


class _Recomputed:
    """One call whose saved tensors are forgotten, and found again by a second call."""

    def __init__(self, function: AnyCallable, arguments: Sequence[object]) -> None:
        self._function = function
        self._arguments = arguments
        self._state = torch.get_rng_state()
        self._count = 0
        self._again: list[torch.Tensor] = []

    def pack(self, _tensor: torch.Tensor) -> int:
        self._count += 1
        return self._count - 1

    def unpack(self, number: int) -> torch.Tensor:
        if not self._again:
            self._recompute()
        if len(self._again) != self._count:
            raise RuntimeError(f"forward saved {self._count} tensors, and {len(self._again)} when it was called again")
        return self._again[number]

    def _recompute(self) -> None:
        def keep(tensor: torch.Tensor) -> torch.Tensor:
            self._again.append(tensor.detach())
            return tensor

        with _random_state(self._state), torch.enable_grad(), saved_tensors_hooks(keep, lambda t: t):
            self._function(*self._arguments)


@contextmanager
def _random_state(state: torch.Tensor) -> Iterator[None]:
    before = torch.get_rng_state()
    torch.set_rng_state(state)
    try:
        yield
    finally:
        torch.set_rng_state(before)
