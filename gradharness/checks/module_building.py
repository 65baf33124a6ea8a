"""Why a module cannot be built, in words that name the remedy."""

from __future__ import annotations

import re

from gradharness.errors import BuildRaised, first_line
from gradharness.model.verdict import Discrepancy, Fault

# What nn.Module's own __setattr__ and register_… say while its __init__ has not run.
_TOO_EARLY = re.compile(r"before Module\.__init__\(\) call|does not call super\(\).__init__\(\)")
_PARTS = re.compile(r"has no attribute '_(parameters|buffers|modules|non_persistent_buffers_set)'")


def not_built(name: str, error: BuildRaised) -> Discrepancy:
    """What is wrong with a module whose building raised."""
    text = first_line(error.original)
    if _TOO_EARLY.search(text) or _PARTS.search(text):
        detail = (
            f"{name} cannot be used: {text}; call super().__init__() first, in the first line of its __init__, since "
            "parameters, buffers and submodules are registered in what it makes"
        )
        return Discrepancy(label=name, fault=Fault.NOT_INITIALISED, detail=detail)
    detail = (
        f"building {name} raises {type(error.original).__name__}: {text}; mend its __init__, or give check a factory "
        f"that builds it, such as module(lambda: {name}(…))"
    )
    return Discrepancy(label=name, fault=Fault.BUILD_RAISES, detail=detail)
