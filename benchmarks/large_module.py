"""What it costs to check a large module: calls and seconds in forward+backwards of its own, and peak memory.

    python benchmarks/large_module.py [million parameters] [check ...]

Memory is what torch has allocated for tensors on the CPU, the module's own included, beside one training step (forward,
backward and SGD) of the same module with the same batch. Each check looks at one case.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from gradharness import module
from gradharness.checks import find_check
from gradharness.engine.looking import Looker
from gradharness.engine.plan import plan
from gradharness.engine.question import ask
from gradharness.engine.runner import _bench
from gradharness.engine.settings import RunSettings
from gradharness.inputs.recipe import Recipe

BATCH = 32
CHECKS = ("vjp", "linearity", "contract", "mask", "accumulation", "module")


class Product(torch.autograd.Function):
    """x @ w.T, by hand."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.mT

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.mT @ x


class Network(nn.Module):
    """Three layers; the middle one has nearly all parameters, and a backward written by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(16, width)
        self.middle = nn.Parameter(torch.randn(width, width, generator=torch.Generator().manual_seed(0)) / width**0.5)
        self.last = nn.Linear(width, 4)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(Product.apply(self.first(x).tanh(), self.middle).tanh())


def peak(run: Callable[[], object]) -> float:
    """Largest sum of bytes that were allocated and not yet freed, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    total = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]" and event.device_type().name == "CPU":
            total += event.nbytes()
            most = max(most, total)
    return most / 2**20


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    width = int((1e6 * float(arguments[0] if arguments else 1)) ** 0.5)
    checks = tuple(arguments[1:]) or CHECKS
    model = Network(width)
    x = torch.randn(BATCH, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    step()
    started = time.perf_counter()
    for _ in range(5):
        step()
    unit = (time.perf_counter() - started) / 5
    model.zero_grad()
    ours = peak(step)
    size = sum(p.numel() for p in model.parameters()) * 8 / 2**20
    base = size + ours
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {size:.1f} MiB; one training step: "
        f"{1e3 * unit:.1f} ms, {base:.1f} MiB"
    )
    started = time.perf_counter()
    question = ask(module(model), (x,), None, surrogate=False)
    print(f"asked in {(time.perf_counter() - started) / unit:.0f} steps")
    print(f"{'check':<14}{'verdict':<11}{'calls':>6}{'in steps':>10}{'memory / step':>15}")
    for item in plan(checks, ("cpu",), ("float64",)):
        bench = _bench(question, item, RunSettings())
        looker = Looker(bench.setting, find_check(item.check), question.domain)
        looker.look(Recipe(example=True, seed=1))
        calls, started = bench.meter.calls, time.perf_counter()
        look = Looker(bench.setting, find_check(item.check), question.domain).look(Recipe(example=True, seed=2))
        seconds, calls = time.perf_counter() - started, bench.meter.calls - calls
        fresh = Looker(bench.setting, find_check(item.check), question.domain)
        most = peak(lambda fresh=fresh: fresh.look(Recipe(example=True, seed=3)))
        verdict = look.observation.verdict.name if look.observation else "outside"
        print(
            f"{item.check:<14}{verdict:<11}{calls:>6}{seconds / unit:>10.1f}{(size + most) / base:>15.1f}", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
