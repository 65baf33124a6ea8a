"""How the stand-alone script of a finding gets at a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from gradharness.report.reproduction import SubjectSource, identifier, source_of
from gradharness.subjects.module_function import ModuleFunction


def module_source(function: ModuleFunction, names: Sequence[str]) -> SubjectSource:
    """A module that is built anew, called with the arguments' inputs and, in place of its own state, theirs.

    The script has ``build_module()``. Where the module came built, somebody has to say how.
    """
    if isinstance(function.source, nn.Module):
        built = SubjectSource(import_lines=(), call=f"{type(function.source).__name__}(…)")
    else:
        built = source_of(function.source, ())
    mode = "" if function.train is None else f".train({function.train})"
    count = len(names) - len(function.state)
    inputs = "".join(f"{identifier(name)}, " for name in names[:count])
    pairs = zip((held.name for held in function.state), names[count:], strict=True)
    state = ", ".join(f"{held!r}: {identifier(name)}" for held, name in pairs)
    whole = replace(built, call=f"torch.func.functional_call(the_module, {{{state}}}, ({inputs}))")
    if not built.import_lines:
        return replace(whole, call=f"{whole.call}  # the_module = {built.call}{mode}")
    define = ("def build_module():", f"    return {built.call}{mode}", "the_module = build_module()")
    return replace(whole, import_lines=(*built.import_lines, *define))
