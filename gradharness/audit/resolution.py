"""What a name in the source means: a class, a function, an expression, or something outside, by its dotted name."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gradharness.audit.files import SourceFile, locate
from gradharness.audit.scopes import (
    Alias,
    Binding,
    ClassSource,
    FunctionSource,
    Imported,
    ModuleSource,
    Scope,
    read_module,
)

FUNCTION_BASES = {
    f"torch.autograd.{name}"
    for name in (
        "Function",
        "function.Function",
        "function.InplaceFunction",
        "function.NestedIOFunction",
        "function.TracedFunction",
        "function._SingleLevelFunction",
    )
}
_NOT_READ = {"torch", "builtins", *sys.stdlib_module_names}  # nothing in there inherits from a Function of a user's


@dataclass(frozen=True, slots=True)
class Dotted:
    """Something outside of what is read, by its full name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A value that is computed."""

    node: ast.expr
    scope: Scope


Meaning: TypeAlias = ClassSource | FunctionSource | Dotted | Expression


@dataclass(slots=True)
class Index:
    """All modules that are read: those that are audited, and those that they inherit from.

    Attributes:
        roots: Folders from which modules are imported.
        audited: By name.
    """

    roots: tuple[Path, ...]
    audited: dict[str, ModuleSource] = field(default_factory=dict)
    _others: dict[str, ModuleSource | None] = field(default_factory=dict)

    def add(self, file: SourceFile) -> ModuleSource:
        """Reads a file that is audited.

        Raises:
            OSError, SyntaxError, ValueError: As ``read_module``.
        """
        module = self.audited[file.module] = read_module(file.module, file.path)
        return module

    def module(self, name: str) -> ModuleSource | None:
        """A module by its name; None for one that is not to be read, or cannot be."""
        if name in self.audited:
            return self.audited[name]
        if name.partition(".")[0] in _NOT_READ or not name:
            return None
        if name not in self._others:
            self._others[name] = self._read(name)
        return self._others[name]

    def meanings(self, node: ast.expr, scope: Scope) -> tuple[Meaning, ...]:
        """What an expression may mean; several where a name is defined several times, none where nobody can tell."""
        return tuple(self._meanings(node, scope, frozenset()))

    def methods(self, cls: ClassSource, name: str) -> Binding | None:
        """What a class has under a name, of its own or inherited from what is read."""
        owner = self.owner(cls, name)
        return None if owner is None else owner.body.names[name][-1]

    def owner(self, cls: ClassSource, name: str) -> ClassSource | None:
        """The class that defines what a class has under a name."""
        return next((c for c in self.lineage(cls) if name in c.body.names), None)

    def lineage(self, cls: ClassSource) -> tuple[ClassSource, ...]:
        """The class, and the classes that it inherits from, about in the order in which methods are looked up."""
        found = [cls]
        for one in found:  # grows while it is walked
            bases = (m for base in one.node.bases for m in self.meanings(base, one.scope))
            found += [m for m in bases if isinstance(m, ClassSource) and m not in found]
        return tuple(found)

    def foreign(self, cls: ClassSource) -> tuple[str, ...]:
        """Full names of the bases outside of what is read; ``?`` for one that nobody can tell."""
        names: list[str] = []
        for one in self.lineage(cls):
            for base in one.node.bases:
                meant = self.meanings(base, one.scope)
                names += [m.name for m in meant if isinstance(m, Dotted)]
                names += [] if meant and not any(isinstance(m, Expression) for m in meant) else ["?"]
        return tuple(names)

    def _read(self, name: str) -> ModuleSource | None:
        path = locate(name, self.roots)
        if path is not None and path.is_dir():
            path = path / "__init__.py"
        if path is None or path.suffix != ".py" or not path.is_file():
            return None
        same = next((m for m in self.audited.values() if m.path == path), None)
        if same is not None:
            return same
        try:
            return read_module(name, path)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None

    def _meanings(self, node: ast.expr, scope: Scope, seen: frozenset[int]) -> Iterator[Meaning]:
        if id(node) in seen:  # a name that is defined by itself
            return
        seen |= {id(node)}
        if isinstance(node, ast.Name):
            yield from self._named(node.id, scope, seen)
        elif isinstance(node, ast.Subscript):  # Base[T]
            yield from self._meanings(node.value, scope, seen)
        elif isinstance(node, ast.Attribute):
            for owner in self._meanings(node.value, scope, seen):
                if isinstance(owner, Dotted):
                    yield from self._dotted(f"{owner.name}.{node.attr}", seen)
                elif isinstance(owner, ClassSource):
                    for binding in owner.body.names.get(node.attr, ()):
                        yield from self._bound(binding, seen)
        else:
            yield Expression(node, scope)

    def _named(self, name: str, scope: Scope, seen: frozenset[int]) -> Iterator[Meaning]:
        around: Scope | None = scope
        while around is not None:
            if name in around.names and (around is scope or not around.is_class):
                yield from self._all(around.names[name], seen)
                return
            around = around.parent
        found = tuple(self._from_stars(name, scope.module.scope.stars, seen))
        yield from found or (Dotted(f"builtins.{name}"),)

    def _from_stars(self, name: str, stars: Sequence[str], seen: frozenset[int]) -> Iterator[Meaning]:
        for star in stars:
            module = self.module(star)
            if module is not None:
                yield from self._of_module(module, name, seen)
            elif f"{star}.{name}" in FUNCTION_BASES:
                yield Dotted(f"{star}.{name}")

    def _dotted(self, name: str, seen: frozenset[int]) -> Iterator[Meaning]:
        owner, _, last = name.rpartition(".")
        module = self.module(owner) if owner else None
        found = tuple(self._of_module(module, last, seen)) if module is not None else ()
        yield from found or (Dotted(name),)

    def _of_module(self, module: ModuleSource, name: str, seen: frozenset[int]) -> Iterator[Meaning]:
        key = hash((id(module), name))
        if key in seen:  # modules that import all names of each other
            return
        seen |= {key}
        if name in module.scope.names:
            yield from self._all(module.scope.names[name], seen)
        else:
            yield from self._from_stars(name, module.scope.stars, seen)

    def _all(self, bindings: Sequence[Binding], seen: frozenset[int]) -> Iterator[Meaning]:
        for binding in bindings:
            yield from self._bound(binding, seen)

    def _bound(self, binding: Binding, seen: frozenset[int]) -> Iterator[Meaning]:
        if id(binding) in seen:  # modules that import from each other
            return
        seen |= {id(binding)}
        if isinstance(binding, Imported):
            yield from self._dotted(".".join(filter(None, (binding.module, binding.name))), seen)
        elif isinstance(binding, Alias):
            yield from self._meanings(binding.expression, binding.scope, seen)
        else:
            yield binding
