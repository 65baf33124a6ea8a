"""The user's files and modules, imported, with one line in place of a traceback where that fails."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from gradharness.errors import LoadError, first_line


def load_file(path: Path) -> ModuleType:
    """Import a file under a name of its own; its folder is first on ``sys.path`` meanwhile, so that siblings import.

    The module stays in ``sys.modules``: dataclasses and pickle look there.

    Raises:
        LoadError: The file does not import.
    """
    path = path.resolve()
    name = f"gradharness_target_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file: give a .py file or a folder")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _first_on_path(path.parent), _one_line(str(_short(path)), path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_module(name: str) -> ModuleType:
    """Import a module by its name, the current folder first.

    Raises:
        LoadError: The module does not import.
    """
    with _first_on_path(Path.cwd()), _one_line(f"module {name!r}", None):
        return importlib.import_module(name)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        # The imported code may have edited the path itself.
        if entry in sys.path:
            sys.path.remove(entry)


@contextmanager
def _one_line(what: str, path: Path | None) -> Iterator[None]:
    """Turn whatever the user's code raises, a call of ``sys.exit`` included, into a LoadError of one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        place = _line(error, path)
        text = f"exits with status {error.code!r}" if isinstance(error, SystemExit) else _described(error)
        remedy = (
            "guard what runs with `if __name__ == '__main__'`" if isinstance(error, SystemExit) else "-v shows where"
        )
        raise LoadError(f"cannot import {what}{place}: {text}; {remedy}") from error


def _described(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return f"{type(error).__name__}: {first_line(error)}"


def _line(error: BaseException, path: Path | None) -> str:
    """``, line 3``: where in the user's own file it went wrong."""
    if path is None:
        return ""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
