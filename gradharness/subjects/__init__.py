"""Adapters that make any code under test look the same: primals in, outputs and a pullback out."""

from collections.abc import Callable

from gradharness.errors import UsageError
from gradharness.model.subject import Subject
from gradharness.subjects.function import FunctionSubject, function_subject
from gradharness.subjects.function_pair import PairSubject, pair
from gradharness.subjects.manual_class import ManualSubject, manual

__all__ = ["FunctionSubject", "ManualSubject", "PairSubject", "as_subject", "manual", "pair"]


def as_subject(value: Subject | Callable[..., object]) -> Subject:
    """The adapter for a subject as users give it.

    Raises:
        UsageError: If it is neither callable nor made by ``manual`` or ``pair``.
    """
    if isinstance(value, (FunctionSubject, ManualSubject, PairSubject)):
        return value
    if not callable(value):
        raise UsageError(
            f"cannot check {value!r} ({type(value).__name__}): give a callable, a torch.autograd.Function, "
            "manual(...) or pair(...)"
        )
    return function_subject(value)
