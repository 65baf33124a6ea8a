"""A source whose rounds are given, so that campaigns are tested without a search."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradharness.engine.campaign import Bounds, Campaign, Explored, Schedule, SourceKind
from gradharness.engine.campaign_store import open_store
from gradharness.engine.findings import Sighting
from gradharness.errors import UsageError


@dataclass
class FakeSource:
    """Finds ``wrong[number]`` in its round of that number; ``stop`` is raised in the round of that number."""

    name: str
    kind: SourceKind = SourceKind.PROGRAMS
    wrong: dict[int, str] = field(default_factory=dict)
    stop: dict[int, BaseException] = field(default_factory=dict)
    fingerprint: str = ""
    rounds: list[tuple[int, int]] = field(default_factory=list)

    def sighting(self, fault):
        return Sighting(key=f"{self.name}|{fault}", source=self.name, title=fault, text=f"all of {fault}", replay=fault)

    def explore(self, seed, number, known):
        if number in self.stop:
            raise self.stop.pop(number)
        self.rounds.append((seed, number))
        fault = self.wrong.get(number)
        if fault is None:
            return Explored(ops=("sin",))
        seen = self.sighting(fault)
        return Explored(again=(seen.key,)) if seen.key in known else Explored((seen,))

    def ended(self, seed, number, times):
        return self.sighting(f"{number} {times} PROCESS_ENDED")

    def reexamine(self, replay):
        if replay == "strange":
            raise UsageError("there is no op 'strange'")
        return (self.sighting(replay),) if replay in self.wrong.values() else ()


def run(folder, *sources, seed=1, version="", fresh=False, emit=None, **bounds):
    """One run of a campaign; its events, and the findings that are stored after it."""
    events = []
    store = open_store(folder, fresh=fresh)
    try:
        Campaign(Schedule(seed, sources, version), store, emit or events.append).run(Bounds(**bounds))
    finally:
        store.close()
    return events, store.findings()


def told(events, kind):
    return [event for event in events if isinstance(event, kind)]
