"""What a finding shows besides its sentence, measured once for a failed check.

It takes about sixty calls of the subject at most. A subject that is slow gets fewer exhibits, and one that raises here
still has its finding.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch

from gradharness.checks.precision import error_share
from gradharness.checks.surroundings import watched
from gradharness.engine.looking import Looker
from gradharness.engine.search import Failure
from gradharness.engine.witness import worst
from gradharness.inputs.plain import plain_recipe
from gradharness.inputs.recipe import Recipe
from gradharness.model.case import Case
from gradharness.model.estimate import GradientEstimate, SlopeEstimate, Smoothness
from gradharness.model.exhibit import Exhibit, HeatMap, LengthCurve, OracleValue, StepCurve
from gradharness.model.subject import Tensors
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.oracles.forward_mode import ForwardMode
from gradharness.subjects.transformed import bare_function

SIDE = 64  # rows and columns of a heat map
_SECONDS = 10.0  # for all exhibits of a finding
_CALLS = 60
_DRAWN_LENGTHS = 7
_SHORTEST = 8
# First step in units of the tensor's spread, ratio of two steps, and how many there are.
_STEPS = {torch.float64: (2.0**-1, 4.0, 13), torch.float32: (2.0**-1, 2.0, 13)}
_SAME = 1e-6  # relative; an oracle that agrees with what was expected was asked for the same gradient
_TRUNCATION = 2.0  # times the change from step to step


def exhibits(looker: Looker, first: Failure, best: Failure) -> tuple[Exhibit, ...]:
    """Whatever can be shown of a failure.

    Args:
        looker: Has looked at both.
        first: The failure as it was drawn.
        best: The smallest one that was found; it becomes the witness.
    """
    found: list[Exhibit] = []
    with suppress(Exception):
        seen = chain([first.found], _larger(looker, best), [best.found])
        found += islice((shown for one in seen if (shown := heat_map(one)) is not None), 1)
    if best.found.drawing is not None:
        found.append(best.found.drawing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for measure in (_at_the_worst, _over_lengths):
            # A subject may raise anything at all at points that no check has been to.
            with suppress(Exception), watched():
                found += measure(looker, first, best)
    return tuple(found)


# --------------------------------------------------------------------------------------------------------- heat maps


def heat_map(found: Discrepancy) -> HeatMap | None:
    """The elements around the worst one; None where only a direction, or a single element, is known."""
    expected = found.expected
    place = worst(found)[0]
    if expected is None or expected.numel() < 2 or place is None or expected.device.type == "meta":
        return None
    got = torch.zeros_like(expected) if found.got is None else found.got
    bound = torch.as_tensor(found.bound, dtype=torch.float64).expand(expected.shape)
    expected, got, part = _real(expected.detach().cpu(), got.detach().cpu())
    cut = _cut(tuple(expected.shape), place)
    return HeatMap(
        label=found.label,
        expected=cut.of(expected),
        got=cut.of(got),
        bound=cut.of(bound.cpu()),
        shape=tuple(expected.shape),
        corner=cut.corner,
        worst=cut.worst,
        wrapped=cut.wrapped,
        padding=cut.padding,
        part=part,
    )


def _larger(looker: Looker, best: Failure) -> Iterator[Discrepancy]:
    """The same fault in other cases, for a failure that was small from the start: one that a store has kept."""
    recipe = best.look.recipe
    plain = plain_recipe(looker.domain, own=False, seed=recipe.seed)
    likely = replace(plain if recipe.example else recipe, sizes=plain.sizes, broadcast=())
    for one in (likely, plain) if likely != plain else (plain,):
        observation = looker.look(one).observation
        same = () if observation is None else observation.discrepancies
        yield from (d for d in same if (d.label, d.fault) == (best.found.label, best.found.fault))


def _real(expected: torch.Tensor, got: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, str]:
    """The part of complex numbers in which they differ more."""
    if not (expected.is_complex() or got.is_complex()):
        return expected, got, ""
    wide = torch.complex128
    pairs = torch.view_as_real(torch.stack([expected.to(wide), got.to(wide)]).resolve_conj())
    apart = (pairs[0] - pairs[1]).abs().nan_to_num().sum(tuple(range(expected.dim())))
    number = int(apart.argmax())
    return pairs[0, ..., number], pairs[1, ..., number], ("real", "imaginary")[number]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Which elements of a tensor a map shows, and how they lie in it."""

    corner: tuple[int, ...]
    rows: int
    columns: int
    worst: tuple[int, int]
    wrapped: bool = False
    padding: int = 0

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The elements, two dims, float64."""
        if self.wrapped:
            flat = tensor[self.corner[0] : self.corner[0] + self.rows * self.columns - self.padding]
            cells = torch.cat([flat, flat.new_zeros(self.padding)])
        else:
            tensor = tensor[None] if tensor.dim() == 1 else tensor
            corner = (0,) * (tensor.dim() - len(self.corner)) + self.corner
            cells = tensor[corner[:-2]][corner[-2] :, corner[-1] :][: self.rows, : self.columns]
        return cells.reshape(self.rows, self.columns).to(torch.float64).clone()


def _cut(shape: tuple[int, ...], place: tuple[int, ...]) -> _Cut:
    """A vector that is longer than a row is wrapped; of more than two dims the last two are shown, at the worst."""
    if len(shape) == 1 and shape[0] > SIDE:
        row, column = divmod(place[0], SIDE)
        rows = math.ceil(shape[0] / SIDE)
        top = _start(rows, row)
        shown = min(rows - top, SIDE)
        padding = max(0, (top + shown) * SIDE - shape[0])
        return _Cut((top * SIDE,), shown, SIDE, (row - top, column), wrapped=True, padding=padding)
    (rows, columns), (row, column) = ((1, *shape)[-2:], (0, *place)[-2:])
    top, left = _start(rows, row), _start(columns, column)
    corner = (*place[:-2], top, left)[-len(shape) :]
    return _Cut(corner, min(rows, SIDE), min(columns, SIDE), (row - top, column - left))


def _start(size: int, place: int) -> int:
    """First of the rows (or columns) that are shown, with the worst in the middle as far as there is room."""
    return max(0, min(place - SIDE // 2, size - SIDE))


# ------------------------------------------------------------------------------------------------- at the worst element


@dataclass(frozen=True, slots=True)
class _Element:
    """One element of one gradient, at a case."""

    case: Case
    number: int
    index: tuple[int, ...]

    @property
    def leaf(self) -> torch.Tensor:
        """The primal."""
        return self.case.primals.leaves[self.number]

    @property
    def unit(self) -> float:
        """How far the element may be moved: about a standard deviation of its tensor."""
        size = torch.view_as_real(self.leaf.resolve_conj()) if self.leaf.is_complex() else self.leaf
        spread = float(size.to(torch.float64).std()) if size.numel() > 1 else float(size.abs().max())
        return 2.0 ** round(math.log2(spread)) if spread > 0 and math.isfinite(spread) else 1.0

    def tangent(self, direction: complex | float = 1.0) -> Tensors:
        """That moves the element alone, by one unit."""
        made = [torch.zeros_like(x) for x in self.case.primals.leaves]
        made[self.number][self.index] = torch.as_tensor(self.unit * direction).to(self.leaf.dtype)
        return tuple(made)


def _at_the_worst(looker: Looker, _first: Failure, best: Failure) -> Iterator[Exhibit]:
    """What the oracles say of the worst element, and how differences come near to it."""
    found, case = best.found, best.look.case
    index, expected, got, bound = worst(found)
    if case is None or index is None or expected is None or found.label not in case.primals.labels:
        return
    element = _Element(case, case.primals.labels.index(found.label), index)
    if element.leaf.shape != (found.expected.shape if found.expected is not None else None):
        return
    seconds = _seconds_of_a_call(looker, case)
    if seconds * _CALLS > 3 * _SECONDS:
        return
    values = tuple(_oracle_values(looker, element))
    near = [abs(v.value - expected) <= v.bound + (bound or 0.0) + _SAME * abs(expected) for v in values]
    if not any(near):
        return  # expected is the gradient for another cotangent, or after other calls
    yield from sorted(values, key=lambda v: v.oracle != found.oracle)
    claimed = 0.0 if found.got is None else got
    if seconds * _CALLS <= _SECONDS and not isinstance(expected, complex) and not isinstance(claimed, complex):
        yield from _step_curve(looker, element, found.label, float(claimed or 0.0), expected)


def _seconds_of_a_call(looker: Looker, case: Case) -> float:
    started = time.monotonic()
    looker.setting.subject.outputs(case.primals)
    return time.monotonic() - started


def _oracle_values(looker: Looker, element: _Element) -> Iterator[OracleValue]:
    setting = looker.setting
    case = element.case
    for autograd in (setting.trusted, setting.own):
        if autograd is not None:
            with suppress(Exception):
                yield from _of_estimate(autograd.gradients(case), element)
    slopes: list[tuple[str, Callable[[Case, Tensors], SlopeEstimate]]] = []
    if setting.differences is not None:
        slopes.append((setting.differences.name, setting.differences.slope))
    function = None if setting.reference is None else bare_function(setting.reference)
    if function is not None and element.leaf.dtype in _STEPS:  # in half precision it says nothing
        slopes.append(("forward mode of the reference", ForwardMode(function).slope))
    for name, slope in slopes:
        with suppress(Exception):
            yield from _of_slopes(name, slope, element)


def _of_estimate(estimate: GradientEstimate, element: _Element) -> Iterator[OracleValue]:
    gradient = estimate.gradients[element.number]
    bound = torch.as_tensor(estimate.bounds[element.number]).expand(gradient.shape)[element.index]
    yield from _finite(estimate.oracle, gradient[element.index].item(), float(bound))


def _of_slopes(name: str, slope: Callable[[Case, Tensors], SlopeEstimate], element: _Element) -> Iterator[OracleValue]:
    """One slope for a real element, and two for a complex one."""
    directions = (1.0, 1j) if element.leaf.is_complex() else (1.0,)
    found = [slope(element.case, element.tangent(direction)) for direction in directions]
    if any(s.smoothness is not Smoothness.SMOOTH or s.masked is not None for s in found):
        return
    parts = [s.value / element.unit for s in found]
    bound = math.hypot(*(s.bound for s in found)) / element.unit
    yield from _finite(name, complex(*parts) if len(parts) > 1 else parts[0], bound)


def _finite(oracle: str, value: complex | float, bound: float) -> Iterator[OracleValue]:
    if math.isfinite(abs(value)) and math.isfinite(bound):
        yield OracleValue(oracle=oracle, value=value, bound=bound)


def _step_curve(looker: Looker, element: _Element, label: str, claimed: float, expected: float) -> Iterator[StepCurve]:
    differences, ladder = looker.setting.differences, _STEPS.get(element.leaf.dtype)
    if differences is None or ladder is None or not (math.isfinite(claimed) and math.isfinite(expected)):
        return
    start, ratio, count = ladder
    steps = [start * ratio**-k for k in range(count)]
    unit = element.unit
    found = differences.quotients(element.case, element.tangent(), steps)
    known = [(h * unit, d / unit, r / unit) for h, (d, r) in zip(steps, found, strict=True) if math.isfinite(d)]
    if len(known) < 3:
        return
    values = tuple(d for _, d, _ in known)
    yield StepCurve(
        label=label,
        index=element.index,
        steps=tuple(h for h, _, _ in known),
        values=values,
        bounds=tuple(_truncation(values, k) + r for k, (_, _, r) in enumerate(known)),
        claimed=claimed,
        expected=expected,
    )


def _truncation(values: tuple[float, ...], k: int) -> float:
    """What smaller steps show of a step's truncation; of the last step there is nothing to show it."""
    return _TRUNCATION * max((abs(values[k] - v) for v in values[k + 1 : k + 3]), default=0.0)


# -------------------------------------------------------------------------------------------------------- over lengths


def _over_lengths(looker: Looker, first: Failure, best: Failure) -> Iterator[LengthCurve]:
    """The error in a low precision for one dim from short to long."""
    case = best.look.case
    if best.explanation.fault is not Fault.PRECISION_LOST or case is None:
        return
    label = best.found.label
    dtype = case.primals.leaves[case.primals.labels.index(label)].dtype
    recipe = first.look.recipe
    if recipe.example:
        recipe = replace(plain_recipe(looker.domain, own=True), seed=recipe.seed)
    dim, longest = max(recipe.sizes, key=lambda size: size[1], default=("", 0))
    if _seconds_of_a_call(looker, case) * _CALLS > _SECONDS:
        return
    points = [
        (length, *share)
        for length in _lengths(looker, dim, longest)
        if (share := _share(looker, _with_size(recipe, dim, length), label, dtype)) is not None
    ]
    if len(points) < 3:
        return
    plain = tuple(p for _, _, p in points if p is not None)
    yield LengthCurve(
        label=label,
        dtype=str(dtype).removeprefix("torch."),
        dim=dim,
        lengths=tuple(length for length, _, _ in points),
        errors=tuple(error for _, error, _ in points),
        plain=plain if len(plain) == len(points) else (),
    )


def _lengths(looker: Looker, dim: str, longest: int) -> Iterable[int]:
    rule = next((rule for rule in looker.domain.dims if rule.name == dim), None)
    halves = [longest >> k for k in reversed(range(_DRAWN_LENGTHS))]
    return [] if rule is None else [n for n in halves if n >= _SHORTEST and rule.allows(n)]


def _with_size(recipe: Recipe, dim: str, length: int) -> Recipe:
    return replace(recipe, sizes=tuple((name, length if name == dim else size) for name, size in recipe.sizes))


def _share(looker: Looker, recipe: Recipe, label: str, dtype: torch.dtype) -> tuple[float, float | None] | None:
    with suppress(Exception):
        case = looker.case(recipe)
        return None if case is None else error_share(looker.setting, case, label, dtype)
    return None
