"""The package and the pytest plugin stay light: a test run without gradient tests pays nothing for them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "hypothesis")


def heavy_after(statement: str) -> list[str]:
    """Which heavy packages a fresh interpreter holds after a statement."""
    code = f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", ["gradharness", "gradharness.pytest_plugin"])
def test_an_import_loads_nothing_heavy(module):
    assert heavy_after(f"import {module}") == []


def test_a_public_name_loads_what_it_needs():
    assert heavy_after("from gradharness import Verdict") == ["torch"]
