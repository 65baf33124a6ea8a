"""Files that are written whole: what was there is replaced, and what is no file is not."""

import os
import stat

import pytest

from gradharness.report.files import write_whole


def test_a_file_is_made_and_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "record.json"
    for content in (b"one", b"two"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    for content in (b"one", b"two"):  # the first makes what it leads to
        write_whole(link, content)
        assert (link.is_symlink(), real.read_bytes()) == (True, content)


def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(path, b"record")
        assert os.read(reader, 100) == b"record"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_folder_is_refused_and_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", b"record")
    assert os.listdir(tmp_path) == ["folder"]
