"""One ``gradharness baseline`` command: run every check alone, and compare, record or show what comes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.text import Text

from gradharness import __version__
from gradharness.baseline import telling
from gradharness.baseline.comparing import Comparison, Kind, Remark, vanished
from gradharness.baseline.figures import limits
from gradharness.baseline.measuring import measured, merged, run_settings
from gradharness.baseline.model import FAIL, Baseline, Entry, Key, Known, Measured
from gradharness.baseline.scope import Scope, subject_of
from gradharness.baseline.storage import FILE, load, update
from gradharness.baseline.table import tables
from gradharness.cli.configured import configured, give_defaults
from gradharness.cli.loading import load_file
from gradharness.cli.session import ExitStatus, Options
from gradharness.cli.targets import Target, is_gradient_test, resolve
from gradharness.config import Config
from gradharness.errors import GradharnessError, UsageError, first_line
from gradharness.model.verdict import Report
from gradharness.report.terminal import TerminalReporter, console


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What stands on the command line.

    Attributes:
        targets: As of ``gradharness check``; empty for what the configuration and the baseline name.
        file: The baseline; None for the configured one.
        checks: Only these; empty for all.
        devices: In place of each test's own.
        dtypes: In place of each test's own.
        profile: Budget; None for the recorded one.
        seed: Of the draws; None for the recorded one.
        verbose: Whether whole reports are printed.
        no_color: Whether text is plain.
    """

    targets: tuple[str, ...] = ()
    file: str | None = None
    checks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    profile: str | None = None
    seed: int | None = None
    verbose: bool = False
    no_color: bool = False

    @property
    def options(self) -> Options:
        """The part that narrows a test's items."""
        return Options(checks=self.checks, devices=self.devices, dtypes=self.dtypes)


class Sitting:
    """What one command does.

    Args:
        asked: What stands on the command line.

    Attributes:
        asked: The same.
        errors: What could not run, in one line each.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.errors: list[tuple[str, BaseException]] = []
        self._config: Config = configured(asked.profile)
        self._path = Path(asked.file or self._config.here(self._config.baseline or FILE))
        self._out = console(color=False if asked.no_color else None)
        self._reporter = TerminalReporter(self._out, verbose=asked.verbose)
        self._begun: set[str] = set()
        self._planned: dict[str, set[str]] = {}
        self._reports: dict[Key, tuple[Report, str]] = {}

    # --- the commands ------------------------------------------------------------------------------------------------

    def compare(self, *, fail_on: tuple[str, ...], strict: bool) -> ExitStatus:
        """Runs what the baseline names, and tells what has become worse."""
        allowed = limits(fail_on or self._config.fail_on or ())
        baseline = load(self._path)
        scope = self._scope(baseline)
        comparison = Comparison()
        for found in self._measured(scope, baseline):
            remarks = [r for one in found for r in comparison.add(one, baseline, allowed) if r.kind is Kind.REGRESSION]
            self._show(found, {r.place for r in remarks})
        comparison.remarks += self._gone(scope, baseline)[0]
        for key in scope.elsewhere(baseline, self._keys()):
            comparison.remarks.append(Remark(Kind.ABSENT, str(key), "this run has nothing on that device and dtype"))
        for line, style in telling.lines(comparison):
            self._print(line, style)
        self._print(f"{self._path}: {telling.totals(comparison)}", "bold")
        if comparison.failed(strict=strict):
            return ExitStatus.WRONG
        return ExitStatus.ERROR if self.errors else ExitStatus.RIGHT

    def record(self, *, known: str | None, link: str) -> ExitStatus:
        """Runs the targets, and writes what comes of it."""
        reason = _checked(known)
        before = load(self._path) if self._path.exists() else Baseline()
        scope = self._scope(before)
        found: list[Measured] = []
        failing: list[Measured] = []
        for of_one_test in self._measured(scope, None):
            wrong = [m for m in of_one_test if m.entry.verdict == FAIL and not _accepted(m, before.known.get(m.key))]
            self._show(of_one_test, {str(one.key) for one in wrong})
            found, failing = [*found, *of_one_test], [*failing, *wrong]
        refused = {m.key.subject for m in failing} if reason is None else set()
        kept = [m for m in found if m.key.subject not in refused]
        accepted = {m.key: _known(m, reason, link) for m in failing} if reason is not None else {}
        if kept or self._gone(scope, before)[1]:
            update(self._path, lambda now: merged(now, kept, self._gone(scope, now)[1], accepted))
        self._tell_recorded(before, kept, scope, accepted)
        for one in failing if reason is None else ():
            self._print(
                f"not recorded: {one.key.subject} fails ({one.key.id}: {one.fault or one.message}); mend it, or accept "
                "it with --known REASON",
                "bold red",
            )
        if refused:
            return ExitStatus.WRONG
        return ExitStatus.ERROR if self.errors else ExitStatus.RIGHT

    def show(self) -> ExitStatus:
        """Prints the baseline."""
        baseline = load(self._path)
        keys = set(baseline.entries)
        if self.asked.targets:
            keys = set(Scope(texts=self.asked.targets, folder=self._path.parent).entries(baseline, ()))
            if not keys:
                raise UsageError(f"{self._path} has nothing of {', '.join(self.asked.targets)}: name a test or a file")
        for table in tables(baseline, keys):
            self._out.print(table, soft_wrap=isinstance(table, Text))
        return ExitStatus.RIGHT

    # --- running -----------------------------------------------------------------------------------------------------

    def _scope(self, baseline: Baseline) -> Scope:
        texts = self.asked.targets
        if not texts:
            folder = self._path.parent
            named = {k.path and str(folder / k.path) for k in baseline.entries} | {
                k.subject for k in baseline.entries if not k.path
            }
            texts = (*self._config.targets, *sorted(filter(None, named)))
        if not texts:
            raise UsageError(
                "no TARGET: name a file, a folder or module:attribute, or set tests = [...] in [tool.gradharness] of "
                "pyproject.toml"
            )
        return Scope(
            texts=texts,
            folder=self._path.parent,
            checks=self.asked.checks,
            devices=self.asked.devices,
            dtypes=self.asked.dtypes,
        )

    def _measured(self, scope: Scope, baseline: Baseline | None) -> Iterator[list[Measured]]:
        """What comes of every check, target by target; profile and seed are those of the baseline, if there is one."""
        options = self.asked.options
        options.validate()
        # A file that is gone is told as such, and not as a target that leads nowhere.
        found = resolve(tuple(t for t in scope.texts if t in self.asked.targets or _exists(t)))
        self.errors += [(first_line(error, 1000), error) for error in found.errors]
        give_defaults(found.targets, self._config, {})
        for target in found.targets:
            yield list(self._of_target(target, options, baseline))

    def _of_target(self, target: Target, options: Options, baseline: Baseline | None) -> Iterator[Measured]:
        subject = subject_of(target.address, self._path.parent)
        self._begun.add(subject)
        try:
            planned = target.test.items()
            items = options.items(planned)
            self._planned[subject] = {item.id for item in (*planned, *items)}
            self._reporter.expect(items)
            self._reporter.subject = target.test.name
            said = {**target.test.defaults, **{k: v for k, v in target.test.options.items() if v is not None}}
            for item in items:
                key = Key.of(subject, item.id)
                entry: Entry | None = baseline.entries.get(key) if baseline is not None else None
                profile, seed = run_settings(said, entry, profile=self.asked.profile, seed=self.asked.seed)
                with self._reporter:
                    report = target.test.run((item,), emit=self._reporter, seed=seed, profile=profile)
                self._reports[key] = report, target.address
                yield measured(key, report, version=__version__, strict=bool(said.get("strict")))
        except GradharnessError as error:
            self.errors.append((f"{target.address}: {first_line(error, 1000)}", error))

    def _keys(self) -> tuple[Key, ...]:
        return tuple(Key.of(subject, id) for subject, ids in self._planned.items() for id in ids)

    def _gone(self, scope: Scope, baseline: Baseline) -> tuple[list[Remark], set[Key]]:
        """What the targets no longer have, told and as keys. A file that does not import is not known to lack it."""
        inside = scope.entries(baseline, self._keys())
        sure = [k for k in inside if k.subject in self._planned or (k.subject not in self._begun and self._lacks(k))]
        remarks = list(vanished(baseline, sure, self._planned))
        return remarks, {k for k in sure if k.id not in self._planned.get(k.subject, ())}

    def _lacks(self, key: Key) -> bool:
        """Whether a test that did not run is not there."""
        path = self._path.parent / key.path
        if not key.path or not path.exists():
            return bool(key.path)
        try:
            module = load_file(path)
        except UsageError as error:
            if not any(isinstance(e, type(error)) and str(e) == str(error) for _, e in self.errors):
                self.errors.append((first_line(error, 1000), error))
            return False
        return not is_gradient_test(vars(module).get(key.subject.partition("::")[2]))

    # --- telling -----------------------------------------------------------------------------------------------------

    def _show(self, found: Sequence[Measured], wrong: Collection[str]) -> None:
        """One report of the checks of a test that fail and should not, or of all if everything was asked for."""
        chosen = [m.key for m in found if self.asked.verbose or (str(m.key) in wrong and m.entry.verdict == FAIL)]
        if not chosen:
            return
        report, address = self._reports[chosen[0]]
        reports = [self._reports[key][0] for key in chosen]
        results = tuple(result for one in reports for result in one.results)
        whole = replace(report, results=results, seconds=sum(one.seconds for one in reports))
        self._reporter.report(whole, target=address)

    def _tell_recorded(
        self, before: Baseline, kept: Iterable[Measured], scope: Scope, accepted: dict[Key, Known]
    ) -> None:
        kept = tuple(kept)
        for remark in self._gone(scope, before)[0]:
            self._print(f"dropped: {remark.place}: {remark.says}", "bold yellow")
        for one in kept:
            if one.key in before.known and one.entry.verdict != FAIL:
                known = f"the known failure of {one.key} ({before.known[one.key].reason})"
                self._print(f"dropped: {known}: it is {one.entry.verdict} now", "bold yellow")
            if one.entry.verdict == "undecided":
                self._print(f"recorded as undecided, which is no pass: {one.key}: {one.message}", "bold yellow")
            if one.no_device:
                self._print(f"kept as it is: {one.key}: {one.message}", "bold yellow")
        for key, failure in accepted.items():
            self._print(f"recorded as a known failure: {key}: {failure.fault_text}: {failure.reason}", "bold yellow")
        subjects = {one.key.subject for one in kept}
        told = f"{telling.counted(len(kept), 'check')} of {telling.counted(len(subjects), 'test')} recorded"
        self._print(f"{self._path}: {told}", "bold")

    def _print(self, line: str, style: str) -> None:
        self._out.print(Text(line, style=style), soft_wrap=True)


def _checked(reason: str | None) -> str | None:
    if reason is not None and not (reason.strip() and reason.isprintable()):
        raise UsageError(f"--known {reason!r}: give a reason, in one line of text")
    return reason.strip() if reason is not None else None


def _accepted(one: Measured, known: Known | None) -> bool:
    """Whether a failure is the one that is known already."""
    return known is not None and one.fault == known.fault and known.label in ("", one.label)


def _known(one: Measured, reason: str, link: str) -> Known:
    return Known(key=one.key, fault=one.fault or "unknown", label=one.label, reason=reason, link=link)


def _exists(text: str) -> bool:
    path, colons, _ = text.partition("::")
    return bool(":" in text and not colons) or Path(path).exists()
