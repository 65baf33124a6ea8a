"""From what stands on the command line to gradient tests and VJPs under test."""

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
    from gradharness.engine.rules import VjpRule

MARK = "gradient_test"
RULE_MARK = "vjp_of"
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "build", "dist", "site-packages"}


@dataclass(frozen=True, slots=True)
class Target:
    """A gradient test, and what ``gradharness check`` takes to find it again."""

    address: str
    test: GradientTest


@dataclass(frozen=True, slots=True)
class RuleTarget:
    """A VJP under test, and what ``gradharness fuzz`` takes to find it again."""

    address: str
    rule: VjpRule


@dataclass(frozen=True, slots=True)
class Found:
    """What the targets of a command line lead to.

    Attributes:
        targets: The gradient tests, each once.
        errors: Why some targets lead to nothing.
        rules: The VJPs under test, each once, if they were asked for.
    """

    targets: tuple[Target, ...]
    errors: tuple[UsageError, ...]
    rules: tuple[RuleTarget, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command looks for at its targets.

    Attributes:
        rules: Whether VJPs under test count, beside gradient tests.
    """

    rules: bool = False

    @property
    def noun(self) -> str:
        """What there is none of."""
        return "gradient test or VJP under test" if self.rules else "gradient test"

    @property
    def marks(self) -> tuple[str, ...]:
        """Names, one of which a file has to mention."""
        return (MARK, RULE_MARK) if self.rules else (MARK,)

    @property
    def remedy(self) -> str:
        """How to make one."""
        return "decorate a function with " + " or ".join(f"@{mark}" for mark in self.marks)

    def members(self, module: ModuleType) -> dict[str, GradientTest | VjpRule]:
        """What there is of it at the top of a module."""
        found: dict[str, GradientTest | VjpRule] = {}
        for name, value in vars(module).items():
            if is_gradient_test(value):
                value.named(name)
                found[name] = value
            elif self.rules and is_rule(value):
                found[name] = value
        return found


def resolve(texts: tuple[str, ...], *, rules: bool = False) -> Found:
    """All that is wanted of what the texts name. One that leads nowhere does not stop the others."""
    wanted = Wanted(rules)
    targets: dict[str, Target] = {}
    found_rules: dict[int, RuleTarget] = {}
    errors: list[UsageError] = []
    for text in texts:
        try:
            for found in _resolve(text, wanted):
                if isinstance(found, Target):
                    targets.setdefault(_identity(found.test), found)
                elif isinstance(found, RuleTarget):
                    found_rules.setdefault(id(found.rule), found)
                else:
                    errors.append(found)
        except UsageError as error:
            errors.append(error)
    return Found(tuple(targets.values()), tuple(errors), tuple(found_rules.values()))


def _resolve(text: str, wanted: Wanted) -> Iterator[Target | RuleTarget | UsageError]:
    path_text, double_colon, name = text.partition("::")
    path = Path(path_text)
    if path.is_dir():
        if double_colon:
            raise LoadError(f"{text}: {path_text} is a folder: name a file before '::'")
        yield from _in_folder(path, wanted)
    elif path.is_file():
        yield from _in_file(path, name, wanted)
    elif not double_colon and ":" in text and os.sep not in text and not text.endswith(".py"):
        yield _attribute(text, wanted)
    else:
        raise LoadError(f"{path_text}: no such file or folder: give PATH, PATH::NAME or module:attribute")


def _target(address: str, value: GradientTest | VjpRule) -> Target | RuleTarget:
    return Target(address, value) if is_gradient_test(value) else RuleTarget(address, value)  # type: ignore[arg-type]


def _in_file(path: Path, name: str, wanted: Wanted) -> Iterator[Target | RuleTarget]:
    module = load_file(path)
    members = wanted.members(module)
    if not members:
        hint = "gradharness fuzz runs its VJPs under test, or " if Wanted(rules=True).members(module) else ""
        raise LoadError(f"{path} has no {wanted.noun} at module level: {hint}{wanted.remedy}")
    if name:
        if name not in members:
            raise UnknownNameError(f"{wanted.noun} in {path}", name, members)
        members = {name: members[name]}
    yield from (_target(f"{path}::{attribute}", value) for attribute, value in members.items())


def _in_folder(folder: Path, wanted: Wanted) -> Iterator[Target | RuleTarget | UsageError]:
    found = False
    for path in sorted(_candidates(folder, wanted)):
        found = True
        try:
            members = wanted.members(load_file(path))
            yield from (_target(f"{path}::{name}", value) for name, value in members.items())
        except UsageError as error:
            yield error
    if not found:
        raise LoadError(f"{folder} has no Python file that mentions {' or '.join(wanted.marks)}: {wanted.remedy}")


def _candidates(folder: Path, wanted: Wanted) -> Iterator[Path]:
    """Python files that may hold what is wanted; others are not imported, since an import may do anything."""
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in SKIPPED_FOLDERS and not _venv(root, f)]
        paths = (Path(root, file) for file in files if file.endswith(".py"))
        yield from (path for path in paths if _may_hold(path, wanted))


def _venv(root: str, folder: str) -> bool:
    return Path(root, folder, "pyvenv.cfg").exists()


def _may_hold(path: Path, wanted: Wanted) -> bool:
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    named_as_test = path.name.startswith("test_") or path.stem.endswith("_test")
    return any(mark in content for mark in wanted.marks) or (named_as_test and "gradharness" in content)


def _attribute(text: str, wanted: Wanted) -> Target | RuleTarget:
    module_name, _, attribute = text.partition(":")
    module = load_module(module_name)
    value: object = module
    for part in attribute.split("."):
        names = [n for n in dir(value) if not n.startswith("_")]
        if not hasattr(value, part):
            raise UnknownNameError(f"attribute of {module_name}", part, names)
        value = getattr(value, part)
    if wanted.rules and is_rule(value):
        return RuleTarget(text, value)
    if not is_gradient_test(value):
        raise LoadError(
            f"{text} is a {type(value).__name__}, not a gradient test: it takes inputs, "
            f"so write a function that calls it and decorate that with @gradient_test"
        )
    return Target(text, value)


def is_gradient_test(value: object) -> TypeGuard[GradientTest]:
    """Whether a value is what ``@gradient_test`` makes, told without importing it."""
    return getattr(type(value), "__gradharness__", False) is True


def is_rule(value: object) -> TypeGuard[VjpRule]:
    """Whether a value is what ``@vjp_of`` makes, told without importing it."""
    return getattr(type(value), "__gradharness_rule__", False) is True


def _identity(test: GradientTest) -> str:
    """The same for a test that was reached on two ways, such as by its own file and by one that imports it."""
    code = getattr(test.function, "__code__", None)
    return str(id(test)) if code is None else f"{code.co_filename}:{code.co_firstlineno}:{test.name}"
