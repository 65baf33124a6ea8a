"""The documentation builds without a warning, and its reference has every public name, check and command."""

import subprocess
import sys
from pathlib import Path

import pytest

import gradharness
from gradharness.checks import all_checks
from gradharness.cli.commands import main

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "text", str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_public_name_is_in_the_reference(site):
    page = (site / "reference" / "api.txt").read_text(encoding="utf-8")
    assert not {name for name in gradharness.__all__ if f"gradharness.{name}" not in page}


def test_every_check_and_every_command_is_in_the_reference(site):
    checks = (site / "reference" / "checks.txt").read_text(encoding="utf-8")
    assert not {check.name for check in all_checks() if f'"{check.name}"' not in checks}
    commands = (site / "reference" / "command-line.txt").read_text(encoding="utf-8")
    assert not {name for name in main.commands if f"\n{name}\n" not in commands}
