"""All hand-written backwards of a package, read from its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradharness.audit.classes import class_definitions
from gradharness.audit.definitions import Definition, Listing, Unread
from gradharness.audit.exemptions import from_comments, from_config
from gradharness.audit.files import Sources
from gradharness.audit.ops import op_definitions
from gradharness.audit.resolution import Index
from gradharness.audit.scopes import ModuleSource


def list_definitions(
    package: str, sources: Sources, *, exempt: Mapping[str, str] | None = None, config: str = ""
) -> Listing:
    """Reads all files. One that cannot be read is told, and does not stop the others.

    Args:
        package: What was asked for.
        sources: Its files.
        exempt: Reasons by names, from a configuration.
        config: Where that stands.
    """
    index = Index((sources.root, Path.cwd()))
    modules: list[ModuleSource] = []
    unread: list[Unread] = []
    for file in sources.files:
        try:
            modules.append(index.add(file))
        except SyntaxError as error:
            unread.append(Unread(path=file.path, reason=f"line {error.lineno}: {type(error).__name__}: {error.msg}"))
        except (OSError, ValueError, RecursionError) as error:
            unread.append(Unread(path=file.path, reason=f"{type(error).__name__}: {error}"))
    ops = op_definitions(index, modules)
    definitions: list[Definition] = []
    mistakes: list[str] = []
    for module in modules:
        own = [*class_definitions(index, module), *(op for op in ops if op.path == module.path)]
        said, wrong = from_comments(sorted(own, key=lambda d: d.line), module)
        definitions += said
        mistakes += wrong
    told, wrong = from_config(definitions, exempt or {}, config)
    return Listing(
        package=package,
        files=sources.files,
        definitions=told,
        unread=tuple(unread),
        mistakes=(*mistakes, *wrong),
    )
