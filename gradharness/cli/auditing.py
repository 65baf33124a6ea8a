"""One ``gradharness audit``: what a package's source defines, beside what its gradient tests reach."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gradharness.audit.coverage import Audit, Standing, Tried, audited, noted
from gradharness.audit.definitions import Listing
from gradharness.audit.files import Sources, find_sources
from gradharness.audit.listing import list_definitions
from gradharness.cli.configured import configured
from gradharness.cli.loading import load_file, load_module
from gradharness.cli.session import ExitStatus
from gradharness.cli.targets import Found, Target, resolve
from gradharness.config import Config
from gradharness.engine.reaching import reach
from gradharness.errors import GradharnessError, LoadError, UsageError, first_line
from gradharness.report.audit import AuditReporter
from gradharness.report.terminal import console
from gradharness.subjects.backwards import living_functions

TESTS = "tests"  # the folder that is looked at where nothing else is said


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What was asked for on the command line.

    Attributes:
        tests: Targets with gradient tests; empty for those of the configuration, or the usual places.
        fail_under: Least percentage; None for that of the configuration, or no limit.
        json_path: Where to write a record; None for nowhere.
        no_color: Whether text is plain.
    """

    tests: tuple[str, ...] = ()
    fail_under: float | None = None
    json_path: str | None = None
    no_color: bool = False


@dataclass(slots=True)
class Auditing:
    """What one command does.

    Attributes:
        options: What was asked for.
        errors: What could not run, in one line each.
    """

    options: AuditOptions
    errors: list[tuple[str, BaseException]] = field(default_factory=list)

    def run(self, package: str) -> ExitStatus:
        """The exit status.

        Raises:
            UsageError: There is no such package.
        """
        config = configured(None)
        sources = find_sources(package)
        reporter = AuditReporter(console(color=False if self.options.no_color else None))
        listing = list_definitions(package, sources, exempt=config.audit.exempt, config=_name(config))
        with _on_path(sources.root):
            tests = tuple(self._tried(target, reporter) for target in self._targets(config))
            audit = audited(listing, tests)
            reasons = _imported(audit, sources)
            audit = noted(audited(listing, tests, living_functions()), reasons)
        limit = self.options.fail_under if self.options.fail_under is not None else config.fail_under
        reporter.report(audit, limit)
        if self.options.json_path is not None:
            from gradharness.report import audit_record

            audit_record.dump(audit, limit, self.options.json_path)
        self._complain(listing)
        return self._status(audit, limit)

    def _targets(self, config: Config) -> tuple[Target, ...]:
        """The gradient tests; where nobody says where they are, there may be none."""
        texts = self.options.tests or config.targets
        found = resolve(texts) if texts else _usual()
        self.errors += [(first_line(error, 1000), error) for error in found.errors]
        return found.targets

    def _tried(self, target: Target, reporter: AuditReporter) -> Tried:
        with reporter.trying(target.address):
            try:
                reached = reach(target.test.question(), target.test.items())
            except GradharnessError as error:
                return Tried(address=target.address, failed=first_line(error))
            except Exception as error:
                line = f"{target.address}: internal error, {type(error).__name__}: {first_line(error)}; -v shows where"
                self.errors.append((line, error))
                return Tried(address=target.address, failed=f"internal error, {type(error).__name__}")
        return Tried(address=target.address, reached=reached)

    def _complain(self, listing: Listing) -> None:
        lines = [f"cannot read {reading.path}: {reading.reason}" for reading in listing.unread]
        self.errors += [(line, UsageError(line)) for line in (*lines, *listing.mistakes)]

    def _status(self, audit: Audit, limit: float | None) -> ExitStatus:
        if limit is not None and audit.percentage < limit:
            return ExitStatus.WRONG
        return ExitStatus.ERROR if self.errors else ExitStatus.RIGHT


def _usual() -> Found:
    """The folder of tests, or else all that is here."""
    text = TESTS if Path(TESTS).is_dir() else "."
    found = resolve((text,))
    # That there is no gradient test yet is what an audit is there to say.
    return Found((), ()) if not found.targets and _only_empty(found) else found


def _only_empty(found: Found) -> bool:
    return all("has no Python file that mentions" in str(error) for error in found.errors)


def _imported(audit: Audit, sources: Sources) -> dict[Path, str]:
    """Imports files with uncovered definitions that no test has imported; why some do not import."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    loaded = {Path(file).resolve() for file in files if file}
    wanted = {e.definition.path for e in audit.entries if e.standing is Standing.UNCOVERED} - loaded
    reasons = {}
    for file in sources.files:
        if file.path in wanted:
            try:
                _import(file.module, file.path, sources.root)
            except LoadError as error:
                reasons[file.path] = first_line(error)
    return reasons


def _import(module: str, path: Path, root: Path) -> None:
    packaged = path.parent != root
    if packaged and all(part.isidentifier() for part in module.split(".")):
        load_module(module)
    else:
        load_file(path)


@contextmanager
def _on_path(root: Path) -> Iterator[None]:
    """The tests of a package that is not installed find it."""
    entry = str(root)
    sys.path.append(entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _name(config: Config) -> str:
    return "" if config.path is None else config.path.name
