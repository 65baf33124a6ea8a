"""Functions and plain classes with a backward, told from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradharness.audit.definitions import Definition
from gradharness.audit.resolution import FUNCTION_BASES, Index
from gradharness.audit.scopes import AnyFunction, Binding, ClassSource, FunctionSource, ModuleSource
from gradharness.model.reach import BackwardKind

ABSTRACT = "abstract: it has no forward"
NO_BACKWARD = "it has no backward of its own or inherited"


def class_definitions(index: Index, module: ModuleSource) -> Iterator[Definition]:
    """All Functions of a module, those that ask for no test with their reason, and all plain classes that ask."""
    for cls in module.classes:
        forward, backward = _written(index, cls, "forward"), _has_backward(index, cls)
        if _is_function(index, cls):
            reason = "" if forward and backward else NO_BACKWARD if forward else ABSTRACT
            yield _definition(index, cls, BackwardKind.FUNCTION, reason)
        elif forward and backward and _is_audited(index, cls) and not _is_protocol(index, cls):
            yield _definition(index, cls, BackwardKind.CLASS, "")


def is_abstract(node: AnyFunction) -> bool:
    """Whether a function only says that somebody else has to write it."""
    if any(ast.unparse(d).rpartition(".")[2] in ("abstractmethod", "overload") for d in node.decorator_list):
        return True
    body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    body = [s for s in body if not isinstance(s, ast.Pass)]
    return all(isinstance(s, ast.Raise) and s.exc is not None and _not_implemented(s.exc) for s in body)


def _not_implemented(raised: ast.expr) -> bool:
    name = raised.func if isinstance(raised, ast.Call) else raised
    return ast.unparse(name).rpartition(".")[2] == "NotImplementedError"


def _is_function(index: Index, cls: ClassSource) -> bool:
    foreign = index.foreign(cls)
    if FUNCTION_BASES.intersection(foreign):
        return True
    # A base that is computed: what looks like a Function is taken for one.
    both = (index.methods(cls, "forward"), index.methods(cls, "backward"))
    return "?" in foreign and all(_is_static(binding) for binding in both)


def _is_static(binding: Binding | None) -> bool:
    return isinstance(binding, FunctionSource) and any(
        isinstance(d, ast.Name) and d.id == "staticmethod" for d in binding.node.decorator_list
    )


def _is_audited(index: Index, cls: ClassSource) -> bool:
    """Whether its backward is written in what is audited, and not in a framework that it inherits from."""
    owner = index.owner(cls, "backward")
    return owner is not None and index.audited.get(owner.scope.module.name) is owner.scope.module


def _is_protocol(index: Index, cls: ClassSource) -> bool:
    bases = (m for base in cls.node.bases for m in index.meanings(base, cls.scope))
    return any(getattr(m, "name", "").rpartition(".")[2] == "Protocol" for m in bases)


def _has_backward(index: Index, cls: ClassSource) -> bool:
    return _written(index, cls, "backward") or (_is_function(index, cls) and _written(index, cls, "vjp"))


def _written(index: Index, cls: ClassSource, name: str) -> bool:
    """Whether a class has a method that does something."""
    found = index.methods(cls, name)
    return found is not None and not (isinstance(found, FunctionSource) and is_abstract(found.node))


def _definition(index: Index, cls: ClassSource, kind: BackwardKind, reason: str) -> Definition:
    module = cls.scope.module
    return Definition(
        name=f"{module.name}.{cls.qualname}",
        qualname=cls.qualname,
        kind=kind,
        path=module.path,
        line=cls.node.lineno,
        last=cls.node.end_lineno or cls.node.lineno,
        module=module.name,
        local=cls.scope.is_local,
        bases=tuple(f"{c.scope.module.name}.{c.qualname}" for c in index.lineage(cls)[1:]),
        left_out=reason,
    )
