"""The baseline on the disk: read whole, written whole, and changed by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gradharness.baseline.form import MAX_BYTES, parse, render
from gradharness.baseline.model import Baseline
from gradharness.errors import BaselineError

FILE = "gradharness-baseline.toml"
LOCKS = ".gradharness"  # the folder that holds what belongs to no repository
PATIENCE = 30.0  # seconds; a change takes milliseconds


def load(path: Path) -> Baseline:
    """The baseline of a file.

    Raises:
        BaselineError: It is missing, cannot be read, or is not in order.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BaselineError(f"there is no baseline {path}: write it with `gradharness baseline record`") from error
    except OSError as error:
        raise BaselineError(f"cannot read {path}: {error.strerror}; give a baseline file") from error
    return parse(content, str(path))


def update(path: Path, change: Callable[[Baseline], Baseline]) -> Baseline:
    """Changes the file, or makes it. Processes that do so at once wait for each other, and none loses anything.

    Killed at any moment it leaves the old file or the new one. A lock ends with its process, however that ends.

    Args:
        path: The file.
        change: From what it holds by now to what it is to hold.

    Raises:
        BaselineError: The file is not in order, or cannot be written.
    """
    if not path.parent.is_dir():
        raise BaselineError(f"cannot write {path}: the folder does not exist; make it first")
    with _locked(path):
        before = load(path) if path.exists() else Baseline()
        after = change(before)
        text = render(after)
        parse(text.encode(), str(path))  # what is written can be read
        try:
            _replace(path, text.encode())
        except OSError as error:
            raise BaselineError(f"cannot write {path}: {error.strerror}; give a file in another folder") from error
    return after


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    folder = path.parent / LOCKS
    try:
        folder.mkdir(exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        with FileLock(folder / f"{path.name}.lock", timeout=PATIENCE):
            yield
    except Timeout as error:
        raise BaselineError(f"{path} is being written by another process for {PATIENCE:.0f} s: try again") from error
    except OSError as error:
        raise BaselineError(f"cannot lock {path} in {folder}: {error.strerror}; make that folder writable") from error


def _replace(target: Path, content: bytes) -> None:
    """One ``os.replace``. The lock is held, so that one name does for what is not whole yet. A link stays a link."""
    target, folder = target.resolve(), target.parent / LOCKS
    if os.stat(folder).st_dev != os.stat(target.parent).st_dev:  # linked to another disk, to which nothing is renamed
        folder = target.parent
    part = folder / f".{target.name}.part"
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, target)
