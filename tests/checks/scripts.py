"""A module of subjects, right or wrong, and the reproducers of what a check says of them."""

import importlib
import io
import sys
from contextlib import redirect_stdout

import pytest

from gradharness import check

NAME = "subjects_of_a_script"


@pytest.fixture
def status(tmp_path, monkeypatch):
    """Writes a module twice, the wrong one first, and gives the exit statuses of the wrong one's reproducer."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"{NAME}.py"

    def load(text):
        path.write_text("import torch\n\n" + text)
        sys.modules.pop(NAME, None)
        importlib.invalidate_caches()
        return importlib.import_module(NAME)

    def run(source):
        sys.modules.pop(NAME, None)
        before = list(sys.path)
        try:
            with redirect_stdout(io.StringIO()):
                exec(compile(source, "repro.py", "exec"), {"__name__": "__main__"})
        except SystemExit as end:
            return end.code
        except Exception as error:
            return f"raised {type(error).__name__}"
        finally:
            sys.path[:] = before
        raise AssertionError("a script ends by sys.exit")

    def statuses(wrong, right, inputs, name, subject="subject"):
        module = load(wrong)
        finding = check(getattr(module, subject), inputs(), checks=(name,), seed=0).findings[0]
        first = run(finding.reproducer)
        load(right)
        second = run(finding.reproducer)
        sys.modules.pop(NAME, None)
        return first, second

    return statuses
