"""Where standard output takes no more, the exit status is not that of a wrong gradient."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradharness.report.terminal import console

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "gradharness", "schema", "config"]  # needs no torch


def told(stdout):
    return subprocess.run(COMMAND, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_a_reader_that_has_gone_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = told(writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_a_line():
    with open("/dev/full", "w") as full:
        done = told(full)
    told_of = "gradharness: cannot write the output: No space left on device; give it another place\n"
    assert (done.returncode, done.stderr) == (2, told_of)


def test_with_a_reader_nothing_is_said(tmp_path):
    with (tmp_path / "out").open("w") as file:
        assert (told(file).returncode, told(file).stderr) == (0, "")


def test_a_console_tells_that_its_reader_has_gone():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "w") as stream:
        console(file=stream).print("text\n" * 100_000)
