"""The file on the disk: whole at every moment, and nothing of anybody's is lost."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradharness.baseline import storage
from gradharness.baseline.measuring import merged, run_settings
from gradharness.baseline.model import Baseline
from gradharness.baseline.scope import Scope, subject_of
from gradharness.baseline.storage import FILE, load, update
from gradharness.errors import BaselineError
from tests.baseline.levels import elsewhere, entry, found, key

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from gradharness.baseline.model import Baseline, Entry, Key
from gradharness.baseline.storage import update
who, rounds = sys.argv[2], int(sys.argv[3])
for number in range(rounds):
    added = {Key(f"{who}.py::test_{number}", "vjp", "cpu", "float64"): Entry(verdict="pass")}
    update(Path(sys.argv[1]), lambda now: Baseline({**now.entries, **added}, now.known))
    print(number, flush=True)
"""


def writer(path, who, rounds):
    command = [sys.executable, "-c", WRITER, str(path), who, str(rounds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_it_is_written_where_the_lock_is_on_another_disk(tmp_path, monkeypatch):
    path = tmp_path / FILE
    replace, stat = os.replace, os.stat
    locks = tmp_path / storage.LOCKS

    def refusing(source, target):
        if Path(source).parent == locks:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    def other_disk(path, **options):
        found = stat(path, **options)
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10])) if path == locks else found

    monkeypatch.setattr(storage.os, "replace", refusing)
    monkeypatch.setattr(storage.os, "stat", other_disk)
    update(path, lambda _: Baseline({key(): entry()}))
    assert load(path).entries.keys() == {key()}
    assert sorted(os.listdir(tmp_path)) == [storage.LOCKS, FILE]


def test_a_link_to_a_baseline_stays_one(tmp_path):
    (tmp_path / "shared").mkdir()
    path = tmp_path / FILE
    path.symlink_to(tmp_path / "shared" / "levels.toml")
    for added in ({key(): entry()}, {}):
        update(path, lambda _, added=added: Baseline(added))
        assert (path.is_symlink(), load(tmp_path / "shared" / "levels.toml").entries) == (True, load(path).entries)
    assert load(path).entries == {}


def test_it_is_made_changed_and_read(tmp_path):
    path = tmp_path / FILE
    update(path, lambda now: Baseline({key(): entry(calls=1)}))
    update(path, lambda now: Baseline({**now.entries, key("leak"): entry(saved=8)}))
    assert set(load(path).entries) == {key(), key("leak")}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".gradharness", FILE]
    assert (tmp_path / ".gradharness" / ".gitignore").read_text() == "*\n"


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    path = tmp_path / FILE
    with pytest.raises(BaselineError, match=r"there is no baseline .*: write it with `gradharness baseline record`"):
        load(path)
    with pytest.raises(BaselineError, match=r"cannot read .*: Is a directory"):
        load(tmp_path)
    with pytest.raises(BaselineError, match="the folder does not exist; make it first"):
        update(tmp_path / "no" / FILE, lambda now: now)
    path.write_text("[gradharness-baseline]\nversion = 9\n")
    with pytest.raises(BaselineError, match="version 9"):
        update(path, lambda now: Baseline())
    assert path.read_text() == "[gradharness-baseline]\nversion = 9\n"


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    path = tmp_path / FILE
    update(path, lambda now: Baseline({key(): entry()}))
    before = path.read_bytes()
    with pytest.raises(BaselineError, match="damaged"):
        update(path, lambda now: Baseline({key(subject="\x1b.py::test"): entry()}))
    assert path.read_bytes() == before


def test_two_processes_that_record_at_once_lose_nothing(tmp_path):
    path = tmp_path / FILE
    writers = [writer(path, who, 40) for who in ("one", "two")]
    assert [w.communicate(timeout=60) and w.returncode for w in writers] == [0, 0]
    assert len(load(path).entries) == 80


def test_killed_at_any_moment_it_leaves_what_was_recorded(tmp_path):
    path = tmp_path / FILE
    draw = random.Random(0)
    done = 0
    for number in range(4):
        process = writer(path, f"w{number}", 100_000)
        recorded = int(process.stdout.readline())
        time.sleep(draw.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        recorded = int(rest.split()[-1]) if rest.split() else recorded
        done += recorded + 1
        entries = load(path).entries
        # The last one may have been written and not yet told.
        assert done <= len(entries) <= done + 1
        done = len(entries)
    update(path, lambda now: now)  # the lock of a killed process holds nobody up
    assert len(load(path).entries) == done


HOLDER = """
import sys
from pathlib import Path
from gradharness.baseline.storage import update
def change(now):
    print("ready", flush=True)
    sys.stdin.readline()
    return now
update(Path(sys.argv[1]), change)
"""


def test_a_file_that_another_process_is_writing_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / FILE
    command = [sys.executable, "-c", HOLDER, str(path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "ready\n"
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    with pytest.raises(BaselineError, match="is being written by another process"):
        update(path, lambda now: now)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    monkeypatch.setattr(storage, "PATIENCE", 10.0)
    update(path, lambda now: Baseline({key(): entry()}))
    assert set(load(path).entries) == {key()}


# ------------------------------------------------------------------------------------------------------------ merging


def test_what_did_not_run_is_kept_and_what_is_gone_goes():
    before = Baseline({key(): entry(calls=1), key("leak"): entry(), key("mask"): entry()})
    after = merged(before, [found(calls=2)], {key("leak")}, {})
    assert {k.check: e.calls for k, e in after.entries.items()} == {"vjp": 2, "mask": 0}


def test_an_absent_device_overwrites_nothing():
    device = key(device="cuda")
    before = Baseline({device: entry(calls=9)})
    after = merged(before, [found("skipped", at=device, no_device=True)], set(), {})
    assert after.entries[device].calls == 9


@pytest.mark.parametrize(("now", "kept"), [(1.2, 1.0), (0.85, 1.0), (1.3, 1.3), (0.7, 0.7)])
def test_a_cost_that_flickers_keeps_its_line(now, kept):
    before = Baseline({key(): entry(cost=1.0)})
    assert merged(before, [found(cost=now)], set(), {}).entries[key()].cost == kept
    moved = found(cost=now, environment=elsewhere(processor="two"))
    assert merged(before, [moved], set(), {}).entries[key()].cost == now


def test_profile_and_seed_are_as_asked_for_then_recorded_then_said():
    was = entry(environment=elsewhere(profile="deep", seed=5))
    assert run_settings({}, None) == ("ci", 0)
    assert run_settings({"profile": "dev", "seed": 3}, None) == ("dev", 3)
    assert run_settings({"profile": "dev", "seed": 3}, was) == ("deep", 5)
    assert run_settings({}, was, profile="dev", seed=7) == ("dev", 7)
    assert run_settings({}, was, seed=0) == ("deep", 0)


# -------------------------------------------------------------------------------------------------------------- scope


def test_a_test_is_named_as_seen_from_the_baseline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert subject_of("tests/test_a.py::test_f", Path()) == "tests/test_a.py::test_f"
    assert subject_of("tests/test_a.py::test_f", Path("tests")) == "test_a.py::test_f"
    assert subject_of(f"{tmp_path}/test_a.py::test_f", Path("tests")) == "../test_a.py::test_f"
    assert subject_of("package.module:test_f", Path("tests")) == "package.module:test_f"


@pytest.mark.parametrize(
    ("options", "inside"),
    [
        ({"texts": (".",)}, {"f vjp", "f leak", "g vjp"}),
        ({"texts": ("tests",)}, {"f vjp", "f leak"}),
        ({"texts": ("tests/test_a.py",)}, {"f vjp", "f leak"}),
        ({"texts": ("tests/test_a.py::f",)}, {"f vjp", "f leak"}),
        ({"texts": ("tests/test_a.py::other",)}, set()),
        ({"texts": ("test",)}, set()),
        ({"texts": ("m:h",)}, {"h vjp"}),
        ({"texts": (".",), "checks": ("vjp",)}, {"f vjp", "g vjp"}),
        ({"texts": (".",), "devices": ("cuda",)}, set()),
    ],
)
def test_the_scope_is_what_was_asked_for(options, inside):
    keys = [
        key("vjp", "tests/test_a.py::f"),
        key("leak", "tests/test_a.py::f"),
        key("vjp", "b.py::g"),
        key("vjp", "m:h"),
    ]
    baseline = Baseline({k: entry() for k in keys})
    seen = Scope(folder=Path(), **options).entries(baseline, ())
    assert {f"{k.subject.rpartition(':')[2]} {k.check}" for k in seen} == inside


def test_a_device_that_a_run_has_nothing_of_is_another_runs():
    here, there = key(), key(device="cuda")
    baseline = Baseline({here: entry(), there: entry()})
    scope = Scope(texts=(".",), folder=Path())
    assert set(scope.entries(baseline, [here])) == {here}
    assert scope.elsewhere(baseline, [here]) == (there,)
    assert scope.elsewhere(baseline, [here, there]) == ()
    assert set(scope.entries(baseline, ())) == {here, there}  # the whole test is gone
