"""The search of one check: draw recipes, and on a failure find a smaller one with the same fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky

from gradharness.diagnosis import Evidence, Explanation, Sample, diagnose, right_samples
from gradharness.engine.known import Given
from gradharness.engine.looking import Look, Looker
from gradharness.engine.neighbours import companions_of, simpler, size_of
from gradharness.engine.settings import Profile
from gradharness.inputs.plain import plain_recipe
from gradharness.inputs.recipe import Recipe, example_recipe
from gradharness.inputs.sampling import sample
from gradharness.inputs.specs import StrategySpec
from gradharness.inputs.strategies import recipes
from gradharness.model.verdict import Discrepancy, Fault, Verdict

# A smaller witness has to be wrong by this much of the first one's excess, or by this many tolerances: shrinking would
# otherwise slide along the error down to the threshold.
_KEPT_EXCESS = 10.0
_COMPANIONS = 6
_EXPLAINED = 3  # discrepancies of one case that are looked at for one that can be explained
_VALUES_SHARE = 0.5  # of the shrinks, for the values of users' own strategies


class _Found(Exception):
    """Tells Hypothesis that a recipe is interesting."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failing look, its explanation, and the discrepancy that it explains."""

    look: Look
    found: Discrepancy
    explanation: Explanation


@dataclass(slots=True)
class Tally:
    """What a search has seen so far."""

    examined: int = 0
    passed: int = 0
    undecided: int = 0
    vacuous: int = 0
    discarded: int = 0
    resolution: float | None = None
    error: float | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: dict[tuple[str, str], tuple[Look, Discrepancy]] = field(default_factory=dict)
    passing: list[Look] = field(default_factory=list)
    out_of_time: bool = False

    def add(self, look: Look) -> None:
        """Counts one look."""
        observation = look.observation
        if observation is None:
            self.discarded += 1
            self._reason(look.reason)
            return
        self.examined += 1
        for warning in observation.warnings:
            self.warnings.setdefault((str(warning.fault), warning.label), (look, warning))
        if observation.verdict is Verdict.PASS:
            self.passed += 1
            if len(self.passing) < 2 * _COMPANIONS:
                self.passing.append(look)
            if observation.resolution is not None:
                self.resolution = max(self.resolution or 0.0, observation.resolution)
            if observation.error is not None:
                self.error = max(self.error or 0.0, observation.error)
        elif observation.verdict is Verdict.UNDECIDED:
            self.undecided += 1
            self._reason(observation.reason)
        elif observation.verdict is Verdict.SKIPPED:
            self.vacuous += 1
            self._reason(observation.reason)

    def _reason(self, reason: str) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    @property
    def main_reason(self) -> str:
        """The most frequent reason for not deciding."""
        return max(self.reasons, key=lambda r: self.reasons[r]) if self.reasons else ""


@dataclass(slots=True)
class Search:
    """One check's search.

    Attributes:
        looker: Looks at recipes.
        budget: Examples and shrinks.
        seed: Of the draws.
        broadcast: Whether axes may be drawn of size one where neither spec nor example says so.
        deadline: Wall clock (``time.monotonic``) after which nothing new is drawn.
        progress: Called with the number of examined cases.
        known: Cases that failed before: they are looked at first.
        alone: Whether nothing else is looked at.
        replayed: What was seen of ``known``, as far as there was time.
    """

    looker: Looker
    budget: Profile
    seed: int
    broadcast: bool
    deadline: float
    progress: Callable[[int], None]
    known: Sequence[Given] = ()
    alone: bool = False
    tally: Tally = field(default_factory=Tally)
    replayed: list[Look] = field(default_factory=list)
    _failure: Failure | None = None
    _best: Failure | None = None
    _shrinks: int = 0
    _shrink_deadline: float = float("inf")
    _reserve: int = 0

    def __post_init__(self) -> None:
        own = any(isinstance(spec, StrategySpec) for spec in self.looker.domain.specs)
        self._reserve = round(_VALUES_SHARE * self.budget.shrinks) if own else 0

    @property
    def first(self) -> Failure | None:
        """The failure that was explained, before anything was made smaller; None if there is none."""
        return self._failure

    @property
    def examples(self) -> int:
        """Cases to be drawn."""
        return max(1, round(self.budget.examples * self.looker.check.weight))

    def run(self) -> Failure | None:
        """What failed before, the user's own example, then drawn recipes; the smallest failure, or None."""
        self._look_again()
        if self.alone or self._is_the_same():
            return self._best
        example = example_recipe(self.looker.domain, seed=self.seed)
        if example is not None and self._failure is None:
            self._consider(example)
        for recipe in self._recipes():
            if self._failure is None:
                self._consider(recipe)
        if self._failure is not None:
            self._simplify()
            self._reserve = 0
            self._simplify_values()
        return self._best

    def _look_again(self) -> None:
        """Looks at what failed before; the first that still does is the failure."""
        for given in self.known:
            if self._failure is None and self._exhausted():
                return
            look = self.looker.look_at(given)
            self.replayed.append(look)
            self.tally.add(look)
            self.progress(self.tally.examined)
            if look.failed and self._failure is None:
                self._first(look)

    def _is_the_same(self) -> bool:
        """Whether the failure is one that was kept, as it was kept: somebody has made it small already."""
        best = self._best
        if best is None or best.look.given is None:
            return False
        return best.look.given.kept.entry.fault == best.explanation.fault.value

    def _recipes(self) -> Iterator[Recipe]:
        """One plain case, so that a check never rests on unusual values alone; then what is drawn."""
        domain = self.looker.domain
        yield plain_recipe(domain, own=False, seed=self.seed)
        check = self.looker.check
        yield from sample(domain, check.sizes, self.examples, self.seed, broadcast=self.broadcast, styles=check.styles)

    def _simplify_values(self) -> None:
        """Lets Hypothesis look for simpler values of users' own strategies, which nobody else can simplify."""
        domain = self.looker.domain
        if not any(isinstance(spec, StrategySpec) for spec in domain.specs):
            return

        @hypothesis.seed(self.seed)
        @hypothesis.settings(_quiet(self.examples))
        @hypothesis.given(recipes(domain, self.looker.check.sizes, broadcast=self.broadcast))
        def drawing(recipe: Recipe) -> None:
            if self._consider(recipe):
                raise _Found

        with suppress(_Found, Flaky):  # the best failure is kept here, whatever Hypothesis makes of our budget
            drawing()

    def _consider(self, recipe: Recipe) -> bool:
        """Looks at a recipe; True if it is worth shrinking further."""
        if self._exhausted():
            return False
        look = self.looker.look(recipe)
        if self._failure is None:
            self.tally.add(look)
            self.progress(self.tally.examined)
        else:
            self._shrinks += 1
        if not look.failed:
            return False
        if self._failure is None:
            return self._first(look)
        return self._smaller(look, self._failure)

    def _exhausted(self) -> bool:
        now = time.monotonic()
        if self._failure is None:
            if now > self.deadline:
                self.tally.out_of_time = True
            return self.tally.out_of_time
        return self._shrinks >= self.budget.shrinks - self._reserve or now > self._shrink_deadline

    def _first(self, look: Look) -> bool:
        assert look.observation is not None
        companions = [self.looker.look(r) for r in companions_of(look, self.looker.domain, self.seed)]
        if look.given is None:
            self._failure = self._failure_of(_clearest(look, companions), companions)
        else:
            self._failure = self._failure_again(look, companions)
        self._best = self._failure
        self._shrink_deadline = time.monotonic() + self.budget.shrink_seconds
        return True

    def _failure_of(self, clear: Look, companions: Sequence[Look]) -> Failure:
        assert clear.observation is not None
        found, explanation = self._explained(clear, clear.observation.discrepancies, companions)
        return Failure(clear, found, explanation)

    def _failure_again(self, look: Look, companions: Sequence[Look]) -> Failure:
        """A kept case stays the failure; what is wrong there, a more general case tells, as it did the first time."""
        told = self._failure_of(_most_general(look, companions), companions)
        assert look.observation is not None
        for found in look.observation.discrepancies:
            same = found.label == told.found.label and found.fault is told.found.fault
            if same and (look.case is None or told.explanation.holds(Sample(look.case, found))):
                return Failure(look, found, _reworded(told.explanation, look, found))
        return self._failure_of(look, companions)

    def _smaller(self, look: Look, first: Failure) -> bool:
        """Whether a failing look shows the same fault as plainly; if so it may become the witness."""
        assert look.observation is not None
        for found in look.observation.discrepancies:
            if found.label != first.found.label or found.fault is not first.found.fault:
                continue
            plain = found.excess >= min(_KEPT_EXCESS, 0.5 * first.found.excess)
            same = look.case is None or first.explanation.holds(Sample(look.case, found))
            if plain and same:
                if self._best is None or size_of(look) <= size_of(self._best.look):
                    self._best = Failure(look, found, _reworded(first.explanation, look, found))
                return True
        return False

    def _explained(
        self, look: Look, discrepancies: Sequence[Discrepancy], companions: Sequence[Look]
    ) -> tuple[Discrepancy, Explanation]:
        """The worst discrepancy, or the first after it that can be explained, where the worst cannot."""
        unknown: tuple[Discrepancy, Explanation] | None = None
        for found in discrepancies[:_EXPLAINED]:
            explanation = self._explain(look, found, companions)
            if explanation.fault is not Fault.UNKNOWN:
                return found, explanation
            unknown = unknown or (found, explanation)
        assert unknown is not None
        return unknown

    def _explain(self, look: Look, found: Discrepancy, companions: Sequence[Look]) -> Explanation:
        if look.case is None:
            assert found.fault is not None
            return Explanation(found.fault, found.detail)
        samples = [Sample(look.case, found)]
        passing = [p.case for p in self.tally.passing if p.case is not None]
        for other in companions:
            if other is look or other.case is None or other.observation is None:
                continue
            if other.observation.verdict is Verdict.PASS:
                passing.append(other.case)
            same = [d for d in other.observation.discrepancies if d.label == found.label and d.fault is None]
            samples += [Sample(other.case, d) for d in same[:1] if other.failed and _tells(d)]
        setting = self.looker.setting
        right = () if found.fault is not None else right_samples(setting, found.label, passing[-_COMPANIONS:])
        return diagnose(Evidence(setting, self.looker.check.name, tuple(samples), tuple(passing), right))

    def _simplify(self) -> None:
        """Own shrinking, greedy: whatever makes the best witness smaller, until nothing does."""
        improved = True
        while improved and self._best is not None:
            best = self._best
            improved = False
            for recipe in simpler(best.look.recipe, self.looker.domain):
                if self._exhausted():
                    return
                self._consider(recipe)
                if self._best is not best:
                    improved = size_of(self._best.look) < size_of(best.look)
                    break


def _clearest(look: Look, companions: Sequence[Look]) -> Look:
    """The look itself, or one that tells of elements what this tells of a direction only."""
    for one in (look, *companions):
        if one.failed and one.observation is not None:
            found = one.observation.discrepancies[0]
            if one.case is None or found.fault is not None or _tells(found):
                return one
    return look


def _tells(found: Discrepancy) -> bool:
    """Whether it tells of elements, and not of a direction only."""
    return found.expected is not None or found.got is not None


def _most_general(look: Look, companions: Sequence[Look]) -> Look:
    """Of those that fail as this one does, the largest: in few simple numbers, much is equal by chance."""
    assert look.observation is not None
    wanted = look.observation.discrepancies[0]
    alike = [look]
    for one in companions:
        seen = one.observation.discrepancies[:1] if one.failed and one.observation is not None else ()
        if any(d.label == wanted.label and d.fault is wanted.fault and (d.fault or _tells(d)) for d in seen):
            alike.append(one)
    return max(alike, key=lambda one: sum(x.numel() for x in one.primals.leaves))


def _reworded(explanation: Explanation, look: Look, found: Discrepancy) -> Explanation:
    """A sentence with the particulars of its own case is told anew for another one."""
    if explanation.retold is not None and look.case is not None:
        return replace(explanation, message=explanation.retold(Sample(look.case, found)))
    return replace(explanation, message=found.detail) if found.fault is not None else explanation


def _quiet(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        derandomize=False,
        verbosity=Verbosity.quiet,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
