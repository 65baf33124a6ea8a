"""A campaign's lines: few where there is no terminal, one that lives where there is, everything in the end."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from gradharness.engine.campaign_events import CampaignStarted, FindingSeen, Reexamined, RoundFinished, SourceFailed
from gradharness.engine.findings import CampaignFinding, FindingStatus, Progress
from gradharness.errors import UsageError
from gradharness.report import campaign, campaign_record
from gradharness.report.campaign import CampaignReporter, line_of

FINDING = CampaignFinding(
    key="a|sin|GRADIENT",
    source="a",
    title="sin is wrong",
    text="sin is wrong\nreplay: ([], [], 0)",
    replay="([], [], 0)",
    number=3,
    round=7,
)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(campaign.time, "monotonic", lambda: now[0])
    return now


def shown(clock, events, *, terminal=False, finish=None):
    out = io.StringIO()
    reporter = CampaignReporter(Console(file=out, width=80, force_terminal=terminal, color_system=None), ops=241)
    with reporter:
        for seconds, event in events:
            clock[0] += seconds
            reporter(event)
    if finish is not None:
        finish(reporter)
    return out.getvalue(), reporter


def test_totals_in_one_line():
    progress = Progress(rounds=5, programs=3280, tests=1, undecided=2, ops=frozenset({"sin"}))
    line = "3,280 programs (328/s), 1 of 241 ops, 1 check of tests, 2 undecided, 1 finding"
    assert line_of(progress, 1, ops=241, speed=328.4) == line
    assert line_of(Progress(programs=1), 0, ops=241) == "1 program, 0 of 241 ops, 0 findings"


def test_without_a_terminal_a_line_comes_every_ten_seconds(clock):
    rounds = [(1, RoundFinished(n, "a", Progress(rounds=n, programs=100 * n))) for n in range(1, 26)]
    text, _ = shown(clock, [(0, CampaignStarted(5, Progress(), 0)), *rounds])
    assert text.splitlines() == [
        "seed 5",
        "10 s: 1,000 programs (100/s), 0 of 241 ops, 0 findings",
        "20 s: 2,000 programs (100/s), 0 of 241 ops, 0 findings",
    ]


def test_on_a_terminal_one_line_lives(clock):
    rounds = [(1, RoundFinished(n, "a", Progress(rounds=n, programs=100 * n))) for n in range(1, 4)]
    text, _ = shown(clock, [(0, CampaignStarted(5, Progress(), 0)), *rounds], terminal=True)
    assert "3 s: 300 programs (100/s)" in text


def test_what_a_run_begins_with(clock):
    text, _ = shown(clock, [(0, CampaignStarted(5, Progress(rounds=1200), 2))])
    assert text == "seed 5; goes on at round 1,200; looks at 2 stored findings first\n"
    text, _ = shown(clock, [(0, CampaignStarted(5, Progress(), 0, moved=True))])
    assert text == "seed 5; the store knows other targets, ops, a version or a seed only: begins at round 0\n"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (FindingSeen(FINDING), "#3 found: a: sin is wrong\n"),
        (FindingSeen(replace(FINDING, status=FindingStatus.RECURS)), "#3 is back: a: sin is wrong\n"),
        (Reexamined(replace(FINDING, status=FindingStatus.RECURS)), "#3 recurs: a: sin is wrong\n"),
        (
            Reexamined(replace(FINDING, status=FindingStatus.RECURS), before=FindingStatus.GONE),
            "#3 is back: a: sin is wrong\n",
        ),
        (Reexamined(replace(FINDING, status=FindingStatus.GONE)), "#3 is gone: a: sin is wrong\n"),
        (Reexamined(replace(FINDING, status=FindingStatus.GONE), before=FindingStatus.GONE), ""),
        (Reexamined(FINDING, reason="no such op"), "#3 not looked at: no such op: sin is wrong\n"),
    ],
)
def test_a_finding_in_a_line(clock, event, line):
    assert shown(clock, [(0, event)])[0] == line


def test_what_cannot_run_is_kept_for_the_end(clock):
    error = UsageError("no")
    text, reporter = shown(clock, [(0, SourceFailed("a", "no", error))])
    assert (text, reporter.failed) == ("", [("a: no", error)])


def test_the_summary_has_every_finding_and_the_command_that_looks_at_it_again(clock):
    text, _ = shown(
        clock,
        [(0, CampaignStarted(5, Progress(), 0)), (2, RoundFinished(0, "a", Progress(rounds=8, programs=8)))],
        finish=lambda reporter: reporter.summary([FINDING], 5, options=" --store s", gone=1),
    )
    assert text.splitlines()[-6:] == [
        "#3 found: a",
        "sin is wrong",
        "replay: ([], [], 0)",
        "again: gradharness fuzz --store s --replay 3",
        "",
        "in 2.0 s: 8 programs (4/s); in all: 8 programs, 0 of 241 ops, 1 finding, 1 gone; seed 5, next round 8",
    ]


def test_a_record_is_versioned_json(tmp_path):
    campaign_record.dump([FINDING], Progress(rounds=9, ops=frozenset("ba")), 5, tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    assert (data["schema_version"], data["tool"], data["kind"], data["ops"]) == (
        1,
        "gradharness",
        "campaign",
        ["a", "b"],
    )
    assert data["findings"][0]["status"] == "found"
    with pytest.raises(UsageError, match="cannot write"):
        campaign_record.dump([], Progress(), 5, tmp_path / "no" / "r.json")
