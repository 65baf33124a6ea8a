"""How far off a gradient in a low precision may be: what plain torch is off by, with a factor for other arithmetic.

Source of the rule: err ≤ c·(max(plain torch, op by op) + eps·‖G‖) in the rms and in the max norm gave no alarm over 123
correct variants of 13 operations in float32, float16 and bfloat16 with c = 4, while accumulators in half precision were
off by 6 to 64 times as much, those that lose whole terms by more than 12. Relative errors of single elements tell
nothing: one that cancels has any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gradharness.checks.base import Setting
from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Subject, Tensors
from gradharness.numerics.rounding import Rounded
from gradharness.oracles.autograd import Autograd

# With plain torch beside it; the same in half precision, where correct code adds up a few hundred partial sums; and
# where only the conditioning is known, which correct code exceeded up to 5.6 times.
_FACTOR, _HALF, _ALONE = 4.0, 12.0, 12.0
_ALIKE = 0.25  # gradients that differ by more of their size are not the same function's
_PATTERNS = (9, 10)  # numbers of the case's directions whose signs move the inputs


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a tensor: root mean square and largest element; infinite or NaN if an element is."""

    rms: float
    peak: float

    @classmethod
    def of(cls, t: torch.Tensor) -> Size:
        """Of any tensor, in float64; zero if it is empty."""
        if not t.numel():
            return cls(0.0, 0.0)
        size = t.abs().to(torch.float64)
        return cls(float(size.square().mean().sqrt()), float(size.max()))

    def larger(self, other: Size) -> Size:
        """The larger of each."""
        return Size(max(self.rms, other.rms), max(self.peak, other.peak))

    def within(self, allowed: Size) -> bool:
        """Whether neither exceeds what is allowed; NaN does."""
        return self.rms <= allowed.rms and self.peak <= allowed.peak


@dataclass(frozen=True, slots=True)
class Pair:
    """One case twice: in a low precision, and with the same rounded numbers in float64.

    Attributes:
        low: The case in the low precision.
        wide: The case in float64.
        dtype: The low precision.
        got: The subject's gradients in the low precision.
        truths: Gradients in float64 that may all be called right: the reference's, the subject's own.
        judge: Gives the last of them, and its like at other points.
    """

    low: Case
    wide: Case
    dtype: torch.dtype
    got: Gradients
    truths: tuple[Tensors, ...]
    judge: Autograd

    @property
    def eps(self) -> float:
        """Half a unit in the last place of one."""
        return torch.finfo(self.dtype).eps / 2


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What is allowed for one gradient.

    Attributes:
        size: Allowed error.
        plain: Error of plain torch, or of the conditioning alone.
        known: Whether plain torch answered in this dtype.
        finite: Whether all of plain torch's elements are finite there.
    """

    size: Size
    plain: Size
    known: bool
    finite: bool


def first_glance(pair: Pair, number: int) -> Size:
    """What is allowed whatever plain torch does: the rounding of the result and of the terms that it is made of."""
    return _allowed(pair, number, Size(0.0, 0.0), 1.0)


def yardsticks(setting: Setting, pair: Pair) -> list[Yardstick]:
    """For each gradient, the error of plain torch in this dtype and of inputs that move by half a unit."""
    errors = plain_errors(setting, pair)
    moved = _conditioning(pair) if errors else _stirred(setting, pair)
    own = setting.own is not None and bool(errors)
    sticks = []
    for number in range(len(pair.got)):
        finite = [e[number] for e in errors if math.isfinite(e[number].peak)]
        worst = moved[number]
        for error in finite:
            worst = worst.larger(error)
        usual = _FACTOR if pair.dtype is torch.float32 else _HALF
        size = _allowed(pair, number, worst, usual if own and finite else _ALONE)
        sticks.append(Yardstick(size, worst, bool(errors), bool(errors) and len(finite) == len(errors)))
    return sticks


def plain_errors(setting: Setting, pair: Pair) -> list[list[Size]]:
    """The error of each gradient as plain torch makes it: of the reference, of the own forward, of those there are."""
    sources = [s.source for s in (setting.trusted, setting.own) if s is not None]
    return [found for source in sources if (found := _plain_error(pair, source)) is not None]


def errors_of(got: Gradients, truth: Tensors) -> list[Size]:
    """Size of the error of each gradient; None counts as zero."""
    pairs = zip(got, truth, strict=True)
    return [Size.of(t if g is None else g.to(t.dtype) - t) for g, t in pairs]


def _allowed(pair: Pair, number: int, error: Size, factor: float) -> Size:
    """The factor times (error + eps·size), where the size is the gradient's, or that of a sum of its terms.

    Sums in float32 may be taken one term after the other, which costs the root of their number; in half precision they
    may not, since that loses whole terms.
    """
    norm, growth = Size.of(pair.truths[0][number]), _growth(pair.wide, number)
    natural = growth * _natural(pair.wide, number)
    eps = pair.eps * (growth if pair.dtype is torch.float32 else 1.0)
    return Size(
        factor * (error.rms + eps * max(norm.rms, natural)),
        factor * (error.peak + eps * max(norm.peak, natural)),
    )


def _growth(case: Case, number: int) -> float:
    """Root of the number of terms that an element of a gradient may be the sum of."""
    largest = max(t.numel() for t in (*case.primals.leaves, *case.outputs))
    return math.sqrt(largest / max(1, case.primals.leaves[number].numel()))


def _natural(case: Case, number: int) -> float:
    """Size of one term, which remains where terms cancel, or the Jacobian itself does (a saturated softmax)."""
    whole = sum(
        Size.of(w).rms * Size.of(case.outputs[i]).rms for i, w in zip(case.differentiable, case.cotangents, strict=True)
    )
    size = Size.of(case.primals.leaves[number]).rms
    return whole / size if size > 0 else 0.0


def _plain_error(pair: Pair, source: Subject) -> list[Size] | None:
    """What autograd of plain torch code is off by in the low precision.

    None too where its gradients are others in float64: what a module detaches, and its backward differentiates all the
    same, is a constant to autograd of the forward, and its rounding tells nothing.
    """
    try:
        low = Autograd("plain torch", source, pair.dtype).at(pair.low, pair.low.primals)
        wide = Autograd("plain torch", source).at(pair.wide, pair.wide.primals)
    except OracleUnavailable:
        return None
    return errors_of(low, wide) if any(_alike(pair, wide, truth) for truth in pair.truths) else None


def _alike(pair: Pair, gradients: Tensors, truth: Tensors) -> bool:
    """Whether both are gradients of one function, as far as single elements at kinks leave it open."""
    return all(
        error.rms <= _ALIKE * max(Size.of(t).rms, _natural(pair.wide, number))
        for number, (error, t) in enumerate(zip(errors_of(gradients, truth), truth, strict=True))
    )


def _stirred(setting: Setting, pair: Pair) -> list[Size]:
    """Without plain torch: the conditioning, and how far the gradient moves when its operations round otherwise."""
    total = _conditioning(pair)
    base = tuple(
        torch.zeros_like(x) if g is None else g for g, x in zip(pair.got, pair.low.primals.leaves, strict=True)
    )
    for pattern in range(len(_PATTERNS)):
        try:
            with Rounded(pattern):
                found = setting.subject.linearize(pair.low.primals).pullback(pair.low.cotangents)
            total = [t.larger(e) for t, e in zip(total, errors_of(found, base), strict=True)]
        except (SubjectError, RuntimeError):
            return [Size(math.inf, math.inf)] * len(total)
    return total


def _conditioning(pair: Pair) -> list[Size]:
    """How far the gradient moves when every element of the primals moves by half a unit of the low precision."""
    total = [Size(0.0, 0.0)] * len(pair.got)
    for number in _PATTERNS:
        signs = pair.wide.directions[number]
        leaves = [
            x + pair.eps * x.abs() * v.to(x.dtype).sgn() for x, v in zip(pair.wide.primals.leaves, signs, strict=True)
        ]
        try:
            errors = errors_of(pair.judge.at(pair.wide, pair.wide.primals.at(leaves)), pair.truths[-1])
        except OracleUnavailable:
            continue
        total = [t.larger(e) if math.isfinite(e.peak) else t for t, e in zip(total, errors, strict=True)]
    return total
