"""``# gradharness: no-test REASON`` on the line of a class, and the same in ``pyproject.toml``."""

from __future__ import annotations

import difflib
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gradharness.audit.definitions import Definition, Exemption, short
from gradharness.audit.scopes import ClassSource, ModuleSource
from gradharness.model.reach import BackwardKind

CONFIG = "[tool.gradharness.audit]"
_COMMENT = re.compile(r"#\s*gradharness\s*:\s*(?P<word>no\s?[-_ ]?tests?)(?P<reason>\W.*|$)", re.IGNORECASE)
_WORD = "no-test"
_REMEDY = "write '# gradharness: no-test REASON'"


@dataclass(frozen=True, slots=True)
class _Comment:
    line: int
    word: str
    reason: str


def from_comments(
    definitions: Sequence[Definition], module: ModuleSource
) -> tuple[tuple[Definition, ...], tuple[str, ...]]:
    """The definitions of one module with what its comments say, and what is wrong with these comments."""
    mistakes, said = [], list(definitions)
    headers = [_header(d, module) for d in definitions]
    for comment in _comments(module.text):
        place = f"{short(module.path)}, line {comment.line}"
        here = [i for i, (first, last) in enumerate(headers) if first <= comment.line <= last]
        if comment.word != _WORD:
            mistakes.append(f"{place}: {comment.word!r} in an exemption: {_REMEDY}")
        elif not comment.reason:
            mistakes.append(f"{place}: an exemption without a reason: {_REMEDY}")
        elif not here:
            mistakes.append(
                f"{place}: an exemption of nothing: put it on the line of a class (or op) with a hand-written backward"
            )
        for i in here if comment.word == _WORD and comment.reason else ():
            said[i] = replace(said[i], exemption=Exemption(reason=comment.reason, place=place))
    return tuple(said), tuple(mistakes)


def from_config(
    definitions: Sequence[Definition], exempt: Mapping[str, str], path: str
) -> tuple[tuple[Definition, ...], tuple[str, ...]]:
    """The same for a table from the names of definitions to reasons."""
    mistakes = []
    known = {d.name for d in definitions}
    for name, reason in exempt.items():
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "it names nothing that is audited; remove it"
            mistakes.append(f"{path}, {CONFIG}: unknown exemption {name!r}: {hint}")
        elif not reason.strip():
            mistakes.append(f"{path}, {CONFIG}: the exemption of {name!r} has no reason: write why it needs no test")
    reasons = {name: Exemption(reason=r.strip(), place=path) for name, r in exempt.items() if r.strip()}
    said = (replace(d, exemption=d.exemption or reasons.get(d.name)) for d in definitions)
    return tuple(said), tuple(mistakes)


def _comments(text: str) -> Iterator[_Comment]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        found = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
        if found:
            yield _Comment(token.start[0], found["word"], found["reason"].strip(" \t:,;.-–—"))


def _header(definition: Definition, module: ModuleSource) -> tuple[int, int]:
    """The lines on which a comment means this definition: those before its body."""
    if definition.kind is BackwardKind.OP:
        return definition.line, definition.last
    node = next(c.node for c in module.classes if _is(c, definition))
    first = min((d.lineno for d in node.decorator_list), default=node.lineno)
    return first, max(node.lineno, node.body[0].lineno - 1)


def _is(cls: ClassSource, definition: Definition) -> bool:
    return cls.node.lineno == definition.line and cls.qualname == definition.qualname
