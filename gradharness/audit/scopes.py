"""A module's source as scopes of names: what is defined, imported and given another name, and where."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """``import module`` (name is empty), or ``from module import name``."""

    module: str
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """``name = expression``."""

    expression: ast.expr
    scope: Scope


@dataclass(frozen=True, slots=True, eq=False)
class FunctionSource:
    """A ``def``."""

    node: AnyFunction
    scope: Scope


@dataclass(slots=True, eq=False)
class ClassSource:
    """A ``class``.

    Attributes:
        node: The statement.
        scope: Where it stands.
        qualname: As Python calls it.
        body: The names in it.
    """

    node: ast.ClassDef
    scope: Scope
    qualname: str
    body: Scope


Binding: TypeAlias = Imported | Alias | FunctionSource | ClassSource


@dataclass(slots=True, eq=False)
class Scope:
    """Names of a module, of a class's body or of a function.

    Attributes:
        module: Whose source it is.
        prefix: What stands before the qualified names in it.
        parent: The scope around it; None of a module.
        is_class: Whether inner functions do not see it.
        is_local: Whether it is run with a function.
        names: Several bindings of one name where there are several definitions, as in ``if`` and ``else``.
        stars: Modules all of whose names are imported.
    """

    module: ModuleSource
    prefix: str = ""
    parent: Scope | None = None
    is_class: bool = False
    is_local: bool = False
    names: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def bind(self, name: str, binding: Binding) -> None:
        """Adds a meaning of a name."""
        self.names.setdefault(name, []).append(binding)


@dataclass(slots=True, eq=False)
class ModuleSource:
    """What one file defines.

    Attributes:
        name: The module's name.
        path: Its file.
        text: Its source.
        scope: Its names.
        classes: All classes, however deep, in order.
        functions: All functions, however deep, in order.
        calls: All calls, with the scope and the statement in which they stand.
    """

    name: str
    path: Path
    text: str
    scope: Scope = field(init=False)
    classes: list[ClassSource] = field(default_factory=list)
    functions: list[FunctionSource] = field(default_factory=list)
    calls: list[tuple[ast.Call, Scope, ast.stmt]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scope = Scope(self)

    @property
    def package(self) -> str:
        """From where its relative imports count."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def read_module(name: str, path: Path) -> ModuleSource:
    """Parses a file.

    Raises:
        OSError: It cannot be read.
        SyntaxError: It is not Python.
        ValueError: It is not text.
    """
    data = path.read_bytes()
    tree = ast.parse(data, filename=str(path))
    module = ModuleSource(name, path, _decoded(data))
    _Reader(module).visit(tree)
    return module


def _decoded(data: bytes) -> str:
    import io
    import tokenize

    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding)


class _Reader(ast.NodeVisitor):
    """Walks a module once."""

    def __init__(self, module: ModuleSource) -> None:
        self._module = module
        self._scope = module.scope
        self._statement: ast.stmt | None = None

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self._statement = node
        super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        around = self._scope
        qualname = around.prefix + node.name
        inner = Scope(self._module, f"{qualname}.", around, is_class=True, is_local=around.is_local)
        found = ClassSource(node, around, qualname, inner)
        around.bind(node.name, found)
        self._module.classes.append(found)
        self._outside(node, (*node.decorator_list, *node.bases, *node.keywords))
        self._inside(inner, node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            top = name.name if name.asname else name.name.partition(".")[0]
            self._scope.bind(name.asname or top, Imported(top))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = _absolute(self._module.package, node.level, node.module or "")
        for name in node.names:
            if name.name == "*":
                self._scope.stars.append(module)
            else:
                self._scope.bind(name.asname or name.name, Imported(module, name.name))

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._scope.bind(target.id, Alias(node.value, self._scope))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name) and node.value is not None:
            self._scope.bind(node.target.id, Alias(node.value, self._scope))
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name):
                self._scope.bind(item.optional_vars.id, Alias(item.context_expr, self._scope))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if self._statement is not None:
            self._module.calls.append((node, self._scope, self._statement))
        self.generic_visit(node)

    def _function(self, node: AnyFunction) -> None:
        found = FunctionSource(node, self._scope)
        self._scope.bind(node.name, found)
        self._module.functions.append(found)
        self._outside(node, (*node.decorator_list, node.args))
        prefix = f"{self._scope.prefix}{node.name}.<locals>."
        self._inside(Scope(self._module, prefix, self._scope, is_local=True), node.body)

    def _outside(self, statement: ast.stmt, nodes: Sequence[ast.AST]) -> None:
        self._statement = statement
        for node in nodes:
            self.visit(node)

    def _inside(self, scope: Scope, body: Sequence[ast.stmt]) -> None:
        before, self._scope = self._scope, scope
        for node in body:
            self.visit(node)
        self._scope = before


def _absolute(package: str, level: int, module: str) -> str:
    """The name of the module that a ``from`` with leading dots means."""
    if not level:
        return module
    parts = package.split(".") if package else []
    parts = parts[: len(parts) - level + 1]
    return ".".join([*parts, *([module] if module else [])])
