"""Which tests a run was asked for: names of tests as seen from the baseline's folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gradharness.baseline.model import Baseline, Key


def subject_of(address: str, folder: Path) -> str:
    """The name of a test in a baseline.

    Args:
        address: ``path::name``, the path as seen from the current folder, or ``module:attribute``.
        folder: Of the baseline.
    """
    path, colons, name = address.partition("::")
    return f"{relative(path, folder)}::{name}" if colons else address


def relative(path: str | Path, folder: Path) -> str:
    """A path as the baseline has it, with slashes everywhere."""
    return Path(os.path.relpath(path, folder)).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a run was asked for.

    Attributes:
        texts: Files, folders, ``path::name`` and ``module:attribute``, as seen from the current folder.
        folder: Of the baseline.
        checks: Names of checks; empty for all.
        devices: Empty for all.
        dtypes: Empty for all.
    """

    texts: tuple[str, ...]
    folder: Path
    checks: Collection[str] = ()
    devices: Collection[str] = ()
    dtypes: Collection[str] = ()

    def entries(self, baseline: Baseline, planned: Iterable[Key]) -> Iterator[Key]:
        """The entries that the run would have seen, were they still there.

        Args:
            baseline: With the entries.
            planned: All that the tests have. A device or dtype of which a test has nothing at all is another run's.
        """
        kinds: dict[str, set[tuple[str, str]]] = {}
        for key in planned:
            kinds.setdefault(key.subject, set()).add((key.device, key.dtype))
        for key in {**baseline.entries, **baseline.known}:
            asked = (not self.checks or key.check in self.checks) and (not self.devices or key.device in self.devices)
            if not (asked and (not self.dtypes or key.dtype in self.dtypes) and self._names(key)):
                continue
            if key.subject not in kinds or (key.device, key.dtype) in kinds[key.subject]:
                yield key

    def elsewhere(self, baseline: Baseline, planned: Iterable[Key]) -> tuple[Key, ...]:
        """Entries of tests that were seen, on devices or in dtypes that nobody has asked for and this run has not."""
        planned = tuple(planned)
        inside, subjects = set(self.entries(baseline, planned)), {key.subject for key in planned}
        if self.checks or self.devices or self.dtypes:
            return ()
        return tuple(k for k in baseline.entries if k.subject in subjects and self._names(k) and k not in inside)

    def _names(self, key: Key) -> bool:
        for text in self.texts:
            path, colons, _ = text.partition("::")
            if colons or not key.path:
                if subject_of(text, self.folder) == key.subject:
                    return True
            elif (place := relative(path, self.folder)) in (".", key.path) or key.path.startswith(f"{place}/"):
                return True
        return False
