"""``gradharness replay``: looks at what was kept again; and where ``gradharness check`` keeps it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gradharness import __version__
from gradharness.cli.configured import configured
from gradharness.cli.session import ExitStatus
from gradharness.cli.targets import Target, resolve
from gradharness.config import Config
from gradharness.engine.campaign_store import FILE
from gradharness.engine.findings import FindingStatus
from gradharness.engine.keeping import DEFAULT, Keeping, options_for, root_of, versions
from gradharness.engine.kept import KeptStatus, KeptWitness
from gradharness.engine.known import Replayed
from gradharness.engine.replaying import Replay
from gradharness.engine.witness_store import WitnessStore, chosen
from gradharness.errors import GradharnessError, StoreError, UsageError, first_line
from gradharness.report import replays
from gradharness.report.terminal import TerminalReporter, console

_PATIENCE = 0.5  # seconds that a running campaign is waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What was asked for on the command line.

    Attributes:
        store: Folder of the store; empty for the configured one.
        prune: Whether to forget what is fixed.
        json_path: Where to write a record; None for nowhere.
        verbose: Whether every failing witness is shown in full.
        no_color: Whether text is plain.
    """

    store: str = ""
    prune: bool = False
    json_path: str | None = None
    verbose: bool = False
    no_color: bool = False


@dataclass(slots=True)
class Replaying:
    """What one command does.

    Attributes:
        options: What was asked for.
        errors: What could not be read, in one line each.
    """

    options: ReplayOptions
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    _targets: dict[str, Target | str] = field(default_factory=dict)

    def run(self, ids: tuple[str, ...]) -> ExitStatus:
        """Looks at the witnesses of these ids, or at all; the exit status.

        Raises:
            UsageError: If there is no witness of an id, or the record cannot be written.
        """
        config = configured()
        folder = needed_folder(self.options.store, config)
        store = WitnessStore(folder)
        stored = store.read()
        self._complain(stored.refused)
        wanted = tuple(dict.fromkeys(chosen(stored, id).id for id in ids))
        witnesses = [w for w in stored.witnesses if not wanted or w.id in wanted]
        out = TerminalReporter(console(color=False if self.options.no_color else None), verbose=self.options.verbose)
        seen: list[Replay] = []
        for kept in witnesses:
            seen.append(self._replay(kept, _root(kept.entry.address, folder, root_of(folder, config.root))))
            self._note(store, seen[-1].replayed)
            command = f"gradharness replay {kept.id}{options_for(folder)}"
            shown = replays.block(seen[-1], command) if wanted or self.options.verbose else ""
            out.tell(filter(None, (replays.line(seen[-1].replayed), shown)), end="")
        found = [one.replayed for one in seen]
        if any(one.status is KeptStatus.ERRORING for one in found):
            out.tell([f"what cannot run stays kept; delete its file in {store.place} to forget it"], end="")
        told = replays.summary(found, refused=len(stored.refused))
        out.tell([told if witnesses or stored.refused else f"nothing is kept in {folder}"], end="")
        if not wanted:
            out.tell(_campaign(folder), end="")
        if self.options.json_path is not None:
            from gradharness.report import replay_record

            replay_record.dump(seen, stored.refused, self.options.json_path)
        return self._status({one.status for one in found})

    def _replay(self, kept: KeptWitness, root: Path) -> Replay:
        target = self._target(kept.entry.address, root)
        if isinstance(target, str):
            return Replay(Replayed(kept, KeptStatus.ERRORING, target))
        try:
            return target.test.replay(kept)
        except GradharnessError as error:
            return Replay(Replayed(kept, KeptStatus.ERRORING, first_line(error, 1000)))
        except Exception as error:
            line = f"internal error of gradharness, please report it: {type(error).__name__}: {first_line(error)}"
            self.errors.append((f"{kept.id}: {line}", error))
            return Replay(Replayed(kept, KeptStatus.ERRORING, line))

    def _target(self, address: str, root: Path) -> Target | str:
        """The test at an address, or why there is none; a file is imported once."""
        if address not in self._targets:
            path, colons, name = address.partition("::")
            text = f"{_from_here(root / path)}::{name}" if colons else address
            found = resolve((text,))
            reason = first_line(found.errors[0], 1000) if found.errors else "there is no such test"
            self._targets[address] = found.targets[0] if found.targets else reason
        return self._targets[address]

    def _note(self, store: WitnessStore, replayed: Replayed) -> None:
        """What came of it is on the disk before the next one is looked at."""
        try:
            if replayed.status is KeptStatus.FIXED and self.options.prune:
                store.delete(replayed.kept.id)
            else:
                failing = replayed.status is KeptStatus.FAILING
                store.mark(replayed.kept, replayed.status, now() if failing else "")
        except StoreError as error:
            self._complain([error])

    def _complain(self, errors: list[StoreError] | tuple[StoreError, ...]) -> None:
        self.errors += [(first_line(error, 1000), error) for error in errors]

    def _status(self, seen: set[KeptStatus]) -> ExitStatus:
        if KeptStatus.FAILING in seen:
            return ExitStatus.WRONG
        if KeptStatus.ERRORING in seen or self.errors:
            return ExitStatus.ERROR
        return ExitStatus.UNDECIDED if KeptStatus.UNDECIDED in seen else ExitStatus.RIGHT


def keeping(store: str, config: Config) -> Keeping | None:
    """Where a command keeps failures; None where it is not to.

    Args:
        store: A folder; empty for the configured one.
        config: Of the current folder.
    """
    folder = folder_of(store, config)
    if folder is None:
        return None
    return Keeping(WitnessStore(folder), root_of(folder, config.root), now, versions(__version__))


def folder_of(store: str, config: Config) -> Path | None:
    """The folder of a store; None where the configuration says that there is none."""
    if store:
        return Path(store)
    if config.store is False:
        return None
    return Path(config.here(config.store if isinstance(config.store, str) else DEFAULT))


def needed_folder(store: str, config: Config) -> Path:
    """The folder of a store, for a command that does nothing without one.

    Raises:
        UsageError: The configuration says that there is none.
    """
    folder = folder_of(store, config)
    if folder is None:
        raise UsageError("[tool.gradharness] says store = false: give --store FOLDER")
    return folder


def now() -> str:
    """Date and time, as ISO text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _root(address: str, store: Path, root: Path) -> Path:
    """What an address is relative to: seen from above, the folder of the store itself, if the file is there."""
    above = store.resolve().parent
    path, colons, _ = address.partition("::")
    return above if store.name == DEFAULT and colons and (above / path).is_file() else root


def _campaign(folder: Path) -> Iterator[str]:
    """What ``gradharness fuzz`` has found in the same folder, and how to look at it; nothing if there is nothing."""
    path = folder / FILE
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)) as database:
            words = "SELECT count(*) FROM findings WHERE status != ?"
            count = database.execute(words, (FindingStatus.GONE.name,)).fetchone()[0]
    except sqlite3.Error as error:
        yield f"what gradharness fuzz has found cannot be read now ({error})"
        return
    if count:
        noun = "finding stands" if count == 1 else "findings stand"
        yield f"fuzz: {count} {noun}; gradharness fuzz --replay N{options_for(folder)} looks at one again"
