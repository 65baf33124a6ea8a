"""What a subject's arguments are called."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence

from torch.autograd.function import Function

from gradharness.errors import SpecError, SubjectError
from gradharness.model.subject import Subject
from gradharness.subjects import FunctionSubject, ManualSubject, PairSubject
from gradharness.subjects.module_function import ModuleFunction


def signature_names(subject: Subject) -> tuple[str, ...] | None:
    """Names of a subject's arguments, in order, as far as its signature tells; None if it does not."""
    try:
        if isinstance(subject, ManualSubject):
            names = _manual_names(subject)
        elif isinstance(subject, PairSubject):
            names = _positional(subject.forward)
        else:
            names = _function_names(subject)
    except (TypeError, ValueError, SubjectError):
        return None
    return names


def _function_names(subject: Subject) -> tuple[str, ...] | None:
    if not isinstance(subject, FunctionSubject):
        return None
    if isinstance(subject.function, ModuleFunction):
        inputs = _positional(subject.function.module.forward)
        return None if inputs is None else (*inputs, *(held.name for held in subject.function.state))
    schema = getattr(getattr(subject.function, "_opoverload", subject.function), "_schema", None)
    if schema is not None:  # a custom op
        return tuple(argument.name for argument in schema.arguments)
    owner = getattr(subject.function, "__self__", None)
    if not (isinstance(owner, type) and issubclass(owner, Function)):
        return _positional(subject.function)
    names = _positional(owner.forward)
    # Without setup_context, forward's first parameter is ctx.
    return names[1:] if names and owner.setup_context is Function.setup_context else names


def _manual_names(subject: ManualSubject) -> tuple[str, ...] | None:
    if callable(subject.forward):
        names = _positional(subject.forward)
    else:
        names = _positional(getattr(subject.build(), subject.forward))
        return None if names is None else (*names, *subject.targets, *subject.state)
    return None if names is None else (*names[1:], *subject.targets, *subject.state)


def _positional(function: Callable[..., object]) -> tuple[str, ...] | None:
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD)


def argument_names(subject: Subject, count: int) -> tuple[str, ...]:
    """Names for ``count`` positional arguments."""
    known = signature_names(subject) or ()
    return tuple(known[i] if i < len(known) else f"argument {i}" for i in range(count))


def check_names(subject: Subject, names: Sequence[str]) -> None:
    """Refuses a name that the subject does not have.

    Raises:
        SpecError: Names the closest one that it has.
    """
    known = signature_names(subject)
    for name in names if known is not None else ():
        if known is not None and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its arguments: {', '.join(known)}"
            raise SpecError(f"{subject.name} has no argument {name!r}: {hint}")
