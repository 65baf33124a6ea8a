"""Finite differences of the subject's own forward: needs no reference, believes only what several steps agree on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from gradharness.errors import OracleUnavailable, SubjectError
from gradharness.model.case import Case
from gradharness.model.estimate import SlopeEstimate, SlopeInterval, Smoothness
from gradharness.model.subject import Primals, Subject, Tensors
from gradharness.numerics import differences, noise
from gradharness.numerics.differences import FLOAT32, FLOAT64, Line, Precision, Slope

_FLAT = 2.0**-8  # of a standard deviation
_QUICK_ENOUGH = 1e-7  # of the differences' own scale; a tenth of the tolerance of float64
_UNRESOLVED = 1e-3  # a bound above this share of the scale says nothing about a gradient
_ADDITIVE = 1e-7
_NOISE_CALLS = 3
_SMALLEST_UNIT = 44  # a retry shrinks the steps by at most 2**44


@dataclass(frozen=True, slots=True)
class FiniteDifference:
    """Central differences along a tangent, with an error bound and an eye for kinks.

    Attributes:
        subject: What is differenced, through ``outputs`` alone.
        name: How reports call this oracle.
        quick_enough: Error bound, relative to the differences' own scale, with which four calls are content; the
            relative tolerance that they are held against is the natural choice.
    """

    subject: Subject
    name: str = "finite difference"
    quick_enough: float = _QUICK_ENOUGH
    _last: list[_Point] = field(default_factory=list, init=False, repr=False, compare=False)

    def slope(self, case: Case, tangent: Tensors, cotangents: Tensors | None = None) -> SlopeEstimate:
        """⟨cotangents, J·tangent⟩, cheaply where the function is plainly smooth, else output by output.

        Outputs that are not smooth or not resolved along the line get weight zero and are named in ``masked``; the
        value is then that of the masked cotangents.

        Raises:
            OracleUnavailable: If the forward raises beside the point, or in float16 and bfloat16.
        """
        with torch.no_grad():
            point, weights = self._look(case, cotangents)
            line = point.line(self.subject, tangent)
            if point.precision is FLOAT64:
                quick = differences.quick_slope(line, point.y0, weights)
                if quick.smooth and quick.bound <= self.quick_enough * quick.scale:
                    return SlopeEstimate(oracle=self.name, value=quick.value, bound=quick.bound, calls=4)
            found = self._slopes(point, line, tangent, weights)
            return self._projected(point, found, weights)

    def quotients(self, case: Case, tangent: Tensors, steps: Sequence[float]) -> tuple[tuple[float, float], ...]:
        """⟨cotangents, (y(x + h·tangent) - y(x - h·tangent)) / 2h⟩ for every step h, each with its round-off bound.

        Both are NaN where the forward raises.

        Raises:
            OracleUnavailable: As ``slope``, at the point itself.
        """
        with torch.no_grad():
            point, weights = self._look(case, None)
            line = point.line(self.subject, tangent)
            noise = point.precision.noise_factor * _scale(weights, point.noise(self.subject), weights != 0)
            return tuple((_quotient(line, point.y0, weights, h), noise / h) for h in steps)

    def is_flat(self, case: Case, tangent: Tensors) -> bool:
        """Whether no output moves at all within a small part of a standard deviation, to either side.

        Raises:
            OracleUnavailable: As ``slope``.
        """
        with torch.no_grad():
            point, _ = self._look(case, None)
            line = point.line(self.subject, tangent)
            return all(torch.equal(line(t), point.y0) for t in (_FLAT, -_FLAT))

    def interval(self, case: Case, tangent: Tensors) -> SlopeInterval | None:
        """Between which values ⟨cotangents, J·tangent⟩ may lie: at kinks, any value between the one-sided slopes.

        The interval is taken output by output and only then weighted, since every output may follow a convention of
        its own. None where some output jumps, has an infinite slope, or is not resolved.

        Raises:
            OracleUnavailable: As ``slope``.
        """
        with torch.no_grad():
            point, weights = self._look(case, None)
            found = self._slopes(point, point.line(self.subject, tangent), tangent, weights)
        counted = weights != 0
        if bool((counted & ~(found.usable | found.kink)).any()):
            return None
        ends = weights * found.lower, weights * found.upper
        lower, upper = _sum(torch.minimum(*ends), counted), _sum(torch.maximum(*ends), counted)
        bound = _projected_bound(weights, found, counted)
        return SlopeInterval(lower=lower, upper=upper, bound=bound)

    def is_linear_at(
        self, case: Case, tangent: Tensors, partitions: Sequence[Tensors], cotangents: Tensors | None = None
    ) -> bool:
        """True if D(tangent) = Σ D(tangent on a block) for every partition: then the slope is that of a derivative.

        At ties (median of three equal values) the slopes from the left and the right agree along every line, and yet
        D is not linear in the tangent: no gradient can be right or wrong there. Four random partitions into eight
        blocks let no such point through in 2,400; two halves let five.

        Args:
            case: The point.
            tangent: One tensor per leaf.
            partitions: Each one integer tensor per leaf, the block number of every element.
            cotangents: The case's own unless given.

        Raises:
            OracleUnavailable: As ``slope``.
        """
        whole = self.slope(case, tangent, cotangents)
        return _is_plain(whole) and all(
            self._is_additive(case, tangent, partition, whole, cotangents) for partition in partitions
        )

    def _is_additive(
        self, case: Case, tangent: Tensors, partition: Tensors, whole: SlopeEstimate, cotangents: Tensors | None
    ) -> bool:
        blocks = sorted({int(b) for part in partition for b in torch.unique(part)})
        total, bound, size = 0.0, whole.bound, abs(whole.value)
        for block in blocks:
            chosen = tuple(torch.where(part == block, v, 0) for part, v in zip(partition, tangent, strict=True))
            part = self.slope(case, chosen, cotangents)
            if not _is_plain(part):
                return False
            total, bound, size = total + part.value, bound + part.bound, size + abs(part.value)
        return abs(total - whole.value) <= bound + _ADDITIVE * size

    def _look(self, case: Case, cotangents: Tensors | None) -> tuple[_Point, torch.Tensor]:
        """The point of a case, evaluated once as long as the case stays the same, and the flat weights."""
        if not self._last or self._last[0].primals is not case.primals:
            self._last[:] = [_Point.of(self.subject, case)]
        point = self._last[0]
        weights = _flat(cotangents if cotangents is not None else case.cotangents)
        if weights.shape != point.y0.shape:
            raise OracleUnavailable(f"{self.name}: {self.subject.name} has other outputs than the case")
        return point, weights

    def _slopes(self, point: _Point, line: Line, tangent: Tensors, weights: torch.Tensor) -> Slope:
        """Slopes per output; what the first scale leaves open is tried again with smaller steps."""
        floor = point.noise(self.subject)
        found = differences.slope(line, point.y0, floor, weights=weights, precision=point.precision)
        for halvings in _smaller_units(point.leaves, tangent):
            still = (weights != 0) & _improvable(found, weights, floor, point.precision)
            if not bool(still.any()):
                break
            shrunk = _shrunk(line, halvings)
            open_weights = torch.where(still, weights, 0.0)
            again = differences.slope(shrunk, point.y0, floor, weights=open_weights, precision=point.precision)
            found = _completed(found, again, 2.0**halvings)
        return found

    def _projected(self, point: _Point, found: Slope, weights: torch.Tensor) -> SlopeEstimate:
        counted = weights != 0
        good = _well_known(weights, found, counted & found.usable)
        bad = point.whole_elements(counted & ~good)
        good &= ~bad
        if bool(bad.any()) and not bool(good.any()):
            kind = Smoothness.KINK if bool((bad & ~found.smooth).any()) else Smoothness.UNRESOLVED
            # A slope of exactly zero has no scale of its own to be resolved by; others may lend it theirs.
            still = not bool((bad & ~(found.usable & (found.value == 0))).any())
            bound = _projected_bound(weights, found, bad) if still else math.inf
            return SlopeEstimate(oracle=self.name, value=0.0, bound=bound, smoothness=kind, calls=found.calls)
        return SlopeEstimate(
            oracle=self.name,
            value=_weighted(weights, found.value, good),
            bound=_projected_bound(weights, found, good),
            masked=point.masks(bad) if bool(bad.any()) else None,
            calls=found.calls,
        )


@dataclass(frozen=True, slots=True)
class _Point:
    """Where the differences are taken: leaves and outputs of one case, seen as real numbers."""

    primals: Primals
    leaves: Tensors
    numbers: tuple[int, ...]
    shapes: tuple[torch.Size, ...]
    complex_outputs: tuple[bool, ...]
    precision: Precision
    y0: torch.Tensor
    _noise: list[torch.Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, subject: Subject, case: Case) -> _Point:
        """Evaluates ``subject`` at the case's primals."""
        primals, numbers = case.primals, case.differentiable
        leaves = tuple(leaf.detach() for leaf in primals.leaves)
        outputs = _outputs(subject, primals, [leaf.clone() for leaf in leaves], numbers)
        return cls(
            primals=primals,
            leaves=leaves,
            numbers=numbers,
            shapes=tuple(y.shape for y in outputs),
            complex_outputs=tuple(y.is_complex() for y in outputs),
            precision=_precision([*leaves, *outputs]),
            y0=_flat(outputs).clone(),
        )

    def line(self, subject: Subject, tangent: Tensors) -> Line:
        """The flat outputs at x + t·tangent as a function of t."""
        primals, leaves, numbers, size = self.primals, self.leaves, self.numbers, self.y0.numel()
        directions = tuple(v.detach().to(x.dtype) for v, x in zip(tangent, leaves, strict=True))

        def at(t: float) -> torch.Tensor:
            moved = [torch.add(x, v, alpha=t) for x, v in zip(leaves, directions, strict=True)]
            y = _flat(_outputs(subject, primals, moved, numbers))
            if y.numel() != size:
                raise OracleUnavailable("the number of output elements depends on the values of the inputs")
            return y

        return at

    def noise(self, subject: Subject) -> torch.Tensor:
        """Noise per output, measured once: calls at points an ulp or two beside x."""
        if not self._noise:
            eps = self.precision.eps
            there = [
                _flat(_outputs(subject, self.primals, [_beside(x, n, eps) for x in self.leaves], self.numbers)).clone()
                for n in range(_NOISE_CALLS)
            ]
            if any(y.shape != self.y0.shape for y in there):
                raise OracleUnavailable("the number of output elements depends on the values of the inputs")
            self._noise.append(noise.noise_floor(self.y0, there, eps=eps))
        return self._noise[0]

    def whole_elements(self, flat: torch.Tensor) -> torch.Tensor:
        """Flat flags, with both parts of a complex element flagged where either is."""
        if not any(self.complex_outputs):
            return flat
        parts = torch.split(flat, self._sizes)
        return torch.cat(
            [
                part.reshape(-1, 2).any(-1).repeat_interleave(2) if pairs else part
                for part, pairs in zip(parts, self.complex_outputs, strict=True)
            ]
        )

    def masks(self, flat: torch.Tensor) -> Tensors:
        """Flat flags of whole elements as one tensor per differentiable output."""
        steps = (2 if pairs else 1 for pairs in self.complex_outputs)
        parts = torch.split(flat, self._sizes)
        return tuple(p[::step].reshape(shape) for p, step, shape in zip(parts, steps, self.shapes, strict=True))

    @property
    def _sizes(self) -> list[int]:
        """Real numbers in each differentiable output."""
        return [s.numel() * (2 if pairs else 1) for s, pairs in zip(self.shapes, self.complex_outputs, strict=True)]


def _outputs(
    subject: Subject, primals: Primals, leaves: Sequence[torch.Tensor], numbers: Sequence[int]
) -> list[torch.Tensor]:
    try:
        outputs = subject.outputs(primals.at(leaves))
    except SubjectError as error:
        raise OracleUnavailable(f"beside the point, {error}") from error
    if len(outputs) <= max(numbers, default=-1):
        raise OracleUnavailable("the number of outputs depends on the values of the inputs")
    return [outputs[i] for i in numbers]


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All elements as one float64 vector; a complex element is a pair, so that the dot product is Re Σ conj(w)·y."""
    if len(tensors) == 1 and tensors[0].dtype is torch.float64:
        return tensors[0].reshape(-1)
    parts = [_real(t).reshape(-1).to(torch.float64) for t in tensors]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _quotient(line: Line, y0: torch.Tensor, weights: torch.Tensor, h: float) -> float:
    try:
        above = line(h) - y0  # first, since a function may hand out the same buffer from call to call
        return float((weights * (above - (line(-h) - y0))).sum()) / (2 * h)
    except OracleUnavailable:
        return math.nan


def _beside(x: torch.Tensor, pattern: int, eps: float) -> torch.Tensor:
    if x.is_complex():
        return torch.view_as_complex(noise.beside(_real(x).contiguous(), pattern, eps=eps))
    return noise.beside(x, pattern, eps=eps)


def _precision(tensors: Sequence[torch.Tensor]) -> Precision:
    """The coarsest precision among leaves and outputs."""
    worst = max((torch.finfo(t.dtype).eps for t in tensors), default=FLOAT64.eps)
    if worst > FLOAT32.eps:
        raise OracleUnavailable("finite differences resolve nothing in float16 and bfloat16")
    return FLOAT32 if worst > FLOAT64.eps else FLOAT64


def _smaller_units(leaves: Tensors, tangent: Tensors) -> list[int]:
    """Numbers of halvings of the step to try where the usual scale resolves nothing.

    First so many that no element moves by more than a quarter of itself (log near zero leaves its domain), then so
    many that features of a thousandth of the scale are seen.
    """
    ratios = []
    for x, v in zip(leaves, tangent, strict=True):
        size, step = _real(x).abs(), _real(v).abs()
        both = (size > 0) & (step > 0)
        ratios.append((size / step)[both].reshape(-1).to(torch.float64))
    known = torch.cat(ratios) if ratios else torch.zeros(0)
    smallest = float(known.min()) if known.numel() else 1.0
    needed = math.ceil(math.log2(4 * FLOAT64.first / smallest)) if 0 < smallest < math.inf else 0
    return sorted({h for h in (min(needed, _SMALLEST_UNIT), 12) if h > 0}, reverse=needed > 0)


def _shrunk(line: Line, halvings: int) -> Line:
    unit = 2.0**-halvings
    return lambda t: line(t * unit)


def _improvable(found: Slope, weights: torch.Tensor, floor: torch.Tensor, precision: Precision) -> torch.Tensor:
    """True where smaller steps may help: nothing is known yet, or the bound is wide and noise is not the reason."""
    values = torch.where(found.usable, weights * found.value, 0.0)
    enough = _QUICK_ENOUGH * float(torch.linalg.vector_norm(values)) / math.sqrt(max(values.numel(), 1))
    truncated = found.bound > 100 * precision.noise_factor * floor / precision.first
    wide = found.usable & truncated & ((weights * found.bound).abs() > enough)
    improvable: torch.Tensor = (~found.usable & ~found.kink) | wide
    return improvable


def _well_known(weights: torch.Tensor, found: Slope, usable: torch.Tensor) -> torch.Tensor:
    """The usable outputs; less those of wide bound where these would drown the others (or are all there is)."""
    if _projected_bound(weights, found, usable) <= _UNRESOLVED * _scale(weights, found.value, usable):
        return usable
    bars, values = (weights * found.bound).abs(), (weights * found.value).abs()
    clear = usable & (bars <= _UNRESOLVED * values)
    share = _UNRESOLVED * _scale(weights, found.value, clear) / math.sqrt(max(weights.numel(), 1))
    return clear | (usable & (bars <= share))


def _completed(first: Slope, second: Slope, unit: float) -> Slope:
    """The first slopes, and the second ones (in units of 1 / unit) where those say more.

    An exact zero at smaller steps is no news: it may be a function that is computed in a coarser dtype.
    """
    news = second.usable & (second.value != 0) & (second.bound <= 0.1 * second.value.abs())
    take = ~first.kink & torch.where(first.usable, news & (second.bound * unit < first.bound), news | second.kink)

    def merged(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.where(take, b, a)

    return Slope(
        value=merged(first.value, second.value * unit),
        bound=merged(first.bound, second.bound * unit),
        smooth=merged(first.smooth, second.smooth),
        resolved=merged(first.resolved, second.resolved),
        kink=merged(first.kink, second.kink),
        left=merged(first.left, second.left * unit),
        right=merged(first.right, second.right * unit),
        calls=first.calls + second.calls,
    )


def _weighted(weights: torch.Tensor, values: torch.Tensor, chosen: torch.Tensor) -> float:
    return float(torch.where(chosen, weights * values, 0.0).sum())


def _projected_bound(weights: torch.Tensor, found: Slope, chosen: torch.Tensor) -> float:
    """Root of the sum of squares of the outputs' bounds (their errors are independent), and the dot's round-off."""
    bars, scale = _scale(weights, found.bound, chosen), _scale(weights, found.value, chosen)
    return bars + 8 * FLOAT64.eps * math.sqrt(weights.numel()) * scale


def _scale(weights: torch.Tensor, values: torch.Tensor, chosen: torch.Tensor) -> float:
    """Root of the sum of squares of weight times value: the differences' own size."""
    return float(torch.linalg.vector_norm(torch.where(chosen, weights * values, 0.0)))


def _is_plain(estimate: SlopeEstimate) -> bool:
    return estimate.smoothness is Smoothness.SMOOTH and estimate.masked is None


def _sum(values: torch.Tensor, chosen: torch.Tensor) -> float:
    return float(torch.where(chosen, values, 0.0).sum())
