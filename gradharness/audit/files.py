"""From a package's name, a folder or a file to source files and the names of their modules, without an import."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradharness.errors import LoadError

SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file, and the name under which its module is imported."""

    path: Path
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is audited.

    Attributes:
        files: In order of their paths.
        root: The folder from which the modules are imported by their names.
    """

    files: tuple[SourceFile, ...]
    root: Path


def find_sources(text: str) -> Sources:
    """The files behind PACKAGE, FOLDER or FILE.

    Raises:
        LoadError: There is nothing of that name.
    """
    path = Path(text)
    if path.is_file():
        if path.suffix != ".py":
            raise LoadError(f"{text} is not a Python file: give a package, a folder or a .py file")
        return _gathered(text, path.resolve(), _root(path.resolve().parent))
    if path.is_dir():
        return _gathered(text, path.resolve(), _root(path.resolve()))
    if not all(part.isidentifier() for part in text.split(".")):
        raise LoadError(f"{text}: no such file or folder{_guess(text)}")
    found = locate(text, (Path.cwd(),))
    if found is None:
        raise LoadError(f"there is no package, folder or file {text!r}{_guess(text)}")
    if found.is_file() and found.suffix != ".py":
        raise LoadError(f"{text} is {found.name}, which has no source to look at: give what is written in Python")
    return _gathered(text, found, found.parents[text.count(".")])


def locate(module: str, roots: Sequence[Path]) -> Path | None:
    """The file of a module, or the folder of a package; None if there is none. Imports nothing."""
    first, *rest = module.split(".")
    for place in [_below(root, first) for root in roots] + [_installed(first)]:
        for part in rest:
            place = None if place is None or not place.is_dir() else _below(place, part)
        if place is not None:
            return place.resolve()
    return None


def _below(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.py")
    if (candidates[0] / "__init__.py").is_file():
        return candidates[0]
    if candidates[1].is_file():
        return candidates[1]
    return candidates[0] if candidates[0].is_dir() and name.isidentifier() else None


def _installed(name: str) -> Path | None:
    """A top-level name, for which ``find_spec`` imports nothing."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in SKIPPED_FOLDERS and not _venv(root, f)]
        yield from (Path(root, file) for file in files if file.endswith(".py"))


def _venv(root: str, folder: str) -> bool:
    return Path(root, folder, "pyvenv.cfg").exists()


def _gathered(text: str, top: Path, root: Path) -> Sources:
    files = sorted(_walk(top)) if top.is_dir() else [top]
    if not files:
        raise LoadError(f"{text} has no Python file in it: give a package, a folder or a .py file")
    return Sources(files=tuple(SourceFile(path=f, module=_module(f, root)) for f in files), root=root)


def _root(folder: Path) -> Path:
    """The folder from which modules in ``folder`` are imported: itself, or the one that holds its package."""
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _guess(text: str) -> str:
    """``: did you mean …?``, from what lies where it was looked for."""
    path = Path(text)
    folder = path.parent if path.parent.is_dir() else Path.cwd()
    names = {p.name for p in folder.iterdir() if not p.name.startswith(".") and (p.is_dir() or p.suffix == ".py")}
    names |= {name.removesuffix(".py") for name in names}
    names |= {name for name in sys.modules if "." not in name and not name.startswith("_")}
    close = difflib.get_close_matches(path.name, sorted(names), n=1)
    hint = "give an importable package, a folder or a .py file"
    return f": did you mean {str(path.parent / close[0])!r}?" if close else f": {hint}"
