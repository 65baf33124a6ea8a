"""The guide is run from top to bottom: its code works, and prints what it shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "from-a-class-to-a-checked-one.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def without_numbers(text):
    """The text with its numbers masked: sizes of a witness depend on what the search happened to try first."""
    return re.sub(r"\d+", "#", text)


def test_the_guide_runs_and_prints_what_it_shows():
    namespace = {"__name__": "guide"}
    printed = ""
    for language, text in BLOCKS:
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(text, namespace)
            printed = out.getvalue()
        elif language == "text":
            assert without_numbers(printed) == without_numbers(text)


@pytest.mark.parametrize(
    "file", re.findall(r"`gradharness check (examples/\w+\.py)`", PAGE.read_text(encoding="utf-8"))
)
def test_the_commands_of_the_table_exist(file):
    assert "gradient_test(" in (ROOT / file).read_text(encoding="utf-8")
