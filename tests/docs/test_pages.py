"""The documentation is run: its code works, its commands print what it shows, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import Block, Reader, blocks, matches, transcript

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)


def name(page):
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=name)
def test_a_page_works_from_top_to_bottom(page, tmp_path):
    reader = Reader(tmp_path)
    for block in blocks(page):
        reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_examples_exist(page):
    for file in re.findall(r"`gradharness check (examples/\w+\.py)`", page.read_text(encoding="utf-8")):
        assert "gradient_test(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([\w-]+(?:/[\w-]+)*)$", index, flags=re.MULTILINE))
    assert {name(p).removesuffix(".md") for p in PAGES} - listed == {"index"}


def test_a_reader_notices_output_that_is_not_as_shown(tmp_path):
    reader = Reader(tmp_path)
    reader.follow(Block("python", "", "print('three values: 1 2 3')\n", 1))
    reader.follow(Block("text", "", "three values: 4 5 6\n", 2))
    with pytest.raises(AssertionError, match="line 3"):
        reader.follow(Block("text", "", "four values: 1 2 3\n", 3))
    with pytest.raises(AssertionError, match="line 4"):
        reader.follow(Block("console", "", "$ echo one\ntwo\n", 4))
    with pytest.raises(AssertionError, match="exit status 1, shown is 0"):
        reader.follow(Block("console", "", "$ false\n$ echo $?\n0\n", 5))


def test_a_transcript_is_commands_with_their_output():
    block = Block("console", "", "$ first\none\ntwo\n$ second\n", 1)
    assert list(transcript(block)) == [("first", "one\ntwo"), ("second", "")]


@pytest.mark.parametrize(
    ("came", "shown", "same"),
    [
        ("a 1\nb\nc 2.5", "a 7\n...\nc 1e-3", True),
        ("a\nb\nc", "a\nc", False),
        ("a\nb", "a\n...", True),
        ("x\na", "a\n...", False),
    ],
)
def test_dots_stand_for_any_lines(came, shown, same):
    assert matches(came, shown) is same
