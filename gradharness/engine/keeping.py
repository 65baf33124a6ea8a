"""Keeps what fails while a run goes on, and notes what came of what was kept: it listens to the run's events."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from gradharness.engine.events import CheckFinished, Event, RunStarted, WitnessReplayed
from gradharness.engine.kept import (
    FORMAT,
    Entry,
    KeptStatus,
    KeptWitness,
    OpaqueNode,
    Packing,
    TensorNode,
    id_of,
    short,
    tensors_of,
    wrong_address,
)
from gradharness.engine.known import Known, Replayed
from gradharness.engine.plan import Item
from gradharness.engine.witness_store import Stored, WitnessStore
from gradharness.errors import StoreError
from gradharness.model.verdict import CheckResult, Finding, Report, Severity, Verdict, Witness

DEFAULT = ".gradharness"


@dataclass(slots=True)
class Keeping:
    """The store of a whole session: read once, when it is asked for first.

    Attributes:
        store: Where failures are kept.
        root: Addresses are relative to it.
        now: Gives the date and time, as ISO text.
        versions: Of what runs.
        refused: Files that could not be read, or written.
    """

    store: WitnessStore
    root: Path
    now: Callable[[], str]
    versions: Mapping[str, str] = field(default_factory=dict)
    refused: list[StoreError] = field(default_factory=list)
    _stored: Stored | None = None

    def stored(self) -> Stored:
        """What was kept when the session began."""
        if self._stored is None:
            self._stored = self.store.read()
            self.refused += self._stored.refused
        return self._stored

    def of(self, address: str) -> Keeper | None:
        """What keeps the failures of one test; None for a test that does not lie beneath the root.

        Args:
            address: ``path::name`` as seen from the current folder, or ``module:attribute``.
        """
        known = address_in(self.root, address)
        return None if known is None else Keeper(self, known)

    @property
    def options(self) -> str:
        """What ``gradharness replay`` has to be told beside the id, in the current folder."""
        return options_for(self.store.folder)


@dataclass(slots=True)
class Keeper:
    """Keeps the failures of one test. Give it as ``emit``, and ``known`` to the run.

    Attributes:
        keeping: The session's.
        address: Of the test.
        replayed: What came of what was kept.
    """

    keeping: Keeping
    address: str
    replayed: list[Replayed] = field(default_factory=list)
    _started: RunStarted | None = None
    _ids: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def known(self) -> Known:
        """What failed in this test before."""
        return Known(self._of)

    def _of(self, item: Item) -> Sequence[KeptWitness]:
        stored = self.keeping.stored().witnesses
        same = [w for w in stored if w.entry.address == self.address and w.entry.item == item]
        strict = self._started is not None and self._started.strict
        return [w for w in same if strict or not w.entry.strict]  # what only a strict run calls wrong needs one

    def __call__(self, event: Event) -> None:
        """A failure is on the disk when this returns. A disk that is full stops nothing: the report says so."""
        match event:
            case RunStarted():
                self._started = event
            case WitnessReplayed(replayed=replayed):
                self.replayed.append(replayed)
                self._careful(lambda: self._mark(replayed))
            case CheckFinished(item=item, result=result) if result.verdict is Verdict.FAIL:
                errors = [f for f in result.findings if f.severity is Severity.ERROR] or result.findings
                for finding in errors:
                    self._careful(lambda f=finding: self._keep(item, result, f))  # type: ignore[misc]
            case _:
                pass

    def told(self, report: Report) -> Report:
        """The report, with the command that replays what was kept."""
        results = tuple(
            replace(r, findings=tuple(self._with_command(r, f) for f in r.findings)) for r in report.results
        )
        return replace(report, results=results)

    def _with_command(self, result: CheckResult, finding: Finding) -> Finding:
        id = self._ids.get(_key(result, finding))
        return finding if id is None else replace(finding, replay=f"gradharness replay {id}{self.keeping.options}")

    def _careful(self, act: Callable[[], None]) -> None:
        try:
            act()
        except StoreError as error:
            self.keeping.refused.append(error)

    def _mark(self, replayed: Replayed) -> None:
        failing = replayed.status is KeptStatus.FAILING
        self.keeping.store.mark(replayed.kept, replayed.status, self.keeping.now() if failing else "")

    def _keep(self, item: Item, result: CheckResult, finding: Finding) -> None:
        witness = finding.witness
        if witness is None or self._started is None:
            return
        if witness.kept:  # it was kept before, and marked as failing by now
            self._ids[_key(result, finding)] = witness.kept
            return
        id = id_of(self.address, item, finding.fault.value, short(witness.label))
        before = next((w.entry for w in self.keeping.stored().witnesses if w.id == id), None)
        now = self.keeping.now()
        entry, packing = _entry(finding, witness)
        entry |= {
            "id": id,
            "address": self.address,
            "check": item.check,
            "device": item.device,
            "dtype": item.dtype,
            "profile": self._started.profile,
            "seed": self._started.seed,
            "strict": self._started.strict,
            "first_seen": now if before is None else before.first_seen,
            "last_seen": now,
            "versions": {name: short(text) for name, text in self.keeping.versions.items()},
        }
        self.keeping.store.write(KeptWitness(Entry(format=FORMAT, **entry), packing.tensors))  # type: ignore[arg-type]
        self._ids[_key(result, finding)] = id


def _key(result: CheckResult, finding: Finding) -> tuple[str, ...]:
    label = "" if finding.witness is None else finding.witness.label
    return result.check, result.device, result.dtype, finding.fault.value, label


def _entry(finding: Finding, witness: Witness) -> tuple[dict[str, object], Packing]:
    """What an entry says of the case itself, and its tensors: those that the check was given, before it changed any."""
    packing = Packing()
    given = witness.drawn
    arguments = witness.arguments
    if given is not None:
        arguments = tuple(zip(given.primals.names, given.primals.values, strict=True))
    nodes = tuple((name, packing.argument(value)) for name, value in arguments)
    cotangents = [packing.tensor(w) for w in (witness.cotangents if given is None else given.cotangents)]
    if any(isinstance(node, OpaqueNode) for node in cotangents):  # too large: the recipe draws them again
        cotangents = []
    kept = tuple(node for node in cotangents if isinstance(node, TensorNode))
    names = {node.name for node in kept} | {n.name for _, root in nodes for n in tensors_of(root)}
    packing.tensors = {name: t for name, t in packing.tensors.items() if name in names}
    return {
        "fault": finding.fault.value,
        "message": short(finding.message),
        "label": short(witness.label),
        "index": witness.index,
        "expected": _number(witness.expected),
        "got": _number(witness.got),
        "bound": _number(witness.bound),
        "recipe": _recipe(witness.recipe),
        "arguments": nodes,
        "cotangents": kept,
        "active": tuple(short(label) for label in witness.active),
    }, packing


def _recipe(recipe: Mapping[str, object]) -> dict[str, object]:
    """The recipe, without numbers that JSON has no word for: these are kept as values."""
    arguments = recipe.get("arguments")
    if not isinstance(arguments, dict):
        return dict(recipe)
    plain = {
        name: {"repr": short(repr(value), 200)} if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in arguments.items()
    }
    return {**recipe, "arguments": plain}


def _number(value: complex | float | None) -> float | str | None:
    if value is None or (isinstance(value, (int, float)) and math.isfinite(value)):
        return value if value is None else float(value.real)
    return str(value)


def versions(own: str) -> dict[str, str]:
    """Of what runs, as far as it can change what a case shows; ``own`` is gradharness's."""
    return {"gradharness": own, "torch": str(torch.__version__), "python": platform.python_version()}


def address_in(root: Path, address: str) -> str | None:
    """The address as seen from a root; None for what does not lie beneath it.

    Args:
        root: A folder.
        address: As seen from the current folder.
    """
    path, colons, name = address.partition("::")
    if colons:
        whole, top = Path(path).resolve(), root.resolve()
        if not whole.is_relative_to(top):
            return None
        address = f"{whole.relative_to(top).as_posix()}::{name}"
    return None if wrong_address(address) else address


def root_of(store: Path, project: Path | None = None) -> Path:
    """What addresses in a store are relative to, from wherever in a project it is looked at.

    Args:
        store: Its folder.
        project: The folder of the configuration, which counts most. Without one it is the folder above the current
            one that has this store as its ``.gradharness``; else the current one.
    """
    if project is not None:
        return project
    here, above = Path.cwd(), store.resolve().parent
    return above if store.name == DEFAULT and here.resolve().is_relative_to(above) else here


def options_for(store: Path) -> str:
    """`` --store FOLDER``, where the current folder's own is not meant."""
    if store.absolute() == Path.cwd() / DEFAULT:
        return ""
    text = os.path.relpath(store)
    return f' --store "{text}"' if " " in text else f" --store {text}"
