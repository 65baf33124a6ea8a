"""Adapters that make any code under test look the same: primals in, outputs and a pullback out."""

from collections.abc import Callable

from gradharness.errors import UsageError
from gradharness.model.subject import Subject
from gradharness.subjects.function import FunctionSubject, function_subject
from gradharness.subjects.function_pair import PairSubject, pair
from gradharness.subjects.manual_class import ManualSubject, manual
from gradharness.subjects.module_function import as_module, module

__all__ = ["FunctionSubject", "ManualSubject", "PairSubject", "as_subject", "manual", "module", "pair"]


def as_subject(value: Subject | Callable[..., object]) -> Subject:
    """The adapter for a subject as users give it.

    Raises:
        UsageError: If it is neither callable nor made by ``manual``, ``module`` or ``pair``; or a module's class
            that takes arguments.
    """
    if isinstance(value, (FunctionSubject, ManualSubject, PairSubject)):
        return value
    if not callable(value):
        raise UsageError(
            f"cannot check {value!r} ({type(value).__name__}): give a callable, a torch.autograd.Function, "
            "manual(...), module(...) or pair(...)"
        )
    made = as_module(value)
    if made is not None:
        return made
    return function_subject(value)
