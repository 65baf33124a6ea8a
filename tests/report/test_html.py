"""The page: what is on it, what can never be on it, and that it is the same for the same reports."""

import re
import sys
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import pairwise

import pytest
import torch

from gradharness.engine.plan import Item
from gradharness.errors import UsageError
from gradharness.model.exhibit import Drawing, DrawnNode, HeatMap, NodeKind, OracleValue
from gradharness.model.verdict import Verdict
from gradharness.report import text
from gradharness.report.html import extra, pictures
from gradharness.report.html.drawings import program_drawing
from gradharness.report.html.page import render, write
from gradharness.report.html.view import About, Shown, page_view
from tests.fakes import WITNESS, result
from tests.report.pages import (
    ABOUT,
    EVERYTHING,
    ORACLES,
    PROGRAM,
    SCRIPT,
    STEPS,
    Page,
    examples,
    failed,
    finding,
    heat_map,
    many,
    passing,
    shown,
)

EVIL = "<script>alert('&\"x\"')</script>"


@cache
def source_of_examples():
    return render(examples(), ABOUT)


def page(*given):
    return Page(render(given, ABOUT) if given else source_of_examples())


def test_every_part_of_a_finding_is_there():
    made = page()
    (wrong,) = [s for s in page_view(examples(), ABOUT).findings if s.fault == "constant factor"]
    assert {"summary", "findings", "subjects", wrong.anchor} <= set(made.ids)
    for said in (
        "the gradient of `x` is 2 times the right one",
        "at x[0, 1]",
        "-0.25 ± 3e-06",
        "-0.5",
        "2 of 2 elements are wrong",
        "float64[1, 2] = [[1, -2]]",
        SCRIPT,
        "gradharness check test_ops.py::test_wrong --checks vjp --device cpu --dtype float64 --seed 17",
        "autograd of the reference",
        "-0.25 ± 1e-15",
        "The gradient is wrong where another branch is added to its output.",
        "note: the reference is float32",
        "2026-01-02 03:04 UTC",
        "1.2.3",
        "x86_64",
        "float32 differences are too coarse",
    ):
        assert said in made.text, said
    copies = {b["data-copy"] for b in made.all("button", class_="copy")}
    assert {f"{wrong.anchor}-reproducer", f"{wrong.anchor}-replay"} <= copies
    assert copies <= set(made.ids)


@pytest.mark.parametrize("kind", range(len(EVERYTHING)), ids=lambda n: type(EVERYTHING[n]).__name__)
def test_an_exhibit_has_its_picture_and_without_it_there_is_no_frame(kind):
    bare = page(shown("test_f", failed("vjp", finding(exhibits=()))))
    assert not bare.all("figure")
    made = page(shown("test_f", failed("vjp", finding(exhibits=(EVERYTHING[kind],)))))
    assert len(made.all("figure")) == 1
    assert len(made.all("svg")) == (3 if isinstance(EVERYTHING[kind], HeatMap) else 1)
    assert all(len(a["aria-label"]) > 20 for a in made.all("div", role="img"))


def test_oracles_without_a_value_to_be_near_to_have_no_picture():
    bare = replace(WITNESS, expected=None, got=None, index=None, bound=None)
    assert not page(shown("test_f", failed("vjp", finding(exhibits=ORACLES, witness=bare)))).all("figure")


def test_the_worst_comes_first():
    made = page_view(examples(), ABOUT)
    assert [s.verdict for s in made.subjects] == ["fail", "undecided", "pass"]
    assert [f.severity for f in made.findings] == ["error", "error", "warning"]
    assert made.title == "1 of 3 gradient tests found a wrong gradient"


@pytest.mark.parametrize(
    ("given", "about", "title"),
    [
        ([], About(), "Nothing ran"),
        ([], About(errors=("test_f: no",)), "Nothing could run"),
        ([passing()], About(), "1 gradient test passed"),
        ([passing(), passing("test_other")], About(), "2 gradient tests passed"),
        ([passing()], About(errors=("test_f: no",)), "Not everything could run"),
        ([shown("test_f", failed("vjp", finding()))], About(), "The gradient is wrong"),
        ([passing(), shown("test_f", result(Item("vjp", "cpu", "float64"), "undecided"))], About(), "1 of 2 gradient "),
    ],
)
def test_the_title_says_how_it_went(given, about, title):
    made = Page(render(given, about))
    assert page_view(given, about).title.startswith(title)
    assert title in made.text
    assert all(line in made.text for line in about.errors)


def test_an_interrupted_run_says_so():
    assert "interrupted" in Page(render(examples(), replace(ABOUT, interrupted=True))).text
    assert "interrupted" not in page().text


def test_checks_that_ran_one_by_one_are_one_subject_and_keep_their_own_seeds():
    first = shown("test_f", failed("vjp", finding()), seed=1)
    second = shown("test_f", failed("shape", finding(check="shape", message="another", fault=ERROR_OF_SHAPE)), seed=2)
    made = page_view([first, second], ABOUT)
    (subject,) = made.subjects
    assert [row.check for row in subject.rows] == ["vjp", "shape"]
    assert subject.column == "check (cpu, float64)"
    assert sorted(f.replay.partition("--seed ")[2] for f in made.findings) == ["1", "2"]
    assert dict(made.facts)["seed"] == "1, 2"


ERROR_OF_SHAPE = type(finding().fault).WRONG_FOR_SHAPE


# --- what must never be on it ----------------------------------------------------------------------------------------


def evil_page():
    witness = replace(WITNESS, label=EVIL, arguments=((EVIL, EVIL),))
    drawn = Drawing(
        nodes=(DrawnNode(label=EVIL, kind=NodeKind.LEAF), DrawnNode(label=EVIL, kind=NodeKind.SUBJECT, guilty=True)),
        edges=((0, 1),),
        why=EVIL,
    )
    told = finding(
        message=EVIL,
        evidence=(EVIL,),
        witness=witness,
        reproducer=EVIL,
        exhibits=(
            heat_map(label=EVIL),
            OracleValue(oracle=EVIL, value=1.0, bound=0.1),
            replace(STEPS, label=EVIL),
            replace(EVERYTHING[4], dim=EVIL, label="$x^2$"),
            drawn,
        ),
    )
    one = shown(EVIL, failed("vjp", told), notes=(EVIL,), domain=(EVIL,), environment=((EVIL, EVIL),), profile=EVIL)
    open_ = replace(result(Item("leak", "cpu", "float64"), "skipped"), reason=EVIL)
    other = Shown(report=replace(one.report, results=(open_,)), target=EVIL)
    return render([one, other], About(version=EVIL, when=EVIL, errors=(EVIL,)))


def test_what_users_write_is_text_and_never_code():
    source = evil_page()
    made = Page(source)
    assert len(made.all("script")) == 1
    assert source.count("<script") == 1
    assert "alert('" in made.text  # it is shown, as it was written
    assert not any(name.startswith("on") for _, attributes in made.elements for name in attributes)


def test_the_policy_lets_only_the_own_script_run_and_nothing_be_loaded():
    made = page()
    (policy,) = [a["content"] for a in made.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='(;|$)", policy)
    source = source_of_examples()
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", source)
    assert addresses
    assert all(a.startswith(("#", "data:")) for a in addresses), [a for a in addresses if a[0] != "#"][:5]
    assert "@import" not in source


# --- form ------------------------------------------------------------------------------------------------------------


def test_ids_are_unique_and_links_lead_somewhere():
    made = page(*examples(), shown("test_other", failed("vjp", finding())))
    assert len(made.ids) == len(set(made.ids))
    targets = [a["href"][1:] for a in made.all("a")]
    assert targets
    assert set(targets) <= set(made.ids)
    labels = [a["aria-labelledby"] for _, a in made.elements if "aria-labelledby" in a]
    assert set(labels) <= set(made.ids)
    source = source_of_examples()
    assert set(re.findall(r"url\(#([^)]+)\)", source)) <= set(page().ids)


def test_headings_go_down_one_step_at_a_time():
    levels = [int(tag[1]) for tag, _ in page().elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_tables_name_their_rows_and_columns():
    made = page()
    assert made.all("table")
    assert made.all("th")
    assert all(a.get("scope") in ("row", "col") for a in made.all("th"))
    assert all(a.get("aria-label") for a in made.all("button"))


def test_the_same_reports_give_the_same_bytes():
    assert render(examples(), ABOUT) == source_of_examples()


def test_a_large_page_stays_below_five_megabytes():
    fewer, one = (len(render(many(50, count), ABOUT).encode()) for count in (0, 1))
    assert fewer + 20 * (one - fewer) < 4.5e6


def test_pictures_follow_the_scheme():
    source = source_of_examples()
    assert "var(--ink)" in source
    assert not re.findall(r"#00000[1-6]\b", source)


def luminance(rgb):
    parts = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def test_numbers_can_be_read_on_every_colour_of_a_map():
    style = files("gradharness.report.html").joinpath("page.css").read_text()
    schemes = [dict(re.findall(r"--(ink|surface): #([0-9a-f]{6})", part)) for part in style.split("@media")[:2]]
    assert len({str(s) for s in schemes}) == 2
    for scheme in schemes:
        ink, surface = ([int(scheme[n][i : i + 2], 16) / 255 for i in (0, 2, 4)] for n in ("ink", "surface"))
        for value in range(0, 101, 5):
            for colours in (pictures._SIGNED, pictures._EXCESS):
                *colour, share = colours(value / 100)
                there = [share * c + (1 - share) * s for c, s in zip(colour, surface, strict=True)]
                a, b = sorted((luminance(ink), luminance(there)))
                assert (b + 0.05) / (a + 0.05) >= 4.5, (scheme, value)


def test_values_that_are_not_finite_are_drawn_too():
    odd = heat_map()
    odd.got[0, 0], odd.got[1, 1], odd.expected[2, 2] = float("nan"), float("inf"), float("-inf")
    zero = replace(heat_map(), expected=torch.zeros(3, 4), got=torch.zeros(3, 4), bound=torch.zeros(3, 4))
    witness = replace(WITNESS, got=float("nan"), bound=0.0)
    given = shown("test_f", failed("vjp", finding(exhibits=(odd, zero, *ORACLES), witness=witness)))
    assert len(page(given).all("svg")) == 7


# --- drawings --------------------------------------------------------------------------------------------------------


def boxes(svg):
    return [tuple(map(float, b)) for b in re.findall(r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)"', svg)]


def test_a_drawing_marks_the_guilty_node_by_more_than_its_colour():
    made = program_drawing(PROGRAM, "k")
    assert made.svg.count('class="node subject guilty"') == 1
    assert "\N{BALLOT X} Scale" in made.svg
    assert "Scale is to blame" in made.label


def test_boxes_do_not_overlap_and_edges_lead_down():
    wide = Drawing(
        nodes=tuple(DrawnNode(label=f"node {n}", kind=NodeKind.OP) for n in range(30)),
        edges=tuple((a, b) for b in range(30) for a in {b - 1, b // 2, b // 3} if 0 <= a < b),
    )
    for drawing in (PROGRAM, wide):
        placed = boxes(program_drawing(drawing, "k").svg)
        assert len(placed) == len(drawing.nodes)
        for i, (x, y, width) in enumerate(placed):
            assert all(oy != y or ox >= x + width or ox + ow <= x for ox, oy, ow in placed[i + 1 :])
        assert all(placed[a][1] < placed[b][1] for a, b in drawing.edges)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_page_replaces_the_old_one_as_a_whole(tmp_path):
    path = tmp_path / "page.html"
    write(path, examples(), ABOUT)
    write(path, [passing()], ABOUT)
    assert path.read_text(encoding="utf-8") == render([passing()], ABOUT)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        write(tmp_path / "nowhere" / "page.html", [])


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_without_the_extra_the_remedy_is_told(monkeypatch, missing):
    found = extra.find_spec
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(UsageError, match=rf'--html needs {missing}.*pip install "gradharness\[html\]"'):
        extra.insist_on_extra("--html")


def test_with_the_extra_nothing_is_said():
    extra.insist_on_extra("--html")


def test_no_state_of_pyplot_is_made():
    source_of_examples()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_the_table_of_a_subject_says_what_the_text_says():
    (one,) = page_view([passing()], ABOUT).subjects
    assert [row.verdict for row in one.rows] == ["pass", "pass", "skipped"]
    assert one.rows[0].remark == text.resolution(passing().report.results[0])
    assert one.rows[2].remark == "torch sees no CUDA device"
    assert Verdict.PASS.value in one.sentence
