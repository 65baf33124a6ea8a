"""The page as the command line and pytest write it: of everything that ran, also where the run was stopped."""

import json
import re

import pytest
from click.testing import CliRunner

from gradharness.cli import main
from gradharness.engine import events, plan  # noqa: F401  (kept loaded: pytester forgets what a run imports)
from gradharness.report import record
from gradharness.report.html import extra, page  # noqa: F401  (likewise)
from tests.report.pages import Page
from tests.test_pytest_plugin import HEADER, LOAD, PLAIN, ROOT, source

pytest_plugins = ["pytester"]


def check(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments), "--no-store"], catch_exceptions=False)


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_the_command_line_writes_a_page_of_all_targets(write, folder):
    wrong = write("test_a.py", source("test_wrong", vjp="fail", linearity="pass"))
    right = write("test_b.py", source("test_right", vjp="pass"))
    assert check(wrong, right, "no_such.py", "--html", folder / "page.html", "--json", folder / "r.json").exit_code == 1
    made = read(folder / "page.html")
    assert "1 of 2 gradient tests found a wrong gradient" in made.text
    assert "gradharness check test_a.py::test_wrong --checks vjp" in made.text
    assert "no_such.py" in made.text
    assert [r.subject for r in record.load(folder / "r.json")] == ["test_wrong", "test_right"]


def test_an_interrupted_run_leaves_a_page_of_what_is_known(write, folder):
    name = write("test_a.py", source("test_a", vjp="fail", linearity="interrupt"), source("test_b", vjp="pass"))
    assert check(name, "--html", folder / "page.html").exit_code == 130
    made = read(folder / "page.html")
    assert "The run was interrupted" in made.text
    assert "the gradient of `x` is 2 times the right one" in made.text
    assert "test_b" not in made.text


def test_what_cannot_become_a_page_is_said_before_anything_runs(write, folder, monkeypatch):
    name = write("test_a.py", source("test_a", vjp="crash"))
    done = check(name, "--html", folder / "nowhere" / "page.html")
    assert done.exit_code == 2
    assert "the folder does not exist" in done.stderr
    assert "test_a" not in done.stdout
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    done = check(name, "--html", folder / "page.html")
    assert done.exit_code == 2
    assert 'pip install "gradharness[html]"' in done.stderr
    assert not (folder / "page.html").exists()


def test_the_configured_page_is_written_beside_its_file(write, folder, monkeypatch):
    write("test_a.py", source("test_a", vjp="pass"))
    (folder / "pyproject.toml").write_text('[tool.gradharness]\nhtml = "page.html"\n')
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert check("../test_a.py").exit_code == 0
    assert "1 gradient test passed" in read(folder / "page.html").text


@pytest.fixture
def run(pytester):
    def run(*arguments, module=()):
        if module:
            pytester.makepyfile(test_ops=HEADER + "\n".join(module))
        return pytester.runpytest_inprocess(*LOAD, *PLAIN, "--gradharness-no-store", *arguments)

    return run


MODULE = (
    source("test_wrong", vjp="fail", linearity="pass"),
    source("test_right", vjp="pass", linearity="skipped"),
    source("test_none", vjp="usage"),
    "def test_plain(): pass\n",
)


def test_pytest_writes_one_page_of_all_items(run, pytester):
    done = run("--gradharness-html=page.html", module=MODULE)
    done.stdout.fnmatch_lines(["gradharness: wrote *page.html"])
    made = read(pytester.path / "page.html")
    assert "1 of 2 gradient tests found a wrong gradient" in made.text
    assert "gradharness check test_ops.py::test_wrong --checks vjp" in made.text
    assert len(made.all("details", class_="subject")) == 2
    assert re.search(r"test_ops.py::test_none: .*the example has 2 dims", made.text)


def test_without_the_option_no_page_is_written(run, pytester):
    run(module=MODULE)
    assert not list(pytester.path.glob("*.html"))


def test_collecting_writes_no_page(run, pytester):
    run("--gradharness-html=page.html", "--collect-only", module=MODULE)
    assert not (pytester.path / "page.html").exists()


def test_what_is_expected_to_fail_is_said_to_be(run, pytester):
    marked = source("test_a", "@pytest.mark.xfail(reason='known since May')", vjp="fail")
    run("--gradharness-html=page.html", module=[marked]).assert_outcomes(xfailed=1)
    assert "pytest expects it to fail: known since May" in read(pytester.path / "page.html").text


def test_pytest_refuses_before_the_run(run, pytester, monkeypatch):
    done = run("--gradharness-html=nowhere/page.html", module=MODULE)
    done.stderr.fnmatch_lines(["*nowhere/page.html: the folder does not exist; make it first"])
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    done = run("--gradharness-html=page.html")
    done.stderr.fnmatch_lines(['*pip install "gradharness[[]html[]]"*'])
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_under_xdist_the_controller_writes_what_all_workers_found(pytester, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(test_ops=HEADER + "\n".join(MODULE))
    options = ("-p", "no:cacheprovider", "-n", "2", "--gradharness-no-store", "--gradharness-html=page.html")
    done = pytester.runpytest_subprocess(*LOAD, *options)
    done.stdout.fnmatch_lines(["gradharness: wrote *page.html"])
    made = read(pytester.path / "page.html")
    assert "1 of 2 gradient tests found a wrong gradient" in made.text
    assert len(made.all("details", class_="subject")) == 2
    assert len(made.all("article")) == 1
    assert [p.name for p in pytester.path.glob(".page.html.*")] == []


def test_a_record_of_pytest_is_plain_text(run, pytester):
    """What goes from process to process has to survive any transport."""
    seen = []

    class Spy:
        def pytest_runtest_logreport(self, report):
            seen.append(getattr(report, "gradharness_page", None))

    pytester.makepyfile(test_ops=HEADER + MODULE[0])
    pytester.runpytest_inprocess(
        *LOAD, *PLAIN, "--gradharness-no-store", "--gradharness-html=page.html", plugins=[Spy()]
    )
    found = [one for one in seen if one]
    assert len(found) == 2
    assert json.loads(json.dumps(found)) == found
