"""Subjects with something around every call: a clock, or a seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from gradharness.model.subject import Gradients, Linearization, Primals, RawReturn, Session, Subject, Tensors
from gradharness.numerics import tree
from gradharness.numerics.bits import same_bits
from gradharness.numerics.layout import copied


@dataclass(slots=True)
class Meter:
    """Seconds and calls spent inside other people's code: ``with meter:``; a block within a block counts once."""

    seconds: float = 0.0
    calls: int = 0
    _depth: int = field(default=0, repr=False)
    _started: float = field(default=0.0, repr=False)

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self.calls += 1
            self._started = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += time.perf_counter() - self._started


@dataclass(frozen=True, slots=True)
class Metered:
    """A subject whose calls are counted, and made on copies, with one seed if it draws random numbers.

    A subject that writes into its primals or cotangents must not spoil them for the oracle that it is held against.

    Attributes:
        subject: The real one.
        meter: Counts.
        seed: Set before every call if not None, so that a random subject computes one function.
    """

    subject: Subject
    meter: Meter
    seed: int | None = None

    @property
    def name(self) -> str:
        """The subject's own name."""
        return self.subject.name

    @property
    def fixed_cotangent(self) -> bool:
        """The subject's own."""
        return self.subject.fixed_cotangent

    def outputs(self, primals: Primals) -> Tensors:
        """The subject's own."""
        copies = copied_point(primals)
        with self.meter:
            self._seed()
            return self.subject.outputs(copies)

    def linearize(self, primals: Primals) -> Linearization:
        """The subject's own, with a counted pullback."""
        return self.counted(self.subject.linearize, primals)

    def counted(self, linearize: Callable[[Primals], Linearization], primals: Primals) -> Linearization:
        """Calls this and its pullback on copies, and counts both."""
        copies = copied_point(primals)
        with self.meter:
            self._seed()
            linearization = linearize(copies)

        def pullback(cotangents: Sequence[torch.Tensor]) -> Gradients:
            weights = copied(cotangents)
            with self.meter:
                return linearization.pullback(weights)

        return Linearization(linearization.outputs, linearization.labels, linearization.differentiable, pullback)

    def traced(self, primals: Primals, leaves: Tensors) -> Tensors | None:
        """The subject's own, on the leaves as they are; what backward takes later is not counted."""
        with self.meter:
            self._seed()
            return self.subject.traced(primals, leaves)

    def session(self, primals: Primals) -> Session | None:
        """The subject's own, whose calls are counted as well."""
        copies = copied_point(primals)
        with self.meter:
            session = self.subject.session(copies)
        return None if session is None else _MeteredSession(session, self)

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """The subject's own, with what it has written into."""
        copies, weights = copied_point(primals), copied(cotangents)
        with self.meter:
            self._seed()
            returns = self.subject.raw_returns(copies, weights)
        pairs = [*zip(primals.labels, primals.leaves, copies.leaves, strict=True)]
        pairs += [(f"cotangent {i}", w, c) for i, (w, c) in enumerate(zip(cotangents, weights, strict=True))]
        written = tuple(label for label, before, after in pairs if not same_bits(before, after))
        return tuple(replace(r, written=written if i == 0 else ()) for i, r in enumerate(returns))

    def own_forward(self) -> Subject | None:
        """The subject's own, metered as well."""
        own = self.subject.own_forward()
        return None if own is None else Metered(own, self.meter, self.seed)

    def _seed(self) -> None:
        if self.seed is not None:
            torch.manual_seed(self.seed)


@dataclass(frozen=True, slots=True)
class _MeteredSession:
    """A session whose calls are counted, and made on copies."""

    session: Session
    owner: Metered

    @property
    def fixed(self) -> tuple[int, ...]:
        return self.session.fixed

    def linearize(self, primals: Primals) -> Linearization:
        return self.owner.counted(self.session.linearize, primals)

    def lists_calls(self, primals: Primals) -> bool:
        copies = copied_point(primals)
        with self.owner.meter:
            return self.session.lists_calls(copies)

    def clear(self) -> bool:
        with self.owner.meter:
            return self.session.clear()


def copied_point(primals: Primals) -> Primals:
    """The point with copies of all tensors, those without gradient among them."""
    everything = Primals(primals.names, primals.values, tree.tensor_paths(primals.values))
    return Primals(primals.names, everything.arguments(copied(everything.leaves)), primals.active)
