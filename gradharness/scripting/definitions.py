"""How a stand-alone script gets at a function, a class or a value: by import where it can, else by its source."""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch

from gradharness.scripting.literal import FILL_IN, literal

# Around what is copied because it cannot be imported.
COPIED = "# --- copied: the subject's own source ---"
COPY_ENDS = "# --- end of the copy ---"
_MOST_ELEMENTS = 256  # of a tensor that a function refers to


class NoSourceError(Exception):
    """A script cannot get at some object; somebody has to say how."""


class Definitions:
    """Lines that import or define what a script uses, each once, dependencies first."""

    def __init__(self) -> None:
        self.imports: list[str] = []
        self.bodies: list[str] = []
        self._known: dict[int, str] = {}
        self._held: list[object] = []  # keeps what ``_known`` names by its id alive
        self._names: dict[str, int] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them, a text of several lines split; marks stand around what is copied."""
        bodies = (COPIED, *self.bodies, COPY_ENDS) if self.bodies else ()
        return tuple(line for text in (*self.imports, *bodies) for line in text.splitlines())

    @property
    def names(self) -> frozenset[str]:
        """Names that are taken."""
        return frozenset(self._names)

    def expression(self, value: Any, name: str) -> str:
        """What the script calls a value by.

        Args:
            value: A function, a class, or what such refers to.
            name: For what has none of its own.

        Raises:
            NoSourceError: If it can neither be imported nor written out.
        """
        owner = getattr(value, "__self__", None)
        if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
            return f"{self.expression(owner, name)}.{value.__name__}"
        if id(value) in self._known:
            return self._known[id(value)]
        found = of_torch(value) or self._imported(value)
        return found or self._written(value, name)

    def define(self, name: str, value: Any) -> None:
        """Makes the script know a value by a given name.

        Raises:
            NoSourceError: As above, or if the name is another value's.
        """
        if self._names.get(name, id(value)) != id(value):
            raise NoSourceError(name)
        if name in self._names:
            return
        if isinstance(value, ModuleType):
            self._take(name, value)
            self._import(f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}"))
            return
        expression = self.expression(value, name)
        if expression != name:
            self._take(name, value)
            self.bodies.append(f"{name} = {expression}")

    def _take(self, name: str, value: object) -> None:
        if self._names.get(name, id(value)) != id(value):
            raise NoSourceError(name)
        self._names[name] = id(value)
        self._held.append(value)

    def _import(self, *lines: str) -> None:
        self.imports.extend(line for line in lines if line not in self.imports)

    def _imported(self, value: Any) -> str | None:
        target = inspect.unwrap(value) if isinstance(value, FunctionType) else value
        target = getattr(target, "_init_fn", target)  # what a custom op was made of, and is named after
        found = _place(value) or _place(target)
        lines = import_lines(target, found.partition(".")[0]) if found else ()
        if not found or not lines:
            return None
        root = found.partition(".")[0]
        self._take(root, getattr(sys.modules[target.__module__], root))
        self._import(*lines)
        self._known[id(value)] = found
        return found

    def _written(self, value: Any, name: str) -> str:
        if isinstance(value, (type, FunctionType)):
            if "<" in value.__name__ or not value.__name__.isidentifier():
                text, own = _lambda(value), name
            else:
                text, own = _source(value), value.__name__
            self._take(own, value)
            self._known[id(value)] = own
            self._depend(text, value)
            self.bodies.append(text if text.startswith(("def ", "class ", "@")) else f"{own} = {text}")
            return own
        text = literal(value)
        large = isinstance(value, torch.Tensor) and value.numel() > _MOST_ELEMENTS
        if FILL_IN in text or large or isinstance(value, torch.nn.Parameter):
            raise NoSourceError(name)
        return text

    def _depend(self, text: str, value: type | FunctionType) -> None:
        """Defines what a source refers to."""
        cells, scope = _surroundings(value)
        for name in sorted(_free_names(text)):
            if name in ("torch", "sys", "__class__", "__name__") or self._names.get(name) == id(value):
                continue
            if name in cells:
                self.define(name, cells[name])
            elif name in scope:
                self.define(name, scope[name])
            elif not hasattr(builtins, name):
                raise NoSourceError(name)


def of_torch(value: Any) -> str | None:
    """Torch's own name of something, such as ``torch.nn.functional.silu``; ``torch`` alone has to be imported."""
    module = getattr(value, "__module__", None)
    module = "torch" if module in (None, "torch._C", "torch._C._VariableFunctions") else module
    name = getattr(value, "__name__", "")
    for path in (f"{module}.{name}", f"torch.nn.functional.{name}", f"torch.nn.{name}", f"torch.{name}"):
        if path.startswith("torch.") and name.isidentifier() and _follow(torch, path[len("torch.") :]) is value:
            return path
    return None


def import_lines(obj: object, name: str) -> tuple[str, ...]:
    """Lines that import ``name`` from the module that defines ``obj``; empty if that has no file."""
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if module is None or file is None or not hasattr(module, name):
        return ()
    path = Path(file).resolve()
    parts = module.__name__.split(".")
    stem = path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
    if list(stem[-len(parts) :]) != parts:  # loaded by its path: __main__, or under a name made up
        parts = [path.stem]
    if not all(part.isidentifier() for part in parts):
        return ()
    folder = Path(*stem[: -len(parts)])
    return (f"sys.path.insert(0, {str(folder)!r})", f"from {'.'.join(parts)} import {name}")


def _follow(start: object, path: str) -> object:
    for part in path.split("."):
        start = getattr(start, part, None)
    return start


def _place(value: Any) -> str | None:
    """Dotted name of an object in the module that defines it; None for what is local and has no name there."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None:
        return None
    name = getattr(value, "__qualname__", "<unknown>")
    if "<" not in name:
        found: Any = _follow(module, name)
        # The decorated test's name is the test; the function that it was made of is the subject.
        if getattr(type(found), "__gradharness__", False) and getattr(found, "function", None) is value:
            return f"{name}.function"
        if getattr(found, "__gradharness_rule__", False) and getattr(found, "__wrapped__", None) is value:
            return name  # a rule is called as its VJP is
        if found is value or getattr(found, "_init_fn", None) is value or inspect.unwrap(found or len) is value:
            return name
        return None
    return next((known for known, held in vars(module).items() if held is value and known.isidentifier()), None)


# --- what is written out ---------------------------------------------------------------------------------------------


def _source(value: type | FunctionType) -> str:
    """Source of a local function or class, without its docstrings, comments and empty lines."""
    try:
        text = textwrap.dedent(inspect.getsource(value))
        node = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise NoSourceError(value.__name__) from error
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or any(_is_nonlocal(n) for n in ast.walk(node)):
        raise NoSourceError(value.__name__)
    node.decorator_list = [d for d in node.decorator_list if "gradient_test" not in ast.unparse(d)]
    lines = text.splitlines()
    dropped = {n for start, end in _docstrings(node) for n in range(start, end + 1)}
    first = min((d.lineno for d in node.decorator_list), default=node.lineno)
    kept = (line for n, line in enumerate(lines, 1) if first <= n and n not in dropped)
    return "\n".join(line for line in kept if line.strip() and not line.strip().startswith("#"))


def _is_nonlocal(node: ast.AST) -> bool:
    return isinstance(node, (ast.Nonlocal, ast.Global))


def _docstrings(node: ast.AST) -> Iterator[tuple[int, int]]:
    """First and last line of each docstring that has a statement after it."""
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(inner) and len(inner.body) > 1:
            yield inner.body[0].lineno, inner.body[0].end_lineno or inner.body[0].lineno


def lambda_node(function: object) -> ast.Lambda | None:
    """The syntax of a lambda, found by its place in its file; None for anything else."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or code.co_name != "<lambda>":
        return None
    try:
        tree = ast.parse("".join(inspect.findsource(code)[0]))
    except (OSError, TypeError, SyntaxError):
        return None
    # Several may stand on a line, one within another: the instructions of this one cover its body.
    places = [p for p in code.co_positions() if None not in p and p[0:4:2] != p[1:4:2]]
    first = min((p[0], p[2]) for p in places) if places else None
    last = max((p[1], p[3]) for p in places) if places else None
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            body = node.body
            if (body.lineno, body.col_offset) == first and (body.end_lineno, body.end_col_offset) == last:
                return node
    return None


def _lambda(value: Any) -> str:
    node = lambda_node(value)
    if node is None:
        raise NoSourceError("lambda")
    return ast.unparse(node)


def _surroundings(value: type | FunctionType) -> tuple[dict[str, object], dict[str, Any]]:
    """What the functions of an object have for free variables, and their globals."""
    functions = [*_functions(value)]
    cells: dict[str, object] = {}
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                cells[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    if isinstance(value, type):
        cells.update((base.__name__, base) for base in value.__bases__ if "<" in base.__qualname__)
    scope = functions[0].__globals__ if functions else vars(sys.modules.get(value.__module__, builtins))
    return cells, scope


def _functions(value: Any) -> Iterator[FunctionType]:
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, type):
        for member in vars(value).values():
            plain: Callable[..., object] = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(plain, FunctionType):
                yield inspect.unwrap(plain)
                yield from [plain] if inspect.unwrap(plain) is not plain else []


def _free_names(text: str) -> set[str]:
    """Names that a source refers to and does not define."""

    def walk(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            outside = symbol.is_global() or table.get_type() == "module"
            if outside and symbol.is_referenced() and not (table.get_type() == "module" and symbol.is_assigned()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from walk(child)

    return {*walk(symtable.symtable(text, "<source>", "exec"))}
