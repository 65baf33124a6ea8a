"""Which catalogue op makes a call that was seen in a model: found by name, believed where it gives the same bits."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from gradharness.model.subject import Tensors
from gradharness.numerics import tree
from gradharness.programs.catalogue import Catalogue
from gradharness.programs.op import Op, Parameters, Shape
from gradharness.programs.opaque import OpaqueCall, Operand

_CHOICES = 64
_OPERATORS = {
    "Add": "add",
    "Sub": "sub",
    "Mult": "mul",
    "Div": "truediv",
    "Pow": "pow",
    "MatMult": "matmul",
    "USub": "neg",
}
_ALIKE = {"truediv": "div", "negative": "neg", "multiply": "mul", "subtract": "sub", "divide": "div", "view": "reshape"}


@dataclass(frozen=True, slots=True)
class _Pattern:
    """How an op's code calls its function: operands by number, parameters by name.

    Attributes:
        op: The op.
        positional: In order.
        keywords: By keyword.
    """

    op: Op
    positional: tuple[int | str, ...]
    keywords: Mapping[str, int | str]

    def given(self, call: OpaqueCall) -> dict[str, Any] | None:
        """The parameters that the call names; None where it has another form."""
        slots = [*self.positional, *self.keywords.values()]
        if len(call.arguments) > len(slots):
            return None
        pairs = list(zip(slots, call.arguments, strict=False))
        for keyword, value in call.keywords.items():
            pairs.append((self.keywords.get(keyword, keyword), value))
        operands = [value for slot, value in pairs if isinstance(slot, int) and value == Operand(slot)]
        named = [(slot, value) for slot, value in pairs if isinstance(slot, str)]
        if len(operands) != self.op.arity or len(operands) + len(named) != len(pairs):
            return None
        plain = len(dict(named)) == len(named) and all(_is_plain(value) for _, value in named)
        return dict(named) if plain else None


def recognised(
    call: OpaqueCall, operands: Sequence[torch.Tensor], results: Tensors, ops: Catalogue
) -> tuple[Op, Parameters] | None:
    """The op that repeats the call bit for bit, and its parameters; None where there is none.

    Args:
        call: Its operands numbered from 0 on.
        operands: Their values.
        results: What came out.
        ops: Where to look.
    """
    shapes = [tuple(x.shape) for x in operands]
    for pattern in _patterns(ops).get(_plain_name(call.name), ()):
        given = pattern.given(call)
        if given is None:
            continue
        for parameters in _completed(pattern.op, shapes, given):
            if _repeats(pattern.op, operands, parameters, results):
                return pattern.op, parameters
    return None


def _completed(op: Op, shapes: Sequence[Shape], given: Mapping[str, Any]) -> Iterator[Parameters]:
    """The parameters of the call, with each of the op's own choices for those that it leaves out."""
    seen: list[Parameters] = []
    for choice in range(_CHOICES):
        menu = op.parameters(shapes, choice)
        if menu is None or not set(given) <= set(menu):
            return
        parameters = {**menu, **given}
        if parameters not in seen:
            seen.append(parameters)
            yield parameters


def _repeats(op: Op, operands: Sequence[torch.Tensor], parameters: Parameters, results: Tensors) -> bool:
    try:
        again = op.run(operands, parameters)
    except Exception:  # parameters of another form than the op's own
        return False
    return len(again) == len(results) and all(_same(a, b) for a, b in zip(again, results, strict=True))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _is_plain(value: object) -> bool:
    return all(v is None or isinstance(v, bool | int | float | str) for _, v in tree.leaves(value))


def _plain_name(name: str) -> str:
    name = name.rpartition(".")[2]
    return _ALIKE.get(name, name)


@lru_cache(maxsize=8)
def _patterns(ops: Catalogue) -> dict[str, list[_Pattern]]:
    """The ops whose code is one plain call, by the name of what is called."""
    found: dict[str, list[_Pattern]] = {}
    for op in ops.ops:
        name, pattern = _pattern(op)
        if pattern is not None and name and not op.in_place:
            found.setdefault(_plain_name(name), []).append(pattern)
    return found


def _pattern(op: Op) -> tuple[str, _Pattern | None]:
    try:
        text = string.Formatter().vformat(op.code, tuple(f"_{i}" for i in range(op.arity)), _Echo())
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, KeyError, IndexError):  # code that is more than one call with named parameters
        return "", None
    if isinstance(node, ast.BinOp):
        sides = _slots([node.left, node.right], op.arity)
        return _OPERATORS.get(type(node.op).__name__, ""), None if sides is None else _Pattern(op, sides, {})
    if isinstance(node, ast.UnaryOp):
        one = _slots([node.operand], op.arity)
        return _OPERATORS.get(type(node.op).__name__, ""), None if one is None else _Pattern(op, one, {})
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return "", None
    method = [node.func.value] if _slots([node.func.value], op.arity) is not None else []
    positional = _slots([*method, *node.args], op.arity)
    keywords = _slots([k.value for k in node.keywords], op.arity)
    if positional is None or keywords is None:
        return "", None
    named = {str(k.arg): slot for k, slot in zip(node.keywords, keywords, strict=True)}
    return node.func.attr, _Pattern(op, positional, named)


def _slots(nodes: Sequence[ast.expr], arity: int) -> tuple[int | str, ...] | None:
    """Operands by number and parameters by name; None where one of the expressions is neither."""
    operands = {f"_{i}": i for i in range(arity)}
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    if len(names) != len(nodes) or "torch" in names:
        return None
    return tuple(operands.get(name, name) for name in names)


class _Echo(dict[str, str]):
    """Every parameter is written as its own name."""

    def __missing__(self, key: str) -> str:
        return key
