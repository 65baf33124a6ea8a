"""What the installed plugin adds to ``pytest --collect-only`` of a project that has no gradient tests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

_FILES = 40
_TESTS = 25
# Hypothesis brings a plugin of its own, which imports hypothesis at the end of a session: left out on both sides.
_LEFT_OUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
_COLLECT = (sys.executable, "-m", "pytest", "--collect-only", "-q", *_LEFT_OUT)
_CONFTEST = """
import sys

def pytest_unconfigure(config):
    loaded = [name for name in ("torch", "hypothesis", "gradharness.api") if name in sys.modules]
    print("plugin:", config.pluginmanager.has_plugin("gradharness"), "loaded:", ",".join(loaded) or "nothing")
"""


def _project(folder: Path) -> None:
    """Plain tests, functions and classes."""
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for number in range(_FILES):
        functions = "".join(f"def test_{i}():\n    assert {i} + 1 == {i + 1}\n\n" for i in range(_TESTS - 5))
        methods = "".join(f"    def test_{i}(self):\n        assert True\n\n" for i in range(5))
        (folder / f"test_{number}.py").write_text(f"{functions}class TestMore:\n{methods}")


def _collect(folder: Path, *more: str) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run([*_COLLECT, *more], cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    return seconds, next(line for line in done.stdout.splitlines() if line.startswith("plugin:"))


def measure(runs: int) -> list[str]:
    """Interleaved runs with and without; the ratio of every pair, and what was imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _project(folder)
        _collect(folder)
        pairs = []
        for number in range(runs):
            # Whoever comes first in a pair comes second in the next one.
            order = ((), ("-p", "no:gradharness"))
            found = {more: _collect(folder, *more) for more in (order if number % 2 else order[::-1])}
            pairs.append((found[order[0]], found[order[1]]))
    ratios = sorted(a[0] / b[0] for a, b in pairs)
    with_it, without = (median(pair[side][0] for pair in pairs) for side in (0, 1))
    return [
        f"{runs} pairs of runs, {_FILES * _TESTS} tests in {_FILES} files",
        f"with {with_it:.2f} s ({pairs[0][0][1]}), without {without:.2f} s ({pairs[0][1][1]})",
        f"median ratio of a pair {median(ratios):.3f}, from {ratios[0]:.3f} to {ratios[-1]:.3f}",
    ]
