"""Where a campaign keeps what it has found and how far it is.

It is one SQLite database, of the standard library. What it gives that a file of lines would not: a commit is whole or
not there at all, whenever the process is killed; with ``synchronous=FULL`` it has reached the disk once it returns, so
that a power cut loses nothing either; a file that was damaged says so. The write-ahead log makes a commit one write at
the end of a file. The lock is exclusive for as long as the campaign runs, and goes with its process, so that two
campaigns cannot disagree about the position; holding it, SQLite needs no shared memory, and works on network drives.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from gradharness.engine.findings import CampaignFinding, FindingStatus, Progress, Sighting
from gradharness.errors import StoreError

FILE = "campaign.sqlite"
_FORMAT = 1
_APPLICATION = 0x67726164  # "grad": tells our databases from others
_PATIENCE = 0.5  # seconds that another process is waited for
_SIDE_FILES = ("-wal", "-shm", "-journal")
_TABLES = """
CREATE TABLE findings (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, source TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL, replay TEXT NOT NULL, round INTEGER NOT NULL, status TEXT NOT NULL
);
CREATE TABLE positions (campaign TEXT PRIMARY KEY, progress TEXT NOT NULL);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_COLUMNS = "number, key, source, title, text, replay, round, status"
_SEED, _ENTERED = "seed", "entered"


@dataclass(slots=True)
class CampaignStore:
    """The store of one folder; this process alone has it open.

    Attributes:
        path: The database.
        set_aside: Where a damaged database was moved to, and how many findings were read from it; None if it is sound.
    """

    path: Path
    set_aside: tuple[Path, int] | None = None
    _connection: sqlite3.Connection = field(init=False, repr=False)
    _findings: dict[str, CampaignFinding] = field(default_factory=dict, repr=False)

    def findings(self) -> tuple[CampaignFinding, ...]:
        """All that was ever found, the oldest first."""
        return tuple(self._findings.values())

    def keep(self, sighting: Sighting, index: int) -> tuple[CampaignFinding, bool]:
        """Stores what was seen; it is on the disk when this returns.

        Args:
            sighting: What was seen.
            index: Of the round.

        Returns:
            The finding, and whether it is news: nobody knew it, or it was gone.
        """
        known = self._findings.get(sighting.key)
        if known is not None and known.status.stands:
            return known, False
        made = CampaignFinding(
            **asdict(sighting),
            number=known.number if known else 1 + max((f.number for f in self.findings()), default=0),
            round=known.round if known else index,
            status=FindingStatus.RECURS if known else FindingStatus.NEW,
        )
        self._write(made)
        return made, True

    def mark(self, finding: CampaignFinding) -> None:
        """Stores what became of a finding."""
        if self._findings.get(finding.key) != finding:
            self._write(finding)

    def progress(self, campaign: str) -> Progress | None:
        """How far a campaign is; None if it has not begun.

        Args:
            campaign: Identity of its schedule.
        """
        with self._told():
            row = self._connection.execute("SELECT progress FROM positions WHERE campaign = ?", (campaign,)).fetchone()
        return None if row is None else _progress(row[0])

    def positions(self) -> int:
        """How many campaigns have begun."""
        with self._told():
            return int(self._connection.execute("SELECT count(*) FROM positions").fetchone()[0])

    def save(self, campaign: str, progress: Progress) -> None:
        """Stores how far a campaign is."""
        with self._told(), self._connection:
            self._put(campaign, progress)
            self._connection.execute("DELETE FROM settings WHERE name = ?", (_ENTERED,))

    def enter(self, campaign: str, progress: Progress) -> int:
        """Stores how far a campaign is, and that its next round begins, in which the process may end.

        Returns:
            How many times the round has been begun, with nothing saved since.
        """
        place = f"{campaign} {progress.rounds} "
        with self._told(), self._connection:
            self._put(campaign, progress)
            row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (_ENTERED,)).fetchone()
            times = 1 + (int(row[0].removeprefix(place)) if row is not None and row[0].startswith(place) else 0)
            self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (_ENTERED, f"{place}{times}"))
        return times

    def _put(self, campaign: str, progress: Progress) -> None:
        text = json.dumps({**asdict(progress), "ops": sorted(progress.ops)})
        self._connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (campaign, text))

    def seed(self) -> int | None:
        """The seed of the last campaign; None if there was none."""
        with self._told():
            row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (_SEED,)).fetchone()
        return None if row is None else int(row[0])

    def choose(self, seed: int) -> None:
        """Stores the seed that the next campaign goes on with."""
        with self._told(), self._connection:
            self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (_SEED, str(seed)))

    def close(self) -> None:
        """Lets another process have it."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def _write(self, finding: CampaignFinding) -> None:
        self._findings[finding.key] = finding  # first, so that it is shown even if the disk is full
        with self._told(), self._connection:
            self._connection.execute(
                f"INSERT OR REPLACE INTO findings ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(finding)
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"cannot read or write {self.path}: {error}; free some space, or give --store") from error


def open_store(folder: Path, *, fresh: bool = False) -> CampaignStore:
    """Opens a folder's store, and makes it where there is none.

    A damaged database is moved aside, and what can still be read of its findings goes to the new one.

    Args:
        folder: Made if it does not exist.
        fresh: Whether to move a sound database aside as well, and to begin with nothing.

    Raises:
        StoreError: If the folder cannot be used, another campaign is using it, or the database is not of this format.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (ignore := folder / ".gitignore").exists():
            ignore.write_text("*\n", encoding="utf-8")  # as other tools' caches do: it is nobody else's business
    except OSError as error:
        raise StoreError(f"cannot use {folder} as a store: {error.strerror}; give --store a folder") from error
    path = folder / FILE
    if not fresh:
        try:
            return _opened(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StoreError(f"cannot open {path}: {error}; give --store a folder that can be written") from error
    elif path.exists():
        with suppress(sqlite3.DatabaseError):
            _opened(path).close()  # refuses if another campaign has it; takes in what the log still holds
    if not path.exists():
        return _opened(path)
    moved = _aside(path)
    store = _opened(path)
    if not fresh:
        rescued = _rescued(moved)
        for finding in rescued:
            store.mark(finding)
        store.set_aside = moved, len(rescued)
    return store


def _opened(path: Path) -> CampaignStore:
    """The store, made where there is none. Raises what SQLite does where the database is damaged."""
    store = CampaignStore(path)
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    store._connection = connection
    try:
        _locked(connection, path)
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_FORMAT}; COMMIT;"
            )
        _insist_on_format(connection, path)
        if (trouble := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(trouble)
        rows = connection.execute(f"SELECT {_COLUMNS} FROM findings ORDER BY number")
        store._findings = {f.key: f for f in map(_finding, rows)}
    except BaseException:
        connection.close()
        raise
    return store


def _locked(connection: sqlite3.Connection, path: Path) -> None:
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(
                f"{path} is in use by another campaign: wait for it, or give this one a --store of its own"
            ) from error
        raise


def _insist_on_format(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise StoreError(f"{path} is a database of another program: give --store another folder")
    if version > _FORMAT:
        raise StoreError(
            f"{path} has format {version}, this gradharness reads up to {_FORMAT}: update it, or give another --store"
        )


def _aside(path: Path) -> Path:
    """Moves a database, with what belongs to it, to a name that is free."""
    number = 1
    while (target := path.with_name(f"{path.stem}-old-{number}{path.suffix}")).exists():
        number += 1
    for end in ("", *_SIDE_FILES):
        if (source := path.with_name(path.name + end)).exists():
            source.replace(target.with_name(target.name + end))
    return target


def _rescued(path: Path) -> tuple[CampaignFinding, ...]:
    """The findings that can be read from a damaged database."""
    found: list[CampaignFinding] = []
    with tempfile.TemporaryDirectory() as folder, suppress(sqlite3.Error, OSError):  # what was read is what there is
        for end in ("", "-wal"):  # the log holds what was written last; a copy is read, since reading takes it in
            if (source := path.with_name(path.name + end)).exists():
                shutil.copyfile(source, Path(folder, FILE + end))
        with closing(sqlite3.connect(Path(folder, FILE))) as connection:
            for row in connection.execute(f"SELECT {_COLUMNS} FROM findings"):
                found.append(_finding(row))
    return tuple({f.key: replace(f, number=n + 1) for n, f in enumerate(found)}.values())


def _row(finding: CampaignFinding) -> tuple[object, ...]:
    return (*(getattr(finding, name) for name in _COLUMNS.split(", ")[:-1]), finding.status.name)


def _finding(row: tuple[object, ...]) -> CampaignFinding:
    number, key, source, title, text, replay, index, status = row
    if not isinstance(number, int) or not isinstance(index, int) or str(status) not in FindingStatus.__members__:
        raise sqlite3.DatabaseError(f"finding {number!r} has round {index!r} and status {status!r}")
    return CampaignFinding(
        number=number,
        key=str(key),
        source=str(source),
        title=str(title),
        text=str(text),
        replay=str(replay),
        round=index,
        status=FindingStatus[str(status)],
    )


def _progress(text: str) -> Progress | None:
    """None for what no version has written: the campaign then begins anew, and loses no finding."""
    try:
        data = json.loads(text)
        return Progress(**{**data, "ops": frozenset(data["ops"])})
    except (ValueError, TypeError, KeyError):
        return None
