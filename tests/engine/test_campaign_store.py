"""The store: damage is moved aside, strangers are left alone, and one campaign at a time has it."""

import shutil
import sqlite3

import pytest

from gradharness.engine import campaign_store
from gradharness.engine.campaign_store import FILE
from gradharness.engine.findings import FindingStatus, Progress, Sighting
from gradharness.errors import StoreError

OPEN = []


def open_store(*arguments, **options):
    OPEN.append(campaign_store.open_store(*arguments, **options))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def closed():
    yield
    while OPEN:
        OPEN.pop().close()


def sighting(number, text="text"):
    return Sighting(key=f"k{number}", source="a", title=f"t{number}", text=text, replay="r")


@pytest.fixture
def filled(tmp_path):
    store = open_store(tmp_path)
    for n in range(3):
        store.keep(sighting(n), n)
    store.save("c", Progress(rounds=7, ops=frozenset({"sin", "cos"})))
    store.choose(5)
    store.close()
    return tmp_path


def test_everything_comes_back(filled):
    store = open_store(filled)
    assert [(f.number, f.title, f.round, f.status) for f in store.findings()] == [
        (n + 1, f"t{n}", n, FindingStatus.NEW) for n in range(3)
    ]
    assert store.progress("c") == Progress(rounds=7, ops=frozenset({"sin", "cos"}))
    assert store.progress("another") is None
    assert store.seed() == 5
    assert (filled / ".gitignore").read_text() == "*\n"


def test_a_second_campaign_is_told_that_the_store_is_in_use(filled):
    first = open_store(filled)
    with pytest.raises(StoreError, match="in use by another campaign: wait for it, or give this one a --store"):
        open_store(filled)
    first.close()
    open_store(filled).close()


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_database_is_moved_aside(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    store = open_store(tmp_path)
    assert store.findings() == ()
    if content:
        moved, count = store.set_aside
        assert (moved.read_bytes(), count) == (content, 0)


def test_what_can_be_read_of_a_damaged_store_is_kept(tmp_path):
    store = open_store(tmp_path)
    for n in range(40):
        store.keep(sighting(n, "x" * 3000), n)
    store.close()
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-4096:] = b"\xff" * 4096
    (tmp_path / FILE).write_bytes(content)
    store = open_store(tmp_path)
    moved, count = store.set_aside
    assert moved.read_bytes() == content
    assert len(store.findings()) == count > 20
    assert store.keep(sighting(100), 0)[0].number == count + 1


def test_a_truncated_store_is_moved_aside(filled):
    path = filled / FILE
    path.write_bytes(path.read_bytes()[:5000])
    assert open_store(filled).set_aside[0].stat().st_size == 5000


def test_a_foreign_database_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StoreError, match="is a database of another program"):
        open_store(tmp_path)


def test_a_newer_format_is_left_alone(filled):
    with sqlite3.connect(filled / FILE) as connection:
        connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(StoreError, match="has format 2, this gradharness reads up to 1: update it"):
        open_store(filled)


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot use .*file as a store: .*; give --store a folder"):
        open_store(tmp_path / "file")


def test_a_fresh_store_keeps_the_old_one_beside_it(filled):
    store = open_store(filled, fresh=True)
    assert (store.findings(), store.seed(), store.set_aside) == ((), None, None)
    store.close()
    (filled / FILE).rename(filled / "empty")
    (filled / "campaign-old-1.sqlite").rename(filled / FILE)
    assert len(open_store(filled).findings()) == 3


def test_a_fresh_store_is_not_made_under_a_running_campaign(filled):
    first = open_store(filled)
    with pytest.raises(StoreError, match="in use"):
        open_store(filled, fresh=True)
    assert len(first.findings()) == 3


def test_a_position_that_no_version_wrote_begins_anew(filled):
    with sqlite3.connect(filled / FILE) as connection:
        connection.execute('UPDATE positions SET progress = \'{"rounds": 1, "leaps": 2, "ops": []}\'')
    connection.close()
    assert open_store(filled).progress("c") is None


def test_a_round_that_is_begun_again_and_again_is_counted(filled):
    store = open_store(filled)
    assert [store.enter("c", Progress(rounds=n)) for n in (8, 8, 9, 9, 9)] == [1, 2, 1, 2, 3]
    assert store.progress("c") == Progress(rounds=9)
    store.save("c", Progress(rounds=9))
    assert store.enter("c", Progress(rounds=9)) == 1


def test_what_a_killed_process_leaves_is_whole(tmp_path):
    store = open_store(tmp_path / "running")
    for n in range(3):
        store.keep(sighting(n), n)
    shutil.copytree(tmp_path / "running", tmp_path / "killed")
    assert (tmp_path / "killed" / f"{FILE}-wal").stat().st_size > 0
    assert len(open_store(tmp_path / "killed").findings()) == 3
