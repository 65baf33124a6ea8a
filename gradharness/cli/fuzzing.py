"""One ``gradharness fuzz``: from targets to sources, from options to a campaign, from findings to an exit status."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gradharness import __version__
from gradharness.cli.configured import give_defaults
from gradharness.cli.replaying import needed_folder
from gradharness.cli.session import ExitStatus
from gradharness.cli.targets import Found, resolve
from gradharness.config import Config
from gradharness.engine.campaign import Bounds, Campaign, Schedule, Source, standing
from gradharness.engine.campaign_sources import CATALOGUE, CheckSource, ProgramSource, replayed
from gradharness.engine.campaign_store import CampaignStore, open_store
from gradharness.engine.findings import CampaignFinding
from gradharness.engine.keeping import options_for
from gradharness.errors import StoreError, UsageError, first_line
from gradharness.inputs.seeds import fresh_seed
from gradharness.programs.catalogue import catalogue
from gradharness.report.campaign import CampaignReporter, test_text
from gradharness.report.terminal import console

SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzOptions:
    """What was asked for on the command line.

    Attributes:
        max_time: Seconds; None for a minute, or for no limit where there is another bound.
        max_programs: Programs of this run.
        max_rounds: Rounds of this run.
        seed: Of the campaign; None for the stored one, or a fresh one.
        store: Folder of the store; empty for the configured one.
        fresh: Whether to begin with an empty store.
        profile: Budget of a check of a test; None for each test's own.
        replay: Number of a stored finding, or a program's literal, to look at in place of a campaign; empty for none.
        json_path: Where to write a record; None for nowhere.
        no_color: Whether text is plain.
    """

    max_time: float | None = None
    max_programs: int | None = None
    max_rounds: int | None = None
    seed: int | None = None
    store: str = ""
    fresh: bool = False
    profile: str | None = None
    replay: str = ""
    json_path: str | None = None
    no_color: bool = False

    @property
    def bounds(self) -> Bounds:
        """When the campaign stops."""
        other = self.max_programs is not None or self.max_rounds is not None
        seconds = self.max_time if self.max_time is not None or other else SECONDS
        return Bounds(seconds=seconds, programs=self.max_programs, rounds=self.max_rounds)


@dataclass(slots=True)
class Fuzzing:
    """What one command does.

    Attributes:
        options: What was asked for.
        config: What gradient tests take from the project where their decorators leave it open.
        errors: What could not run, in one line each.
    """

    options: FuzzOptions
    config: Config = field(default_factory=Config)
    errors: list[tuple[str, BaseException]] = field(default_factory=list)

    def run(self, texts: tuple[str, ...]) -> ExitStatus:
        """The exit status.

        Raises:
            UsageError: If nothing could be begun.
        """
        sources = self._sources(texts)
        if not sources:
            return ExitStatus.ERROR
        ops = {op.name for s in sources if isinstance(s, ProgramSource) for op in s.ops.ops}
        reporter = CampaignReporter(console(color=False if self.options.no_color else None), ops=len(ops))
        if self.options.replay and not self.options.replay.strip().isdecimal():
            return self._literal(sources, reporter)
        store = open_store(self._folder(), fresh=self.options.fresh and not self.options.replay)
        try:
            if store.set_aside is not None:
                path, count = store.set_aside
                line = f"{store.path} was damaged: it is now {path}, and {count} of its findings were read from it"
                self.errors.append((line, StoreError(line)))
            if self.options.replay:
                return self._number(int(self.options.replay), store, sources, reporter)
            return self._campaign(store, sources, reporter)
        finally:
            store.close()

    def _sources(self, texts: tuple[str, ...]) -> tuple[Source, ...]:
        """The catalogue and what the texts lead to; none where they all lead nowhere."""
        found = resolve(texts, rules=True)
        give_defaults(found.targets, self.config, {"profile": self.options.profile})
        self.errors += [(first_line(error, 1000), error) for error in found.errors]
        if texts and not (found.targets or found.rules):
            return ()
        return (ProgramSource(CATALOGUE, catalogue()), *self._named(found))

    def _named(self, found: Found) -> tuple[Source, ...]:
        """Each under one name for one file, wherever in the project it runs, so that a finding is known again."""
        root = (self.config.root or Path.cwd()).resolve()
        rules = [ProgramSource(_short(r.address, root), r.rule.ops) for r in found.rules]
        tests = [CheckSource(_short(t.address, root), t.test, test_text, self.options.profile) for t in found.targets]
        return (*rules, *tests)

    # --- a campaign ------------------------------------------------------------------------------------------------

    def _campaign(self, store: CampaignStore, sources: tuple[Source, ...], reporter: CampaignReporter) -> ExitStatus:
        stored = store.seed()
        seed = self.options.seed if self.options.seed is not None else fresh_seed() if stored is None else stored
        store.choose(seed)
        campaign = Campaign(Schedule(seed, sources, __version__), store, reporter)
        interrupted = False
        try:
            with reporter:
                campaign.run(self.options.bounds)
        except KeyboardInterrupt:
            interrupted = True
        except StoreError as error:
            self.errors.append((first_line(error, 1000), error))
        self.errors += reporter.failed
        names = {source.name for source in sources}
        found = standing(store.findings(), names)
        gone = sum(not f.status.stands for f in store.findings() if f.source in names)
        reporter.summary(found, seed, options=self._options(), gone=gone)
        if self.options.json_path is not None:
            from gradharness.report import campaign_record

            campaign_record.dump(store.findings(), campaign.progress, seed, self.options.json_path)
        if interrupted:
            return ExitStatus.INTERRUPTED
        return self._status(found)

    def _status(self, found: Iterable[object]) -> ExitStatus:
        if any(True for _ in found):
            return ExitStatus.WRONG
        return ExitStatus.ERROR if self.errors else ExitStatus.RIGHT

    def _folder(self) -> Path:
        return needed_folder(self.options.store, self.config)

    def _options(self) -> str:
        return options_for(self._folder()) if self.options.store else ""

    # --- one case again --------------------------------------------------------------------------------------------

    def _number(
        self, number: int, store: CampaignStore, sources: tuple[Source, ...], reporter: CampaignReporter
    ) -> ExitStatus:
        """A stored finding; its source is looked up where no target names it."""
        finding = next((f for f in store.findings() if f.number == number), None)
        if finding is None:
            known = ", ".join(str(f.number) for f in store.findings()) or "none"
            raise UsageError(f"--replay {number}: {store.path} has no finding of this number; it has: {known}")
        source = next((s for s in sources if s.name == finding.source), None) or self._looked_up(finding)
        with reporter:
            campaign = Campaign(Schedule(0, (source,)), store, reporter)
            campaign.reexamine(finding, source)
        now = next(f for f in store.findings() if f.number == number)
        if now.status.stands:
            reporter.finding(now, options=self._options())
        return self._status([now] if now.status.stands else [])

    def _looked_up(self, finding: CampaignFinding) -> Source:
        path, colons, name = finding.source.partition("::")
        here = os.path.relpath((self.config.root or Path.cwd()) / path)
        found = resolve((f"{here}::{name}" if colons else finding.source,), rules=True)
        for source in self._named(found):
            if source.name == finding.source:
                return source
        error = found.errors[0] if found.errors else LookupError(finding.source)
        raise UsageError(f"#{finding.number} cannot be looked at: {first_line(error, 1000)}")

    def _literal(self, sources: tuple[Source, ...], reporter: CampaignReporter) -> ExitStatus:
        programs = [s for s in sources if isinstance(s, ProgramSource)]
        seen, able = replayed(programs, self.options.replay)
        for sighting in seen:
            reporter.told(f"\n{sighting.source}", sighting.text)
        if not seen:
            reporter.told(f"nothing is wrong in this program, with the VJPs of {', '.join(able)}", "")
        return self._status(seen)


def _short(address: str, root: Path) -> str:
    path, colons, name = address.partition("::")
    if not colons:
        return address
    whole = Path(path).resolve()
    return f"{whole.relative_to(root) if whole.is_relative_to(root) else whole}::{name}"
