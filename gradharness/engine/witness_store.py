"""Where failing cases are kept: ``.gradharness/witnesses/<id>.safetensors``, one file for each.

A safetensors file is tensors and a header of plain text; the header's text has the entry as JSON, and a digest of
everything. One file is one ``os.replace``: it is the old one or the whole new one, whenever the process is killed, and
processes that write at once do not meet. What is read was perhaps written by somebody else: nothing in it is executed,
sizes are looked at before anything is allocated, and a file that is not in order is refused, named, and left alone.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gradharness.engine.kept import KeptStatus, KeptWitness
from gradharness.engine.witness_file import MAX_FILE, SUFFIX, packed, read_file
from gradharness.errors import StoreError, UnknownNameError, UsageError

FOLDER = "witnesses"
_LEFT = ".tmp"  # what a killed process leaves behind ends so


@dataclass(frozen=True, slots=True)
class Stored:
    """What a folder holds.

    Attributes:
        witnesses: All that could be read, those that failed last first.
        refused: Why the others could not.
    """

    witnesses: tuple[KeptWitness, ...] = ()
    refused: tuple[StoreError, ...] = ()


@dataclass(frozen=True, slots=True)
class WitnessStore:
    """The kept witnesses of one folder. Nothing is made before there is something to keep.

    Attributes:
        folder: Such as ``.gradharness``.
    """

    folder: Path

    @property
    def place(self) -> Path:
        """Where the files are."""
        return self.folder / FOLDER

    def path(self, id: str) -> Path:
        """The file of an id."""
        return self.place / f"{id}{SUFFIX}"

    def read(self) -> Stored:
        """Everything there is. A file that is refused does not hide the others."""
        found: list[KeptWitness] = []
        refused: list[StoreError] = []
        try:
            for path in self._files():
                try:
                    found.append(read_file(path))
                except FileNotFoundError:  # another process has deleted it
                    continue
                except StoreError as error:
                    refused.append(error)
        except StoreError as error:
            refused.append(error)
        found.sort(key=lambda w: (w.entry.last_seen, w.id), reverse=True)
        return Stored(tuple(found), tuple(refused))

    def write(self, witness: KeptWitness) -> None:
        """Keeps a witness, in place of the one of its id; it is on the disk when this returns.

        Raises:
            StoreError: If it cannot be written.
        """
        content = packed(witness)
        if len(content) > MAX_FILE:
            raise StoreError(f"{witness.id}: the case takes {len(content)} bytes, more than {MAX_FILE}: it is not kept")
        try:
            self._make()
            handle, name = tempfile.mkstemp(prefix=f".{witness.id}.", suffix=_LEFT, dir=self.place)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(name, 0o644)
                os.replace(name, self.path(witness.id))
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path(witness.id)}: {error.strerror}; {_remedy(error)}, or give another store"
            ) from error

    def mark(self, witness: KeptWitness, status: KeptStatus, seen: str = "") -> None:
        """Notes what came of a witness.

        Args:
            witness: As it was read.
            status: What came of it.
            seen: When it failed, if it did; empty to leave that as it is.
        """
        entry = msgspec.structs.replace(witness.entry, status=status, last_seen=seen or witness.entry.last_seen)
        if entry != witness.entry:
            self.write(KeptWitness(entry, witness.tensors))

    def delete(self, id: str) -> None:
        """Forgets a witness."""
        try:
            self.path(id).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {self.path(id)}: {error.strerror}; delete it yourself") from error

    def _make(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        if not (ignore := self.folder / ".gitignore").exists():
            ignore.write_text("*\n", encoding="utf-8")

    def _files(self) -> Iterator[Path]:
        """All files that should be witnesses; leftovers of killed processes are none."""
        try:
            if self.place.is_symlink():
                raise StoreError(f"{self.place} is a link: make it a folder, or give another store")
            names = sorted(os.listdir(self.place))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot read {self.place}: {error.strerror}; give another store") from error
        yield from (self.place / name for name in names if not (name.startswith(".") and name.endswith(_LEFT)))


def _remedy(error: OSError) -> str:
    return "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make its folder one to write in"


def chosen(stored: Stored, wanted: str) -> KeptWitness:
    """The witness of an id, or of the beginning of one.

    Raises:
        UsageError: If there is none, or several have this beginning.
    """
    found = [w for w in stored.witnesses if w.id.startswith(wanted)] if wanted else []
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{wanted} is the beginning of {', '.join(sorted(w.id for w in found))}: give more of it")
    raise UnknownNameError("witness", wanted, [w.id for w in stored.witnesses] or ["none is kept"])
