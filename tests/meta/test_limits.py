"""Small files, small functions, few parameters: the limits that keep the package readable in an hour."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 8
# What a user may say of a check is one flat list of keywords, by decision.
PUBLIC = {"check", "gradient_test"}
# Torch's signatures, for whoever changes an import.
PUBLIC |= {"gradcheck", "gradgradcheck"}

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "gradharness").rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from the signature to the end, the docstring not counted."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return lines
    return lines - (first.end_lineno - first.lineno + 1)


def parameters(function: Function) -> int:
    """Number of parameters, the receiver of a method not counted."""
    a = function.args
    named = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    if named and named[0] in ("self", "cls"):
        del named[0]
    return len(named) + (a.vararg is not None) + (a.kwarg is not None)


def breaches(source: str) -> list[str]:
    """One sentence for each limit that a file's source exceeds."""
    found = []
    if (lines := len(source.splitlines())) > FILE_LINES:
        found.append(f"the file has {lines} lines; {FILE_LINES} are allowed")
    for function in functions(source):
        place = f"line {function.lineno}, {function.name}"
        if (lines := length(function)) > FUNCTION_LINES:
            found.append(f"{place}: {lines} lines; {FUNCTION_LINES} are allowed")
        if (count := parameters(function)) > PARAMETERS and function.name not in PUBLIC:
            found.append(f"{place}: {count} parameters; {PARAMETERS} are allowed")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_of_the_package_keeps_the_limits(path):
    found = breaches(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


BODY = "    pass\n"
WITHIN = {
    "file": "x = 1\n" * FILE_LINES,
    "function": "def f():\n" + BODY * (FUNCTION_LINES - 1),
    "docstring": 'def f():\n    """One.\n\n    Two.\n    """\n' + BODY * (FUNCTION_LINES - 1),
    "parameters": "def f(a, b, c, d, /, e, *args, g, **kwargs):\n" + BODY,
    "method": "class C:\n    def f(self, a, b, c, d, e, f, g, h): ...\n",
}
BEYOND = {
    "file": "x = 1\n" * (FILE_LINES + 1),
    "function": "def f():\n" + BODY * FUNCTION_LINES,
    "coroutine": "async def f():\n" + BODY * FUNCTION_LINES,
    "nested": "def g():\n    def f(a, b, c, d, e, f, g, h, i): ...\n",
    "parameters": "def f(a, b, c, d, /, e, f, *args, g, **kwargs):\n" + BODY,
}


@pytest.mark.parametrize("source", WITHIN.values(), ids=WITHIN)
def test_source_at_the_limit_is_accepted(source):
    assert breaches(source) == []


@pytest.mark.parametrize("source", BEYOND.values(), ids=BEYOND)
def test_source_beyond_a_limit_is_rejected(source):
    assert len(breaches(source)) == 1
