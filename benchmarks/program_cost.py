"""What a random program costs: drawn, settled, and checked, beside one plain forward and backward of the same program.

python benchmarks/program_cost.py [programs]

With nnsmith installed, its generator is timed on as many ops (its solver, without any run of the model).
"""

from __future__ import annotations

import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from statistics import median

import torch

from gradharness.inputs.programs import Knobs, draw_program, traced
from gradharness.model.subject import Tensors
from gradharness.programs import graph
from gradharness.programs.agreement import disagreement
from gradharness.programs.resolution import Trace

_OPS = 10
_KNOBS = Knobs(least=_OPS, most=_OPS)
_WARM = 50
_OTHERS = 25  # programs of the other generator, which takes its time


def seconds(call: Callable[[], object]) -> float:
    """Of one call, right after an untimed one of the same: a search makes one after the other."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def plain(trace: Trace, cotangents: Tensors) -> object:
    """One forward and backward in plain torch."""
    return graph.backward(trace, cotangents)


def costs(count: int) -> Iterator[tuple[float, float, float, float]]:
    """Of each program: drawing, settling (with values), checking, and plain torch, in turns."""
    for seed in range(-_WARM, count):
        program = draw_program(abs(seed), _KNOBS)
        trace, cotangents = traced(program)
        found = (
            seconds(lambda seed=seed: draw_program(abs(seed), _KNOBS)),
            seconds(lambda program=program: traced(program)),
            seconds(lambda trace=trace, cotangents=cotangents: disagreement(trace, cotangents)),
            seconds(lambda trace=trace, cotangents=cotangents: plain(trace, cotangents)),
        )
        if seed >= 0:
            yield found


def others() -> str:
    """The median time of the other generator, in words."""
    try:
        from nnsmith.graph_gen import model_gen
        from nnsmith.materialize import Model
        from nnsmith.narrow_spec import auto_opset
    except ImportError:
        return "nnsmith is not installed"
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it tries every op, and tells of each
        opset = auto_opset(Model.init("torch"), None)
    times = [
        seconds(lambda seed=seed: model_gen(opset=opset, method="symbolic-cinit", seed=seed, max_nodes=_OPS))
        for seed in range(_OTHERS)
    ]
    return f"nnsmith (symbolic-cinit)  {1e3 * median(times):8.3f} ms"


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = list(costs(int(arguments[0]) if arguments else 400))
    draw, settle, check, by_torch = (median(column) for column in zip(*found, strict=True))
    ratio = median(c / p for _, _, c, p in found)
    print(f"programs of {_OPS} ops, medians of {len(found)}")
    for name, value in (
        ("drawn", draw),
        ("settled, with values", settle),
        ("checked", check),
        ("plain torch", by_torch),
    ):
        print(f"{name:<24}  {1e3 * value:8.3f} ms")
    print(f"checked over plain torch  {ratio:8.2f}")
    print(f"settled over plain torch  {median(s / p for _, s, _, p in found):8.2f}")
    print(f"programs per second       {len(found) / sum(sum(row[:3]) for row in found):8.0f}")
    print(others())


if __name__ == "__main__":
    main(sys.argv[1:])
