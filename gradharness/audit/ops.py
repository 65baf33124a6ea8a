"""Custom ops with a hand-written backward, told from the source: where they are defined, and what gives them one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from gradharness.audit.definitions import Definition
from gradharness.audit.resolution import Dotted, Expression, Index
from gradharness.audit.scopes import FunctionSource, ModuleSource, Scope
from gradharness.model.reach import BackwardKind

NO_BACKWARD = "no backward is registered for it"
_MAKERS = {
    f"torch.{name}"
    for name in (
        "library.custom_op",
        "library.triton_op",
        "_library.custom_op",
        "_library.custom_ops.custom_op",
        "_library.triton_op",
        "_library.triton.triton_op",
    )
}
_DEFINE, _IMPL = "torch.library.define", "torch.library.impl"
_LIBRARIES = {"torch.library.Library", "torch.library._scoped_library"}
_REGISTER = "torch.library.register_autograd"
_Said: TypeAlias = tuple[str, bool, bool]  # name, whether it defines, whether it registers a backward
_MOST_TEXT = 4  # names within names that a literal is put together of


@dataclass(frozen=True, slots=True)
class _Mention:
    """One statement about an op."""

    name: str
    defines: bool
    registers: bool
    node: ast.expr | ast.stmt
    statement: ast.stmt
    module: ModuleSource
    local: bool


def op_definitions(index: Index, modules: Sequence[ModuleSource]) -> tuple[Definition, ...]:
    """Every op that is defined, or given a backward, in some modules; in the order in which that is written."""
    reader = _Reader(index)
    mentions = [mention for module in modules for mention in reader.mentions(module)]
    made: dict[str, Definition] = {}
    for mention in sorted(mentions, key=lambda m: not m.defines):  # where it is defined is its place
        known = made.get(mention.name)
        if known is None:
            made[mention.name] = _definition(mention)
        elif mention.registers:
            made[mention.name] = replace(known, left_out="")
    return tuple(made.values())


def _definition(mention: _Mention) -> Definition:
    header = _header(mention)
    return Definition(
        name=mention.name,
        qualname=mention.name,
        kind=BackwardKind.OP,
        path=mention.module.path,
        line=header[0],
        last=header[1],
        module=mention.module.name,
        local=mention.local,
        left_out="" if mention.registers else NO_BACKWARD,
    )


def _header(mention: _Mention) -> tuple[int, int]:
    """Lines on which an exemption may stand: a statement, or all of a definition before its body."""
    node = mention.statement
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.lineno, max(node.lineno, node.body[0].lineno - 1)
    return mention.node.lineno, node.end_lineno or node.lineno


class _Reader:
    """Finds what calls say about ops."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def mentions(self, module: ModuleSource) -> Iterator[_Mention]:
        for call, scope, statement in module.calls:
            for name, defines, registers in self._said(call, scope):
                yield _Mention(name, defines, registers, call, statement, module, scope.is_local)

    def _said(self, call: ast.Call, scope: Scope) -> Iterator[_Said]:
        meant = {m.name for m in self._index.meanings(call.func, scope) if isinstance(m, Dotted)}
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if meant & _MAKERS and call.args:
            yield self._text(call.args[0], scope), True, False
        elif _DEFINE in meant and call.args:
            yield _schema_name(self._text(call.args[0], scope)), True, False
        elif _REGISTER in meant and call.args:
            yield self._op(call.args[0], scope), False, True
        elif _IMPL in meant:
            yield from self._implemented(call, scope)
        elif method == "register_autograd" and isinstance(call.func, ast.Attribute):
            yield self._op(call.func.value, scope), False, True
        elif method in ("define", "impl") and isinstance(call.func, ast.Attribute):
            yield from self._of_library(call, call.func.value, method, scope)

    def _of_library(self, call: ast.Call, owner: ast.expr, method: str, scope: Scope) -> Iterator[_Said]:
        namespace = self._namespace(owner, scope)
        if namespace is None or not call.args:
            return
        name = f"{namespace}::{_schema_name(self._text(call.args[0], scope))}"
        if method == "define":
            yield name, True, False
        elif self._is_autograd(call.args[1:], call.keywords, scope):
            yield name, False, True

    def _implemented(self, call: ast.Call, scope: Scope) -> Iterator[_Said]:
        """``torch.library.impl("ns::op", "Autograd")`` or ``impl(library, "op", "Autograd")``."""
        if not call.args or not self._is_autograd(call.args[1:], call.keywords, scope):
            return
        namespace = self._namespace(call.args[0], scope)
        if namespace is None:
            yield self._op(call.args[0], scope), False, True
        elif len(call.args) > 1:
            yield f"{namespace}::{self._text(call.args[1], scope)}", False, True

    def _is_autograd(self, arguments: Sequence[ast.expr], keywords: Sequence[ast.keyword], scope: Scope) -> bool:
        values = (*arguments, *(k.value for k in keywords))
        return any(self._text(v, scope).startswith("Autograd") for v in values if not isinstance(v, ast.Call))

    def _namespace(self, node: ast.expr, scope: Scope) -> str | None:
        """That of a ``torch.library.Library``; None for anything else."""
        for meant in self._index.meanings(node, scope):
            made = meant.node if isinstance(meant, Expression) else None
            if isinstance(made, ast.Call) and isinstance(meant, Expression):
                classes = {m.name for m in self._index.meanings(made.func, meant.scope) if isinstance(m, Dotted)}
                if _LIBRARIES & classes and made.args:
                    return self._text(made.args[0], meant.scope)
        return None

    def _op(self, node: ast.expr, scope: Scope) -> str:
        """The name of an op that is given as a string, as what ``custom_op`` has made, or as ``torch.ops.ns.op``."""
        for meant in self._index.meanings(node, scope):
            if isinstance(meant, Dotted) and meant.name.startswith("torch.ops."):
                return "::".join(meant.name.split(".")[2:4])
            if isinstance(meant, FunctionSource):
                for decorator in meant.node.decorator_list:
                    if isinstance(decorator, ast.Call):
                        return self._made(decorator, meant.scope) or f"*::{meant.node.name}"
            if isinstance(meant, Expression) and isinstance(meant.node, ast.Call):
                inner = meant.node.func  # custom_op(...) returns what makes the op of a function
                made = (meant.node, inner) if isinstance(inner, ast.Call) else (meant.node,)
                name = next(filter(None, (self._made(call, meant.scope) for call in made)), "")
                if name:
                    return name
        text = self._text(node, scope)
        return _schema_name(text) if "::" in text else f"*::{ast.unparse(node).rpartition('.')[2]}"

    def _made(self, call: ast.Call, scope: Scope) -> str:
        return next((name for name, defines, _ in self._said(call, scope) if defines), "")

    def _text(self, node: ast.expr, scope: Scope, depth: int = 0) -> str:
        """A string as far as it is literal, with ``*`` for all else."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else "*"
        if isinstance(node, ast.JoinedStr):
            return "".join(self._text(part, scope, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self._text(node.value, scope, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._text(node.left, scope, depth) + self._text(node.right, scope, depth)
        meant = [m for m in self._index.meanings(node, scope) if isinstance(m, Expression) and m.node is not node]
        if len(meant) == 1 and depth < _MOST_TEXT:
            return self._text(meant[0].node, meant[0].scope, depth + 1)
        return "*"


def _schema_name(text: str) -> str:
    """``op`` of ``op.overload(Tensor x) -> Tensor``."""
    return text.partition("(")[0].partition(".")[0].strip()
