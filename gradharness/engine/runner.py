"""Runs the items of a plan for one subject, and tells it as events."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from gradharness.checks import find_check, module
from gradharness.checks.base import Setting
from gradharness.checks.module_building import not_built
from gradharness.checks.surroundings import watched
from gradharness.engine.events import (
    CheckFinished,
    CheckStarted,
    Emit,
    ExampleExamined,
    RunFinished,
    RunStarted,
    WitnessReplayed,
)
from gradharness.engine.exhibits import exhibits
from gradharness.engine.known import NOTHING, Given, Known
from gradharness.engine.looking import Looker, Prepared
from gradharness.engine.measuring import MEASURED, Costs, costs_of, processor
from gradharness.engine.metering import Meter, Metered
from gradharness.engine.outcomes import outcomes, ready
from gradharness.engine.plan import DTYPES, Item
from gradharness.engine.question import Question
from gradharness.engine.search import Failure, Search, Tally
from gradharness.engine.settings import RunSettings
from gradharness.engine.witness import finding, plain_finding, warning
from gradharness.errors import BuildRaised, GradharnessError, SubjectError, UsageError
from gradharness.inputs.domain import Domain, Origin
from gradharness.inputs.plain import trial_recipes
from gradharness.inputs.recipe import Recipe, realize
from gradharness.model.exhibit import Exhibit
from gradharness.model.subject import Primals, Subject, Tensors
from gradharness.model.verdict import CheckResult, Finding, Report, Verdict

_RANDOM_CALLS = 8
_VACUOUS = "every case was vacuous: {}"
_NO_CASE = "no drawn case was accepted: {}"
_MOSTLY = "{} of {} cases could not be decided: {}"


def run(question: Question, items: Sequence[Item], settings: RunSettings, emit: Emit, known: Known = NOTHING) -> Report:
    """Runs all items, one after the other; the user's global random state is as before afterwards.

    Args:
        question: What is asked of the subject.
        items: Which checks, where.
        settings: How much it may cost.
        emit: Gets the events.
        known: What failed before: it is looked at first.
    """
    started = time.monotonic()
    deadline = started + settings.time_limit if settings.time_limit is not None else float("inf")
    domain = question.domain.describe()
    emit(
        RunStarted(question.subject.name, tuple(items), domain, settings.seed, settings.profile, strict=settings.strict)
    )
    results = []
    benches = _Benches(question, settings)
    with random_state_kept():
        for number, item in enumerate(items):
            emit(CheckStarted(item))
            # What is left is shared evenly, so that the first checks leave something to the last.
            share = (deadline - time.monotonic()) / (len(items) - number)
            result = _Run(question, benches, item, settings, time.monotonic() + share, emit, known).result()
            results.append(result)
            emit(CheckFinished(item, result))
    report = Report(
        subject=question.subject.name,
        results=tuple(results),
        domain=domain,
        notes=question.notes,
        seed=settings.seed,
        profile=settings.profile,
        environment=environment(),
        seconds=time.monotonic() - started,
    )
    emit(RunFinished(report))
    return report


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Gives torch's global generators back as they were: a random subject draws from them."""
    cpu = torch.get_rng_state()
    started = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if started else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def environment() -> tuple[tuple[str, str], ...]:
    """What the machine is, as far as it can change a verdict."""
    pairs = [
        ("torch", str(torch.__version__)),
        ("python", platform.python_version()),
        ("threads", str(torch.get_num_threads())),
        ("machine", platform.machine()),
        ("processor", processor()),
    ]
    if torch.cuda.is_available():
        pairs.append(("cuda", torch.cuda.get_device_name()))
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all items on one device in one dtype share."""

    setting: Setting
    note: str
    meter: Meter
    known: dict[Recipe, Prepared] = field(default_factory=dict)


@dataclass(slots=True)
class _Benches:
    """One bench per device and dtype, made when the first item asks for it."""

    question: Question
    settings: RunSettings
    made: dict[tuple[str, str], _Bench] = field(default_factory=dict)

    def get(self, item: Item) -> _Bench:
        key = (item.device, item.dtype)
        if key not in self.made:
            with watched():
                self.made[key] = _bench(self.question, item, self.settings)
        return self.made[key]


def _bench(question: Question, item: Item, settings: RunSettings) -> _Bench:
    meter, note = Meter(), ""
    dtype = DTYPES[item.dtype]
    subject: Subject = Metered(question.subject, meter)
    accepted = _first_accepted(subject, question.domain, dtype, item.device)
    if accepted is None and dtype is torch.float64:
        accepted = _first_accepted(subject, question.domain, torch.float32, item.device)
        if accepted is not None:
            dtype, note = torch.float32, "the subject does not run in float64"
    if accepted is not None and _is_random(subject, accepted):
        subject = Metered(question.subject, meter, seed=settings.seed)
    reference = None if question.reference is None else Metered(question.reference, meter)
    setting = Setting.of(
        subject,
        reference,
        surrogate=question.surrogate,
        own=None if question.surrogate else subject.own_forward(),
        dtype=dtype,
        device=item.device,
        strict=settings.strict,
        declared=question.domain.origin is Origin.DECLARED,
    )
    return _Bench(setting, note, meter)


@dataclass(frozen=True, slots=True)
class _Run:
    """One item."""

    question: Question
    benches: _Benches
    item: Item
    settings: RunSettings
    deadline: float
    emit: Emit
    known: Known

    def result(self) -> CheckResult:
        started = time.monotonic()
        reason = device_reason(self.item.device)
        if reason:
            return self._skipped(reason)
        if self.question.broken is not None:
            return self._broken(self.question.broken)
        try:
            bench = self.benches.get(self.item)
            inside, calls = bench.meter.seconds, bench.meter.calls
            check = find_check(self.item.check)
            reason = check.applies(bench.setting) or ""
            if reason:
                return self._skipped(reason)
            search = Search(
                looker=Looker(bench.setting, check, self.question.domain, bench.known),
                budget=self.settings.budget,
                seed=self.settings.seed,
                broadcast=self.question.broadcasts,
                deadline=self.deadline,
                progress=lambda n: self.emit(ExampleExamined(self.item, n, self._budget())),
                known=self._cases(bench),
                alone=self.known.alone,
            )
            failure = search.run()
            shown = () if failure is None else exhibits(search.looker, search.first or failure, failure)
        except GradharnessError:
            raise
        except Exception as error:  # our own bug: say so, and let the other checks go on
            reason = f"internal error of gradharness, please report it: {type(error).__name__}: {error}"
            return self._empty(Verdict.UNDECIDED, reason)
        result = self._conclude(search.tally, failure, bench, shown)
        for one in outcomes(search.replayed, result, self.settings, bench.setting):
            self.emit(WitnessReplayed(self.item, one))
        inside, calls = bench.meter.seconds - inside, bench.meter.calls - calls
        wanted = result.verdict is Verdict.PASS and self.item.check in MEASURED
        costs = self._costs(bench) if wanted else Costs()
        return replace(
            result,
            saved_bytes=costs.saved_bytes,
            cost_ratio=costs.cost_ratio,
            seconds=time.monotonic() - started,
            inside=inside,
            calls=calls,
        )

    def _cases(self, bench: _Bench) -> list[Given]:
        """What of this item failed before, as far as it can be looked at."""
        cases, refused = ready(self.known, self.item, self.question.domain, bench.setting)
        for one in refused:
            self.emit(WitnessReplayed(self.item, one))
        return cases

    def _costs(self, bench: _Bench) -> Costs:
        """What the subject costs at a plain case."""
        question, setting = self.question, bench.setting
        own = question.subject.own_forward() if setting.own is not None else None
        primals = _first_accepted(setting.subject, question.domain, setting.dtype, setting.device)
        return costs_of(self.item.check, question.subject, question.reference or own, primals)

    def _budget(self) -> int:
        return max(1, round(self.settings.budget.examples * find_check(self.item.check).weight))

    def _conclude(
        self, tally: Tally, failure: Failure | None, bench: _Bench, shown: tuple[Exhibit, ...]
    ) -> CheckResult:
        found: list[Finding] = []
        if failure is not None:
            found.append(replace(finding(self.item, failure), exhibits=shown))
        found += [warning(self.item, look, w) for look, w in tally.warnings.values()]
        verdict, reason = _verdict(tally)
        if find_check(self.item.check).optional and tally.examined and tally.vacuous == tally.examined:
            verdict, reason = Verdict.SKIPPED, tally.main_reason
        if failure is not None or (self.settings.strict and found):
            verdict, reason = Verdict.FAIL, ""
        return CheckResult(
            check=self.item.check,
            device=self.item.device,
            dtype=str(bench.setting.dtype).removeprefix("torch."),
            verdict=verdict,
            findings=tuple(found),
            resolution=tally.resolution if verdict is Verdict.PASS else None,
            error=tally.error if verdict is Verdict.PASS else None,
            examples=tally.examined,
            discarded=tally.discarded,
            undecided=tally.undecided,
            reason="; ".join(r for r in (reason, bench.note) if r),
        )

    def _broken(self, error: BuildRaised) -> CheckResult:
        """One check tells what is wrong with a module that cannot be built; the others have nothing to look at."""
        if self.item.check != module.CHECK.name:
            return self._skipped(f"there is no module: {error}")
        found = not_built(self.question.subject.name, error)
        return replace(self._empty(Verdict.FAIL, ""), findings=(plain_finding(self.item, found),))

    def _skipped(self, reason: str) -> CheckResult:
        return self._empty(Verdict.SKIPPED, reason)

    def _empty(self, verdict: Verdict, reason: str) -> CheckResult:
        item = self.item
        return CheckResult(check=item.check, device=item.device, dtype=item.dtype, verdict=verdict, reason=reason)


def _verdict(tally: Tally) -> tuple[Verdict, str]:
    """A pass needs more decided cases than undecided ones, and at least one that could have failed."""
    if tally.passed and tally.passed >= tally.undecided:
        return Verdict.PASS, ""
    if tally.undecided:
        text = _MOSTLY.format(tally.undecided, tally.examined, tally.main_reason)
        return Verdict.UNDECIDED, text
    if tally.out_of_time:
        return Verdict.UNDECIDED, "the time limit left no time for it"
    if tally.examined:
        return Verdict.UNDECIDED, _VACUOUS.format(tally.main_reason)
    return Verdict.UNDECIDED, _NO_CASE.format(tally.main_reason)


def device_reason(device: str) -> str:
    """Why nothing runs on a device; empty where it does."""
    if not device.startswith("cuda"):
        return ""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    number = device.partition(":")[2]
    if number and int(number) >= torch.cuda.device_count():
        return f"there is no {device}: torch sees {torch.cuda.device_count()} CUDA devices"
    return ""


def _first_accepted(subject: Subject, domain: Domain, dtype: torch.dtype, device: str) -> Primals | None:
    """A point at which the subject runs in this dtype and gives an output in it, or in none of ours."""
    for recipe in trial_recipes(domain):
        primals = realize(domain, recipe, dtype=dtype, device=device)
        try:
            outputs = subject.linearize(primals).outputs
        except SubjectError:
            continue
        floating = [y.dtype for y in outputs if y.is_floating_point()]
        if not floating or dtype in floating or dtype is not torch.float64:
            return primals
    return None


def _is_random(subject: Subject, primals: Primals) -> bool:
    """Whether two calls differ in any bit; dropout does, and gets one seed from then on.

    Of few elements two calls may drop the same ones, so one that draws is called a few times; from one seed, so that
    the answer is the same in every run.
    """
    torch.manual_seed(0)
    state = torch.get_rng_state()
    try:
        first = subject.outputs(primals)
        quiet = torch.equal(state, torch.get_rng_state()) and not any(x.is_cuda for x in primals.leaves)
        calls = 1 if quiet else _RANDOM_CALLS
        return any(_differ(first, subject.outputs(primals)) for _ in range(calls))
    except (SubjectError, UsageError):
        return False


def _differ(first: Tensors, second: Tensors) -> bool:
    return any(a.shape != b.shape or not torch.equal(_bits(a), _bits(b)) for a, b in zip(first, second, strict=True))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """NaN equals NaN here."""
    return torch.nan_to_num(torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor)


def with_findings(report: Report, change: dict[int, Finding]) -> Report:
    """The report with some findings (by ``id``) replaced."""
    results = tuple(replace(r, findings=tuple(change.get(id(f), f) for f in r.findings)) for r in report.results)
    return replace(report, results=results)
