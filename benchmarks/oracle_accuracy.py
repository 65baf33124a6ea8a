"""How accurate the slope oracles are, and how honest their bounds: one row for each class of functions.

    python benchmarks/oracle_accuracy.py [draws]

Errors and bounds are relative to the root of the sum of squares of weight times derivative. Coverage is the share of
sure answers whose error is within the bound plus the reference's own rounding. The truth is forward-mode autograd.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch
import torch.nn.functional as F

from gradharness.numerics import differences, noise
from gradharness.numerics.differences import FLOAT32, FLOAT64, Precision

Tensor = torch.Tensor
Function = Callable[[Tensor], Tensor]
CLASSES: dict[str, list[Function]] = {
    "elementwise": [torch.tanh, torch.exp, torch.sin, torch.sigmoid, F.softplus, F.gelu, F.silu, torch.erf, torch.atan],
    "reductions": [
        torch.sum,
        lambda x: x.square().sum(),
        lambda x: x.norm(dim=-1),
        lambda x: x.logsumexp(-1),
        lambda x: x.var(-1),
    ],
    "normalising": [
        lambda x: x.softmax(-1),
        lambda x: F.layer_norm(x, x.shape[-1:]),
        lambda x: F.normalize(x, dim=-1),
        lambda x: F.log_softmax(x, -1),
    ],
    "linear algebra": [
        lambda x: x @ x.T,
        lambda x: torch.linalg.inv(x @ x.T + torch.eye(len(x), dtype=x.dtype)),
        lambda x: torch.linalg.cholesky(x @ x.T + torch.eye(len(x), dtype=x.dtype)),
        lambda x: torch.linalg.slogdet(x @ x.T + torch.eye(len(x), dtype=x.dtype))[1],
    ],
    # Not logcumsumexp: torch's own derivative of it is off by 5e-12, which reads as 22 % not covered.
    "scans": [lambda x: x.cumsum(-1), lambda x: x.cumprod(-1), lambda x: x.sin().cumsum(-1)],
    "short scales": [lambda x: (100 * x).sin(), lambda x: (1000 * x).sin(), lambda x: (1e-6 * (x.abs() + 0.1)).log()],
    "large offsets": [
        lambda x: 1e10 + x.cos(),
        lambda x: 1 + 1e-8 * x.sin(),
        lambda x: F.layer_norm(x + 1e4, x.shape[-1:]),
    ],
    "kinks nearby": [torch.relu, torch.abs, lambda x: x.clamp(-0.5, 0.5), lambda x: x.sort(-1).values, F.hardswish],
    "kinks, ties": [
        lambda x: x.round().relu(),
        lambda x: x.round().abs(),
        lambda x: F.leaky_relu(x - x[:, :1]),
        lambda x: (x - x[:, :1]).abs().sqrt(),
    ],
}


@dataclass
class Tally:
    errors: list[float] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    covered: int = 0
    open: int = 0
    seconds: float = 0.0

    def add(self, error: float, bound: float, rounding: float, calls: int) -> None:
        self.errors.append(error)
        self.bounds.append(bound)
        self.calls.append(calls)
        self.covered += error <= bound + rounding

    def row(self, label: str) -> str:
        total = len(self.errors)
        if not total:
            return f"{label:<34}{'-':>10}{'-':>10}{'-':>10}{'-':>8}{self.open:>8}"
        share = 100 * self.covered / total
        micros = 1e6 * self.seconds / (total + self.open)
        return (
            f"{label:<34}{median(self.errors):>10.1e}{median(self.bounds):>10.1e}{share:>9.2f}%"
            f"{median(self.calls):>8.0f}{self.open:>8}{micros:>10.0f}"
        )


def jvp(f: Function, x: Tensor, v: Tensor) -> Tensor:
    return torch.func.jvp(f, (x.double(),), (v.double(),))[1].reshape(-1)


def measure(f: Function, seed: int, quick: Tally, full: Tally, precision: Precision) -> None:
    """Adds one draw to both tallies."""
    g = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if precision is FLOAT64 else torch.float32
    x = torch.randn(4, 6, generator=g, dtype=dtype)
    v = (torch.randint(0, 2, x.shape, generator=g) * 2 - 1) * (torch.rand(x.shape, generator=g, dtype=dtype) + 0.5)

    def line(t: float) -> Tensor:
        return f(torch.add(x, v, alpha=t)).reshape(-1).double()

    y0, truth = line(0.0), jvp(f, x, v)
    moved = [(jvp(f, noise.beside(x.double(), n), v) - truth).abs() for n in range(3)]
    if not bool(truth.isfinite().all()):
        return
    rounding = 4 * torch.stack(moved).amax(0) + 1e-15 * truth.abs().max()
    weights = torch.randint(0, 2, y0.shape, generator=g).double() * 2 - 1

    start = time.perf_counter()
    found = differences.quick_slope(line, y0, weights, precision=precision)
    quick.seconds += time.perf_counter() - start
    if found.smooth and found.bound <= 1e-7 * found.scale:
        error = abs(found.value - float((weights * truth).sum())) / found.scale
        quick.add(error, found.bound / found.scale, float((weights * rounding).norm()) / found.scale, 4)
    else:
        quick.open += 1

    start = time.perf_counter()
    beside = [f(noise.beside(x, n, eps=precision.eps)).reshape(-1).double() for n in range(3)]
    floor = noise.noise_floor(y0, beside, eps=precision.eps)
    each = differences.slope(line, y0, floor, precision=precision)
    full.seconds += time.perf_counter() - start
    scale = float(truth[each.usable].square().mean().sqrt()) if bool(each.usable.any()) else 0.0
    for m in range(y0.numel()):
        if bool(each.usable[m]) and scale > 0:
            error = float((each.value[m] - truth[m]).abs()) / scale
            full.add(error, float(each.bound[m]) / scale, float(rounding[m]) / scale, each.calls + 3)
        else:
            full.open += 1


def main(draws: int) -> None:
    torch.set_num_threads(1)
    header = f"{'':<34}{'error':>10}{'bound':>10}{'coverage':>10}{'calls':>8}{'open':>8}{'us/draw':>10}"
    for precision, name in ((FLOAT64, "float64"), (FLOAT32, "float32")):
        print(f"\n{name}, {draws} draws a function; open: not sure, handed on or masked\n{header}")
        for label, functions in CLASSES.items():
            quick, full = Tally(), Tally()
            for f in functions:
                for seed in range(draws):
                    measure(f, seed, quick, full, precision)
            if precision is FLOAT64:
                print(quick.row(f"{label}: quick"))
            print(full.row(f"{label}: per output"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
