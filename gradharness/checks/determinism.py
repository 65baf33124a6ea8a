"""Check ``determinism``: equal calls give equal bits, or else the noise is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.repeats import copied, copied_gradients, helpers
from gradharness.checks.roundoff import MARGIN
from gradharness.comparison import root_mean_square
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics.bits import same_bits
from gradharness.oracles.autograd import roundoff

_RUNS = 3
_MOVED = "equal calls of the forward give other values: {}"


def examine(setting: Setting, case: Case) -> Observation:
    """The same call a few times, each time with other random numbers at hand for the backward."""
    if case.empty:
        return Observation(verdict=Verdict.SKIPPED, reason="no element to be wrong")
    before = torch.get_rng_state()
    try:
        runs = [_run(setting, case, seed) for seed in range(_RUNS)]
        moved = _noise([y for y, _ in runs])
        if any(n > _forward_bound(setting, y) for n, y in zip(moved, runs[0][0], strict=True)):
            return Observation(verdict=Verdict.UNDECIDED, reason=_MOVED.format(f"by up to {max(moved):.2g}"))
        errors, warnings = _backward(setting, case, [g for _, g in runs])
    finally:
        torch.set_rng_state(before)
    warnings += _forward(case, moved)
    verdict = Verdict.FAIL if errors else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=tuple(errors), warnings=tuple(warnings))


def _run(setting: Setting, case: Case, seed: int) -> tuple[Tensors, Gradients]:
    linearization = setting.subject.linearize(case.primals)
    outputs = copied(linearization.outputs)
    torch.manual_seed(seed)
    return outputs, copied_gradients(linearization.pullback(case.cotangents))


def _noise(runs: Sequence[Sequence[torch.Tensor | None]]) -> list[float]:
    """Largest difference between the first of some equal calls and the others, per tensor; zero if equal in bits."""
    found = []
    for column in zip(*runs, strict=True):
        tensors = [t for t in column if t is not None]
        worst = 0.0 if len(tensors) in (0, len(column)) else float("inf")
        for other in tensors[1:]:
            worst = max(worst, _difference(tensors[0], other))
        found.append(worst)
    return found


def _difference(first: torch.Tensor, other: torch.Tensor) -> float:
    if same_bits(first, other):
        return 0.0
    if first.shape != other.shape:
        return float("inf")
    wide = torch.complex128 if first.is_complex() else torch.float64
    difference = (first.to(wide) - other.to(wide)).abs()
    both = first.isfinite() & other.isfinite()
    same = (first == other) | ((first != first) & (other != other))
    return float(torch.where(same, 0.0, torch.where(both, difference, torch.inf)).max())


def _forward_bound(setting: Setting, output: torch.Tensor) -> float:
    """What a sum in another order may move: relative to the tensor's size, as the tolerance of gradients is."""
    floating = output.is_floating_point() or output.is_complex()
    return setting.tolerance.rtol * root_mean_square(output) if floating else 0.0


def _forward(case: Case, moved: Sequence[float]) -> list[Discrepancy]:
    found = []
    for label, noise, output in zip(case.output_labels, moved, case.outputs, strict=False):
        if noise > 0:
            detail = f"equal calls differ in {label} by up to {_relative(noise, output)} (round-off in another order)"
            steps = (
                *helpers(0.0),
                "first = kept(outputs_of(arguments))",
                "runs = [kept(outputs_of(arguments)) for _ in range(9)]",
                "sys.exit(int(any(differ(r, first) for r in runs)))",
            )
            found.append(Discrepancy(label=label, fault=Fault.NOT_DETERMINISTIC, detail=detail, steps=steps))
    return found


def _backward(setting: Setting, case: Case, runs: Sequence[Gradients]) -> tuple[list[Discrepancy], list[Discrepancy]]:
    """(errors, warnings) about gradients that differ between equal calls."""
    moved = _noise(runs)
    errors: list[Discrepancy] = []
    warnings: list[Discrepancy] = []
    if not any(moved):
        return errors, warnings
    drawn = _is_drawn(setting, case)
    bounds = _bounds(setting, case, runs[0], drawn=drawn)
    for label, noise, bound, g in zip(case.primals.labels, moved, bounds, runs[0], strict=True):
        if noise <= 0 or g is None:
            continue
        beyond = noise > bound
        why = _why(drawn=drawn, beyond=beyond)
        detail = f"equal calls give gradients of {label} that differ by up to {_relative(noise, g)}: {why}"
        excess = noise / bound if bound > 0 else float("inf")
        steps = _steps(0.25 * noise / (float(g.abs().max()) or 1.0))
        found = Discrepancy(label=label, excess=excess, fault=Fault.NOT_DETERMINISTIC, detail=detail, steps=steps)
        (errors if beyond and not setting.surrogate else warnings).append(found)
    return errors, warnings


def _why(*, drawn: bool, beyond: bool) -> str:
    if drawn:
        return "backward draws random numbers of its own, and not those of its forward"
    return "more than round-off in another order explains" if beyond else "round-off in another order"


def _relative(noise: float, tensor: torch.Tensor) -> str:
    size = root_mean_square(torch.nan_to_num(tensor, posinf=0.0, neginf=0.0))
    return f"{noise / size:.2g} of its size" if size > 0 else f"{noise:.2g}"


def _steps(rtol: float) -> tuple[str, ...]:
    return (
        *helpers(min(rtol, 1e-2)),
        "runs = []",
        "for seed in range(20):",
        "    torch.manual_seed(0)",
        "    pull = start(arguments, leaves)",
        "    torch.manual_seed(seed)",
        "    runs.append(kept(pull(cotangents)))",
        "sys.exit(int(any(differ(r, runs[0]) for r in runs)))",
    )


def _is_drawn(setting: Setting, case: Case) -> bool:
    """Whether the difference is gone once torch's generator stands at the same place before each backward."""
    return not any(_noise([_run(setting, case, 0)[1] for _ in range(_RUNS)]))


def _bounds(setting: Setting, case: Case, here: Gradients, *, drawn: bool) -> list[float]:
    """What round-off in another order may move, per gradient: the size of its terms times the dtype's spacing."""
    filled = tuple(torch.zeros_like(x) if g is None else g for g, x in zip(here, case.primals.leaves, strict=True))

    def there(primals: Primals, cotangents: Tensors) -> Gradients | None:
        if cotangents is case.cotangents:
            return filled  # no spread: noise is not to excuse itself
        try:
            return setting.subject.linearize(primals).pullback(cotangents)
        except SubjectError:
            return None

    eps = torch.finfo(setting.dtype).eps
    floors = roundoff(case, filled, (there, setting.subject.outputs), eps, exact=True)
    found = [MARGIN * float(f.max()) for f in floors]
    if drawn:
        return found
    return [a + b for a, b in zip(found, _conditioning(setting, case, len(found)), strict=True)]


def _conditioning(setting: Setting, case: Case, count: int) -> list[float]:
    """How far an ulp of the inputs moves the gradient by the oracle's account."""
    for oracle in (setting.trusted, setting.own):
        if oracle is None:
            continue
        try:
            moved = oracle.conditioning(case, oracle.gradients(case))
        except OracleUnavailable:
            continue
        ratio = torch.finfo(setting.dtype).eps / torch.finfo(oracle.dtype).eps
        return [MARGIN * ratio * float(m.max()) if m.numel() else 0.0 for m in moved]
    return [0.0] * count


CHECK = Check(
    name="determinism",
    proves="Equal calls give the same bits, whatever random numbers are at hand for the backward.",
    cannot="A race that did not show in three calls is not found; noise of round-off is a warning.",
    causes=(
        (
            "backward draws random numbers of its own",
            "save what the forward drew",
        ),
        (
            "sums by atomic adds come in any order",
            "state the noise, or use a deterministic reduction",
        ),
    ),
    examine=examine,
    weight=0.2,
)
