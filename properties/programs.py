"""Random programs of catalogue ops, three ways: the tape, autograd, and finite differences on a sample.

python -m properties.programs --count 20000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field

import torch

from gradharness.comparison import projected
from gradharness.errors import OracleUnavailable
from gradharness.inputs.programs import Knobs, draw_program, traced
from gradharness.inputs.recipe import Directions, Recipe
from gradharness.judge import rule_slope
from gradharness.model.case import Case
from gradharness.model.estimate import Smoothness
from gradharness.model.subject import Primals, Tensors
from gradharness.model.verdict import Verdict
from gradharness.numerics.tolerance import tolerance_for
from gradharness.oracles.finite_difference import FiniteDifference
from gradharness.programs import tape
from gradharness.programs.agreement import copies, disagreement
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.resolution import Trace
from gradharness.subjects import FunctionSubject

UP_TO_25 = Knobs(least=2, most=25)
_SAMPLE = 10


@dataclass
class Tally:
    """What came out. Keys of ``wrong`` are (seed, what)."""

    programs: int = 0
    valid: int = 0
    undecided: int = 0
    measured: int = 0
    unmeasured: int = 0
    seconds: float = 0.0
    ops: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)

    @property
    def undecided_share(self) -> float:
        return self.undecided / max(1, self.programs)


def by_differences(trace: Trace, cotangents: Tensors) -> Verdict:
    """The tape's gradients along one direction, beside finite differences of the program itself."""
    case, subject = _case(trace, cotangents)
    tolerance = tolerance_for(torch.float64)
    v = case.directions[0]
    estimate = FiniteDifference(subject, quick_enough=tolerance.rtol).slope(case, v)
    weights = copies(cotangents)
    if estimate.masked is not None:
        masks = iter(estimate.masked)
        weights = tuple(torch.where(next(masks), 0, w) for w in weights)
    if estimate.smoothness is not Smoothness.SMOOTH:
        return Verdict.UNDECIDED
    gradients = tape.backward(trace, weights)
    product, scale = projected([gradients[i] for i in trace.active], v)
    # Gradients that cancel have no scale of their own: that of the cotangents stands in.
    ruling = rule_slope(product, max(scale, 1e-3 * max(float(w.abs().max()) for w in cotangents)), estimate, tolerance)
    if ruling.agrees:
        return Verdict.PASS
    return Verdict.FAIL


def torchs_defect(trace: Trace) -> str:
    """Where PyTorch's own gradient, which our VJP follows, contradicts finite differences; empty if nowhere."""
    for step in trace.steps:
        if step.op.name == "clamp_between":
            x, low, high = (trace.values[i] for i in step.operands)
            if bool(((low == high) & (x < low)).any()):
                return "clamp(x, a, a) is a, and its gradient for a is zero where x < a"
    return ""


def _case(trace: Trace, cotangents: Tensors) -> tuple[Case, FunctionSubject]:
    names = tuple(f"x{i}" for i in range(len(trace.leaves)))
    primals = Primals(names, trace.leaves, tuple((i,) for i in trace.active))
    subject = FunctionSubject("program", lambda *leaves: trace.run(leaves))
    recipe = Recipe(seed=trace.program.seed)
    case = Case(
        primals=primals,
        outputs=tuple(trace.values[i] for i in trace.outputs),
        output_labels=tuple(map(str, trace.outputs)),
        differentiable=tuple(range(len(trace.outputs))),
        cotangents=cotangents,
        other_cotangents=cotangents,
        directions=Directions(recipe, primals.leaves),
        recipe=recipe.to_json(),
    )
    return case, subject


def look(seed: int, tally: Tally, ops: Catalogue | None = None, knobs: Knobs = UP_TO_25) -> None:
    """One program, counted."""
    tally.programs += 1
    trace, cotangents = traced(draw_program(seed, knobs, ops), ops)
    tally.ops.update(trace.ops)
    tally.valid += bool(trace.ops) and all(bool(trace.values[i].isfinite().all()) for i in trace.outputs)
    try:
        found = disagreement(trace, cotangents)
    except OracleUnavailable as error:
        tally.undecided += 1
        tally.reasons[str(error)] += 1
        return
    if found and found.guilty:
        tally.wrong.append((seed, f"the VJP of {found.guilty.op} {found.guilty.detail}"))
    elif found:
        tally.undecided += 1
        tally.reasons["no VJP by itself is wrong"] += 1
    if trace.differentiable and (found or tally.programs % _SAMPLE == 0):
        _measure(seed, tally, trace, cotangents)


def _measure(seed: int, tally: Tally, trace: Trace, cotangents: Tensors) -> None:
    tally.measured += 1
    verdict = by_differences(trace, cotangents)
    if verdict is Verdict.UNDECIDED:
        tally.unmeasured += 1
    elif verdict is Verdict.FAIL and (reason := torchs_defect(trace)):
        tally.known[reason] += 1
    elif verdict is Verdict.FAIL:
        tally.wrong.append((seed, "finite differences of the program disagree with the tape"))


def run(count: int, seed: int = 0, ops: Catalogue | None = None, knobs: Knobs = UP_TO_25) -> Tally:
    """So many programs, from consecutive seeds."""
    tally = Tally()
    started = time.perf_counter()
    for number in range(count):
        look(seed * 10_000_000 + number, tally, ops, knobs)
    tally.seconds = time.perf_counter() - started
    return tally


def table(tally: Tally) -> str:
    """The figures, one a line."""
    rate = tally.programs / max(tally.seconds, 1e-9)
    lines = [
        f"programs              {tally.programs}, {rate:.0f} per second",
        f"valid                 {tally.valid / max(1, tally.programs):.2%}",
        f"undecided             {tally.undecided} ({tally.undecided_share:.2%})",
        f"finite differences    {tally.measured}, of which {tally.unmeasured} say nothing (kinks)",
        f"ops                   {len(tally.ops)} in {sum(tally.ops.values())} nodes",
        f"mismatches            {len(tally.wrong)}",
    ]
    lines += [f"undecided {n} times: {reason}" for reason, n in tally.reasons.most_common()]
    lines += [f"PyTorch's own defect, {n} times: {reason}" for reason, n in tally.known.most_common()]
    return "\n".join(lines + [f"WRONG seed {seed}: {what}" for seed, what in tally.wrong])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tally = run(options.count, options.seed)
    print(table(tally))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
