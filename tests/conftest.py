"""Fixtures of the tests of the command line: a folder of one's own, and files in it."""

import sys

import pytest

FAKE = "from tests.fakes import gradient_test\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)  # there, findings are annotated
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("gradharness_target_") or getattr(sys.modules[name], "__file__", None) is None:
            continue
        if str(sys.modules[name].__file__).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(folder):
    def write(name, *parts, fake=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((FAKE if fake else "") + "\n\n".join(parts))
        return name

    return write
