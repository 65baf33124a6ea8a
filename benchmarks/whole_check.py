"""The share of a whole check's wall time that is spent inside the calls of the subject and its reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

import gradharness

COSTS = (50e-6, 200e-6, 1e-3)


@dataclass
class Clock:
    """Seconds and calls, counted where they are spent: inside forward and backward themselves."""

    seconds: float = 0.0
    calls: int = 0

    @contextmanager
    def lasting(self, seconds: float) -> Iterator[None]:
        """A block that takes so long, whatever is done in it."""
        started = time.perf_counter()
        yield
        while time.perf_counter() - started < seconds:
            pass
        self.seconds += time.perf_counter() - started
        self.calls += 1


def costly(seconds: float, clock: Clock) -> tuple[type[torch.autograd.Function], Callable[..., torch.Tensor]]:
    """A Function whose forward and backward each take so long whatever the size, and a reference that takes as long."""

    class Costly(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            with clock.lasting(seconds):
                ctx.save_for_backward(x, w)
                return torch.tanh(x * w)

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> Any:
            with clock.lasting(seconds):
                x, w = ctx.saved_tensors
                h = g * (1 - torch.tanh(x * w).square())
                return h * w, (h * x).sum(0)

    def reference(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with clock.lasting(seconds):
            return torch.tanh(x * w)

    return Costly, reference


@dataclass(frozen=True)
class Share:
    """One whole check.

    Attributes:
        wall: Seconds from call to report.
        counted: Share of them inside forward, backward and reference themselves.
        metered: The same, as far as the checks go, with what torch and the adapters add to each call.
        calls: Calls of forward, backward and reference.
    """

    wall: float
    counted: float
    metered: float
    calls: int


def share(seconds: float, *, referenced: bool, declared: bool, seed: int) -> Share:
    """Runs all checks once, on example inputs or on declared ones."""
    clock = Clock()
    function, reference = costly(seconds, clock)
    g = torch.Generator().manual_seed(seed)
    examples = (torch.randn(4, 3, generator=g), torch.randn(3, generator=g))
    inputs = {"x": "n d", "w": "d"} if declared else examples
    started = time.perf_counter()
    report = gradharness.check(function, inputs, reference=reference if referenced else None, seed=seed)
    wall = time.perf_counter() - started
    assert report.verdict.name == "PASS", str(report)
    inside, checks = sum(r.inside for r in report.results), sum(r.seconds for r in report.results)
    return Share(wall=wall, counted=clock.seconds / wall, metered=inside / checks, calls=clock.calls)
