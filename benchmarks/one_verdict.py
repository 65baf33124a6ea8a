"""One first-order verdict at one given point: what it costs, and how small an error it sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest import mock

import torch
from functions import Candidate, dense, faulty, opaque, uniform
from timing import Contestant, medians

from gradharness.checks.base import Check, Setting
from gradharness.checks.vjp import CHECK
from gradharness.engine.looking import Looker
from gradharness.engine.metering import Meter, Metered
from gradharness.inputs.domain import Domain, declared_domain
from gradharness.inputs.recipe import Recipe
from gradharness.inputs.specs import as_spec
from gradharness.inputs.styles import Style
from gradharness.model.case import Case
from gradharness.model.verdict import Observation, Verdict
from gradharness.subjects.function import function_subject

Function = type[torch.autograd.Function]
SLOW_SIZES = (100, 1000)  # measured in every round
LARGEST_SLOW = 3000  # measured a few times, for the exponent beyond
_LARGEST_ERROR = 1.0
_SMALLEST_ERROR = 1e-12
_STEPS = 14  # of the bisection: a factor of 1.002 at the end
_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Point:
    """One function at one point, for every contestant alike."""

    candidate: Candidate
    domain: Domain
    recipe: Recipe
    case: Case

    @classmethod
    def of(cls, candidate: Candidate, elements: int) -> Point:
        domain = declared_domain({name: as_spec(text, name) for name, text in candidate.specs.items()})
        recipe = Recipe(sizes=tuple(candidate.sizes(elements).items()), seed=1, style=Style.NORMAL)
        case = Looker(setting(candidate.cls, None), _LOOK_ONLY, domain).look(recipe).case
        assert case is not None
        return cls(candidate, domain, recipe, case)

    def fresh(self) -> Case:
        """The case as a search makes it: nothing that belongs to an earlier look can be found in a cache."""
        return replace(self.case, primals=replace(self.case.primals))

    def leaves(self) -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_() for x in self.case.primals.leaves]


_LOOK_ONLY = Check(name="", proves="", cannot="", examine=lambda _setting, _case: Observation(verdict=Verdict.SKIPPED))


def setting(cls: Function, reference: Callable[..., object] | None) -> Setting:
    """What a run makes for float64 on the CPU, counted calls included."""
    meter = Meter()
    subject = Metered(function_subject(cls), meter)
    other = None if reference is None else Metered(function_subject(reference), meter)
    own = subject.own_forward()
    assert own is not None
    return Setting.of(subject, other, own=own)


def costs(point: Point, rounds: int, seconds: float) -> dict[str, float]:
    """Median seconds of every contestant, all in one run."""
    cls, reference = point.candidate.cls, point.candidate.reference
    contestants: dict[str, Contestant] = {
        "forward+backward": lambda: _forward_backward(point),
        "no reference": _examining(point, cls, None),
        "no reference, opaque": _examining(point, opaque(cls), None),
        "reference": _examining(point, cls, reference),
        "look": _looking(point, cls, None),
        "fast": lambda: _gradcheck(point, cls, fast=True),
    }
    if point.case.primals.leaves[0].numel() <= max(SLOW_SIZES):
        contestants["slow"] = lambda: _gradcheck(point, cls, fast=False)
    return medians(contestants, rounds=rounds, seconds=seconds)


def slow_cost(point: Point) -> float:
    """Seconds of gradcheck's slow mode alone."""
    found = medians({"slow": lambda: _gradcheck(point, point.candidate.cls, fast=False)}, rounds=3)
    return found["slow"]


def _forward_backward(point: Point) -> Callable[[], object]:
    leaves, weights = point.leaves(), point.case.cotangents
    function = point.candidate.cls.apply
    return lambda: torch.autograd.grad(function(*leaves), leaves, weights)


def _examining(point: Point, cls: Function, reference: Callable[..., object] | None) -> Contestant:
    one = setting(cls, reference)

    def prepare() -> Callable[[], object]:
        case = point.fresh()
        return lambda: CHECK.examine(one, case)

    return prepare


def _looking(point: Point, cls: Function, reference: Callable[..., object] | None) -> Contestant:
    looker = Looker(setting(cls, reference), CHECK, point.domain)
    return lambda: lambda: looker.look(point.recipe)


def _gradcheck(point: Point, cls: Function, *, fast: bool) -> Callable[[], bool]:
    leaves = point.leaves()
    return lambda: torch.autograd.gradcheck(cls.apply, leaves, fast_mode=fast, raise_exception=False)


def seen_from(point: Point, how: str) -> dict[str, float]:
    """Smallest relative error that is seen, by kind; infinite if not even 100 % is."""
    flagged = {
        "no reference": lambda cls: _fails(point, cls, None),
        "no reference, opaque": lambda cls: _fails(point, opaque(cls), None),
        "reference": lambda cls: _fails(point, cls, point.candidate.reference),
        "fast": lambda cls: not _decided(point, cls, fast=True),
        "slow": lambda cls: not _decided(point, cls, fast=False),
    }[how]
    cls = point.candidate.cls
    random = [_smallest(lambda size, s=seed: flagged(faulty(cls, dense(size, s)))) for seed in _SEEDS]
    return {
        "uniform": _smallest(lambda size: flagged(faulty(cls, uniform(size)))),
        "dense": sorted(random)[len(random) // 2],
    }


def _fails(point: Point, cls: Function, reference: Callable[..., object] | None) -> bool:
    return CHECK.examine(setting(cls, reference), point.fresh()).verdict is Verdict.FAIL


def _decided(point: Point, cls: Function, *, fast: bool) -> bool:
    """gradcheck's decision. A failing fast mode goes on to a full Jacobian for its message; that is left out."""
    with mock.patch("torch.autograd.gradcheck._run_slow_mode_and_get_error", return_value="not right"):
        return _gradcheck(point, cls, fast=fast)()


def _smallest(flagged: Callable[[float], bool]) -> float:
    """Bisection in the logarithm of the error."""
    low, high = math.log(_SMALLEST_ERROR), math.log(_LARGEST_ERROR)
    if not flagged(_LARGEST_ERROR):
        return math.inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if flagged(math.exp(middle)) else (middle, high)
    return math.exp(high)
