"""A pass states its resolution: injects errors of four times that size, and counts how many are seen.

python -m properties.resolution --trials 100
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from gradharness.checks import find_check
from gradharness.checks.base import Setting
from gradharness.inputs.values import generator
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Linearization, Primals, Subject, Tensors
from gradharness.model.verdict import Observation, Verdict
from gradharness.subjects import FunctionSubject
from properties.drawing import Arg, Entry, Where, case, primals

FACTOR = 4.0
NEEDED = 0.95  # of dense errors; of errors in one element, all
_MOST_ELEMENTS = 64  # elements of a leaf that get an error of their own
_TRIALS_EACH = 20  # dense errors at one point
_LARGEST = 33  # size of an axis for the check of shapes; the others stay at the entry's

Change = Callable[[int, torch.Tensor, Tensors], torch.Tensor]


@dataclass(frozen=True)
class Changed:
    """A subject with an error put in: into its gradients (``gradient``) or into its outputs (``output``).

    Attributes:
        subject: The right one.
        gradient: Number of the leaf, its gradient, and the cotangents, to the wrong gradient.
        output: Number of the output and its value, to the wrong output.
    """

    subject: Subject
    gradient: Change | None = None
    output: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    name: str = "changed"
    fixed_cotangent: bool = False

    def outputs(self, point: Primals) -> Tensors:
        found = self.subject.outputs(point)
        return found if self.output is None else tuple(self.output(i, y) for i, y in enumerate(found))

    def linearize(self, point: Primals) -> Linearization:
        right = self.subject.linearize(point)
        outputs = (
            right.outputs if self.output is None else tuple(self.output(i, y) for i, y in enumerate(right.outputs))
        )

        def pullback(cotangents: Tensors) -> Gradients:
            found = right.pullback(cotangents)
            if self.gradient is None:
                return found
            return tuple(None if g is None else self.gradient(i, g, tuple(cotangents)) for i, g in enumerate(found))

        return Linearization(outputs, right.labels, right.differentiable, pullback)


X, V = Arg(), Arg(shape=("m",))
ENTRIES = (
    Entry(name="tanh", function=torch.tanh, reference=lambda x: 1 - 2 / (1 + (2 * x).exp())),
    Entry(
        name="softmax",
        function=lambda x: x.softmax(-1),
        reference=lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
        smallest=2,
    ),
    Entry(
        name="layer_norm",
        function=lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b),
        args=(X, V, V),
        smallest=3,
        reference=lambda x, w, b: (
            (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * w + b
        ),
    ),
    Entry(
        name="matmul",
        function=torch.matmul,
        args=(Arg(shape=("n", "k")), Arg(shape=("k", "m"))),
        reference=lambda a, b: (a[:, :, None] * b).sum(1),
    ),
    Entry(name="logsumexp", function=lambda x: x.logsumexp(-1), reference=lambda x: x.exp().sum(-1).log()),
    Entry(
        name="unlike scales",
        function=lambda x, y: x * 1e3 + torch.sin(y),
        args=(X, X),
        reference=lambda x, y: 1e3 * x + y.sin(),
    ),
)
WAYS = ("reference", "own forward", "differences", "shape", "linearity", "value")


def setting_for(entry: Entry, way: str, dtype: torch.dtype) -> Setting:
    """The setting in which only the oracle of this way decides."""
    subject = FunctionSubject(entry.name, entry.function)
    assert entry.reference is not None
    reference = FunctionSubject("reference", entry.reference)
    beside = way in ("reference", "shape", "value")
    own = reference if way == "own forward" else None
    return Setting.of(subject, reference if beside else None, own=own, dtype=dtype)


@dataclass
class Seen:
    """How many injected errors were seen, of how many."""

    dense: int = 0
    dense_trials: int = 0
    single: int = 0
    single_trials: int = 0
    worst: float = 0.0

    @property
    def claimed(self) -> bool:
        """Whether any check passed, and so claimed a resolution."""
        return self.dense_trials > 0

    @property
    def honest(self) -> bool:
        return self.dense >= NEEDED * self.dense_trials and self.single == self.single_trials


def look(setting: Setting, way: str, made: Case, changed: Changed | None = None) -> Observation:
    """One check, perhaps on a subject with an error."""
    name = way if way in ("shape", "linearity", "value") else "vjp"
    if changed is not None:
        setting = replace(setting, subject=changed)
        if changed.output is not None:
            made = replace(made, outputs=changed.linearize(made.primals).outputs)
    return find_check(name).examine(setting, made)


def rms(t: torch.Tensor) -> float:
    return float(t.abs().square().mean().sqrt())


def measure(
    entry: Entry, way: str, dtype: torch.dtype, trials: int, seed: int, *, elements: int = _MOST_ELEMENTS
) -> Seen:
    """Dense and single errors over several points; points where the check claims nothing are replaced by others."""
    seen = Seen()
    setting = setting_for(entry, way, dtype)
    points = max(1, trials // _TRIALS_EACH)
    drawn = replace(entry, largest=_LARGEST) if way == "shape" else entry
    claims = 0
    for number in range(4 * points):
        made = case(setting.subject, primals(drawn, seed + number, Where.ORDINARY, dtype), seed + 3 * number + 1)
        assert made is not None
        said = look(setting, way, made)
        if said.verdict is not Verdict.PASS or not said.resolution:
            continue
        claims += 1
        seen.worst = max(seen.worst, said.resolution)
        g = generator(seed, f"{way} {entry.name} {number}")
        size = FACTOR * said.resolution
        _dense(seen, setting, way, made, (size, -(-trials // points), g))
        _single(seen, setting, way, made, (size, elements))
        if claims == points:
            break
    return seen


def _targets(setting: Setting, way: str, made: Case) -> list[torch.Tensor]:
    if way == "value":
        return list(made.outputs)
    found = setting.subject.linearize(made.primals).pullback(made.cotangents)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, made.primals.leaves, strict=True)]


def _dense(seen: Seen, setting: Setting, way: str, made: Case, how: tuple[float, int, torch.Generator]) -> None:
    size, trials, g = how
    targets = _targets(setting, way, made)
    for _ in range(trials):
        noise = []
        for t in targets:
            n = torch.randn(t.shape, generator=g, dtype=torch.float64)
            noise.append(size * rms(t) * n / (rms(n) or 1.0))
        seen.dense_trials += 1
        seen.dense += _is_seen(setting, way, made, noise)


def _single(seen: Seen, setting: Setting, way: str, made: Case, how: tuple[float, int]) -> None:
    size, elements = how
    targets = _targets(setting, way, made)
    for number, t in enumerate(targets):
        step = -(-t.numel() // elements)
        for flat in range(0, t.numel(), max(1, step)):
            for scaled in (False, True):
                noise = [torch.zeros_like(x, dtype=torch.float64) for x in targets]
                element = float(t.reshape(-1)[flat])
                # Relative errors are as large as claimed only where the element is no smaller than the rms.
                if scaled and abs(element) < rms(t):
                    continue
                noise[number].reshape(-1)[flat] = size * (element if scaled else rms(t))
                seen.single_trials += 1
                seen.single += _is_seen(setting, way, made, noise)


def _is_seen(setting: Setting, way: str, made: Case, noise: list[torch.Tensor]) -> bool:
    base = made.cotangents

    def gradient(number: int, g: torch.Tensor, cotangents: Tensors) -> torch.Tensor:
        # As large as the cotangents: linear in their size, but blind to their signs where linearity is at stake.
        weight = _share(cotangents, base, signed=way != "linearity")
        return (g.to(torch.float64) + noise[number] * weight).to(g.dtype)

    def output(number: int, y: torch.Tensor) -> torch.Tensor:
        return (y.to(torch.float64) + noise[number]).to(y.dtype)

    changed = Changed(setting.subject, output=output) if way == "value" else Changed(setting.subject, gradient=gradient)
    return look(setting, way, made, changed).verdict is Verdict.FAIL


def _share(cotangents: Tensors, base: Tensors, *, signed: bool) -> float:
    total = sum(float((w * b).sum()) for w, b in zip(cotangents, base, strict=True))
    norm = sum(float((b * b).sum()) for b in base)
    return total / norm if signed else abs(total) / norm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dishonest = 0
    print(f"{'way':12} {'function':14} {'dtype':8} {'resolution':>10}  dense          single")
    for dtype in (torch.float64, torch.float32):
        for way in WAYS:
            for entry in ENTRIES:
                seen = measure(entry, way, dtype, options.trials, options.seed)
                name = str(dtype).removeprefix("torch.")
                flag = "" if seen.honest else "  OVERCLAIMED"
                flag = flag if seen.claimed else "  claims nothing"
                dishonest += not seen.honest
                print(
                    f"{way:12} {entry.name:14} {name:8} {seen.worst:10.1e}  {seen.dense:4}/{seen.dense_trials:4}"
                    f"      {seen.single:4}/{seen.single_trials:4}{flag}",
                    flush=True,
                )
    return 1 if dishonest else 0


if __name__ == "__main__":
    sys.exit(main())
