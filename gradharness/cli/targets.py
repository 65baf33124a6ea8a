"""From what stands on the command line to gradient tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

from gradharness.cli.loading import load_file, load_module
from gradharness.errors import LoadError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from gradharness.api import GradientTest

MARK = "gradient_test"
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "build", "dist", "site-packages"}


@dataclass(frozen=True, slots=True)
class Target:
    """A gradient test, and what ``gradharness check`` takes to find it again."""

    address: str
    test: GradientTest


@dataclass(frozen=True, slots=True)
class Found:
    """What the targets of a command line lead to.

    Attributes:
        targets: The gradient tests, each once.
        errors: Why some targets lead to nothing.
    """

    targets: tuple[Target, ...]
    errors: tuple[UsageError, ...]


def resolve(texts: tuple[str, ...]) -> Found:
    """All gradient tests that the texts name. One that leads nowhere does not stop the others."""
    targets: dict[str, Target] = {}
    errors: list[UsageError] = []
    for text in texts:
        try:
            for found in _resolve(text):
                if isinstance(found, Target):
                    targets.setdefault(_identity(found.test), found)
                else:
                    errors.append(found)
        except UsageError as error:
            errors.append(error)
    return Found(tuple(targets.values()), tuple(errors))


def _resolve(text: str) -> Iterator[Target | UsageError]:
    path_text, double_colon, name = text.partition("::")
    path = Path(path_text)
    if path.is_dir():
        if double_colon:
            raise LoadError(f"{text}: {path_text} is a folder: name a file before '::'")
        yield from _in_folder(path)
    elif path.is_file():
        yield from _in_file(path, name)
    elif not double_colon and ":" in text and os.sep not in text and not text.endswith(".py"):
        yield _attribute(text)
    else:
        raise LoadError(f"{path_text}: no such file or folder: give PATH, PATH::NAME or module:attribute")


def _in_file(path: Path, name: str) -> Iterator[Target]:
    tests = _tests(load_file(path))
    if not tests:
        raise LoadError(f"{path} has no gradient test at module level: decorate a function with @gradient_test")
    if name:
        if name not in tests:
            raise UnknownNameError(f"gradient test in {path}", name, tests)
        tests = {name: tests[name]}
    yield from (Target(f"{path}::{attribute}", test) for attribute, test in tests.items())


def _in_folder(folder: Path) -> Iterator[Target | UsageError]:
    found = False
    for path in sorted(_candidates(folder)):
        found = True
        try:
            yield from (Target(f"{path}::{name}", test) for name, test in _tests(load_file(path)).items())
        except UsageError as error:
            yield error
    if not found:
        raise LoadError(f"{folder} has no Python file that mentions {MARK}: decorate a function with @gradient_test")


def _candidates(folder: Path) -> Iterator[Path]:
    """Python files that may hold a gradient test; others are not imported, since an import may do anything."""
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in SKIPPED_FOLDERS and not _venv(root, f)]
        paths = (Path(root, file) for file in files if file.endswith(".py"))
        yield from (path for path in paths if _may_hold_tests(path))


def _venv(root: str, folder: str) -> bool:
    return Path(root, folder, "pyvenv.cfg").exists()


def _may_hold_tests(path: Path) -> bool:
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    named_as_test = path.name.startswith("test_") or path.stem.endswith("_test")
    return MARK in content or (named_as_test and "gradharness" in content)


def _attribute(text: str) -> Target:
    module_name, _, attribute = text.partition(":")
    module = load_module(module_name)
    value: object = module
    for part in attribute.split("."):
        names = [n for n in dir(value) if not n.startswith("_")]
        if not hasattr(value, part):
            raise UnknownNameError(f"attribute of {module_name}", part, names)
        value = getattr(value, part)
    if not is_gradient_test(value):
        raise LoadError(
            f"{text} is a {type(value).__name__}, not a gradient test: it takes inputs, "
            f"so write a function that calls it and decorate that with @gradient_test"
        )
    return Target(text, value)


def is_gradient_test(value: object) -> TypeGuard[GradientTest]:
    """Whether a value is what ``@gradient_test`` makes, told without importing it."""
    return getattr(type(value), "__gradharness__", False) is True


def _tests(module: ModuleType) -> dict[str, GradientTest]:
    tests = {name: value for name, value in vars(module).items() if is_gradient_test(value)}
    for name, test in tests.items():
        test.named(name)
    return tests


def _identity(test: GradientTest) -> str:
    """The same for a test that was reached on two ways, such as by its own file and by one that imports it."""
    code = getattr(test.function, "__code__", None)
    return str(id(test)) if code is None else f"{code.co_filename}:{code.co_firstlineno}:{test.name}"
