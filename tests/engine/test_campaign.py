"""A campaign: the same rounds for the same seed, each finding once and at once, and nothing lost by stopping."""

import pytest

from gradharness.engine.campaign import PROGRAMS_PER_TEST, Campaign, Schedule, SourceKind
from gradharness.engine.campaign_events import CampaignStarted, FindingSeen, Reexamined, RoundFinished, SourceFailed
from gradharness.engine.campaign_store import open_store
from gradharness.engine.findings import FindingStatus
from gradharness.errors import UsageError
from tests.engine.campaigning import FakeSource, run, told


def test_programs_take_turns_and_a_test_comes_now_and_then():
    sources = [FakeSource("a"), FakeSource("b"), FakeSource("t", SourceKind.TEST), FakeSource("u", SourceKind.TEST)]
    schedule = Schedule(1, tuple(sources))
    rounds = [schedule.round(i) for i in range(4 * (PROGRAMS_PER_TEST + 1))]
    assert [r.source.name for r in rounds[:4]] == ["a", "b", "a", "b"]
    tests = [(r.source.name, r.number) for r in rounds if r.source.kind is SourceKind.TEST]
    assert tests == [("t", 0), ("u", 0), ("t", 1), ("u", 1)]
    for name in "ab":
        assert [r.number for r in rounds if r.source.name == name] == list(range(2 * PROGRAMS_PER_TEST))


def test_sources_of_one_kind_take_turns():
    schedule = Schedule(1, (FakeSource("t", SourceKind.TEST), FakeSource("u", SourceKind.TEST)))
    assert [(schedule.round(i).source.name, schedule.round(i).number) for i in range(3)] == [
        ("t", 0),
        ("u", 0),
        ("t", 1),
    ]


@pytest.mark.parametrize("other", [{"seed": 2}, {"version": "2"}, {"sources": (FakeSource("b"),)}])
def test_a_schedule_with_other_rounds_has_another_identity(other):
    given = {"seed": 1, "sources": (FakeSource("a"),), "version": "1"}
    assert Schedule(**given).identity == Schedule(**given).identity
    assert Schedule(**given).identity != Schedule(**{**given, **other}).identity


def test_a_fault_is_one_finding_however_often_it_is_seen(tmp_path):
    events, found = run(tmp_path, FakeSource("a", wrong={3: "p", 5: "q", 7: "p"}), rounds=10)
    assert [(f.number, f.title, f.round, f.status) for f in found] == [
        (1, "p", 3, FindingStatus.NEW),
        (2, "q", 5, FindingStatus.NEW),
    ]
    assert [e.finding.title for e in told(events, FindingSeen)] == ["p", "q"]
    last = told(events, RoundFinished)[-1].progress
    assert (last.rounds, last.programs, last.ops) == (10, 10, {"sin"})


def test_a_finding_is_stored_before_it_is_told(tmp_path):
    def dies(event):
        if isinstance(event, FindingSeen):
            raise SystemExit

    with pytest.raises(SystemExit):
        run(tmp_path, FakeSource("a", wrong={3: "p"}), rounds=10, emit=dies)
    store = open_store(tmp_path)
    store.close()
    assert [f.title for f in store.findings()] == ["p"]


def test_a_campaign_goes_on_where_it_was(tmp_path):
    source = FakeSource("a", wrong={3: "p", 8: "q"})
    run(tmp_path, source, rounds=5)
    events, found = run(tmp_path, source, rounds=5)
    assert source.rounds == [(1, n) for n in range(10)]
    assert told(events, CampaignStarted)[0].progress.rounds == 5
    assert [f.title for f in found] == ["p", "q"]


def test_ctrl_c_keeps_position_and_findings(tmp_path):
    source = FakeSource("a", wrong={3: "p", 8: "q"}, stop={6: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source, rounds=10)
    _, found = run(tmp_path, source, rounds=4)
    assert source.rounds == [(1, n) for n in range(10)]
    assert [f.title for f in found] == ["p", "q"]


def test_what_is_known_is_looked_at_first_and_is_gone_once_it_is_mended(tmp_path):
    source = FakeSource("a", wrong={0: "p", 1: "q"})
    run(tmp_path, source, rounds=2)
    source.wrong = {1: "q"}
    events, found = run(tmp_path, source, rounds=1)
    assert isinstance(events[1], Reexamined)
    assert [(e.finding.title, e.finding.status) for e in told(events, Reexamined)] == [
        ("p", FindingStatus.GONE),
        ("q", FindingStatus.RECURS),
    ]
    assert [f.status for f in found] == [FindingStatus.GONE, FindingStatus.RECURS]


def test_what_was_gone_is_news_when_it_is_back(tmp_path):
    source = FakeSource("a", wrong={0: "p"})
    run(tmp_path, source, rounds=1)
    source.wrong = {}
    run(tmp_path, source, rounds=1)
    source.wrong = {2: "p"}
    source.reexamine = lambda replay: ()  # its own case is right; another one is not
    events, found = run(tmp_path, source, rounds=1)
    assert [e.finding.number for e in told(events, FindingSeen)] == [1]
    assert [(f.number, f.round, f.status) for f in found] == [(1, 0, FindingStatus.RECURS)]


def test_what_cannot_be_looked_at_stays_as_it_was(tmp_path):
    run(tmp_path, FakeSource("a", wrong={0: "strange"}), FakeSource("b", wrong={0: "p"}), rounds=2)
    events, found = run(tmp_path, FakeSource("a"), rounds=1)
    assert [e.reason for e in told(events, Reexamined)] == [
        "UsageError: there is no op 'strange'",
        "its source is not among what was asked for",
    ]
    assert all(f.status is FindingStatus.NEW for f in found)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UsageError("no such thing"), "no such thing"),
        (ValueError("oh"), "internal error of gradharness, please report it: ValueError: oh"),
        (SystemExit(3), "internal error of gradharness, please report it: SystemExit: 3"),
    ],
)
def test_a_source_that_cannot_run_is_told_once_and_the_others_go_on(tmp_path, error, line):
    broken, whole = FakeSource("a", stop={1: error}), FakeSource("b")
    events, _ = run(tmp_path, broken, whole, rounds=10)
    assert [(e.source, e.line) for e in told(events, SourceFailed)] == [("a", line)]
    assert len(broken.rounds) == 1
    assert len(whole.rounds) == 5


def test_a_campaign_whose_sources_all_fail_ends(tmp_path):
    events, _ = run(tmp_path, FakeSource("a", stop={0: UsageError("no")}))
    assert len(told(events, SourceFailed)) == 1


def test_other_targets_begin_at_round_0_and_keep_the_findings(tmp_path):
    run(tmp_path, FakeSource("a", wrong={0: "p"}), rounds=3)
    source = FakeSource("a", wrong={0: "p"}, fingerprint="another catalogue")
    events, found = run(tmp_path, source, rounds=1)
    assert told(events, CampaignStarted)[0].moved
    assert source.rounds == [(1, 0)]
    assert [f.title for f in found] == ["p"]


def test_bounds(tmp_path):
    sources = FakeSource("a"), FakeSource("t", SourceKind.TEST)
    run(tmp_path, *sources, programs=PROGRAMS_PER_TEST + 1)
    assert len(sources[0].rounds) == PROGRAMS_PER_TEST + 1
    assert len(sources[1].rounds) == 1
    run(tmp_path, *sources, seconds=1e-9)
    assert len(sources[0].rounds) == PROGRAMS_PER_TEST + 1


class Ended(BaseException):
    """Stands in for the end of the process: nothing is saved after it."""


def test_a_round_of_a_test_that_ends_the_process_each_time_is_a_finding(tmp_path, monkeypatch):
    run(tmp_path, FakeSource("t", SourceKind.TEST), rounds=1)
    with monkeypatch.context() as patch:
        patch.setattr(Campaign, "_save", lambda self: None)
        for _ in range(3):
            with pytest.raises(Ended):
                run(tmp_path, FakeSource("t", SourceKind.TEST, stop={1: Ended()}), rounds=3)
    source = FakeSource("t", SourceKind.TEST, stop={1: Ended()})
    events, found = run(tmp_path, source, rounds=2)
    assert source.rounds == [(1, 2)]
    assert [f.title for f in found] == ["1 3 PROCESS_ENDED"]
    events, found = run(tmp_path, source, rounds=1)
    assert [e.reason for e in told(events, Reexamined)] == ["the process may end again; --replay 1 tries it"]


def test_ctrl_c_is_no_end_of_the_process(tmp_path):
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, FakeSource("t", SourceKind.TEST, stop={1: KeyboardInterrupt()}), rounds=3)
    _, found = run(tmp_path, FakeSource("t", SourceKind.TEST), rounds=3)
    assert found == ()
