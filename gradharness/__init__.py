"""Property-based tests for hand-written backward code in PyTorch.

Every public name is imported on first use, so that ``import gradharness`` loads neither torch nor Hypothesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "CheckResult",
    "Fault",
    "Finding",
    "GradientError",
    "ProgramFinding",
    "Report",
    "Severity",
    "UndecidedWarning",
    "Verdict",
    "VjpRule",
    "Witness",
    "assert_gradients",
    "check",
    "gradcheck",
    "gradgradcheck",
    "gradient_test",
    "index",
    "manual",
    "mask",
    "module",
    "pair",
    "tensor",
    "training",
    "vjp_of",
]

_HOME = {
    "CheckResult": "gradharness.model.verdict",
    "Fault": "gradharness.model.verdict",
    "Finding": "gradharness.model.verdict",
    "GradientError": "gradharness.errors",
    "ProgramFinding": "gradharness.engine.program_search",
    "Report": "gradharness.model.verdict",
    "Severity": "gradharness.model.verdict",
    "UndecidedWarning": "gradharness.errors",
    "Verdict": "gradharness.model.verdict",
    "VjpRule": "gradharness.engine.rules",
    "Witness": "gradharness.model.verdict",
    "assert_gradients": "gradharness.api",
    "check": "gradharness.api",
    "gradcheck": "gradharness.drop_in",
    "gradgradcheck": "gradharness.drop_in",
    "gradient_test": "gradharness.api",
    "index": "gradharness.inputs.specs",
    "manual": "gradharness.subjects",
    "mask": "gradharness.inputs.specs",
    "module": "gradharness.subjects",
    "pair": "gradharness.subjects",
    "tensor": "gradharness.inputs.specs",
    "training": "gradharness.subjects.training_loop",
    "vjp_of": "gradharness.engine.rules",
}

if TYPE_CHECKING:
    from gradharness.api import assert_gradients, check, gradient_test
    from gradharness.drop_in import gradcheck, gradgradcheck
    from gradharness.engine.program_search import ProgramFinding
    from gradharness.engine.rules import VjpRule, vjp_of
    from gradharness.errors import GradientError, UndecidedWarning
    from gradharness.inputs.specs import index, mask, tensor
    from gradharness.model.verdict import CheckResult, Fault, Finding, Report, Severity, Verdict, Witness
    from gradharness.subjects import manual, module, pair
    from gradharness.subjects.training_loop import training
else:  # hidden from type checkers, for which any misspelt name would exist

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
