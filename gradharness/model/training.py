"""What was seen of some code that trains: its parameters before and after every step, and whom an update touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import torch

from gradharness.errors import SubjectError
from gradharness.model.subject import Gradients, Primals, Tensors

OptimizerFactory: TypeAlias = Callable[[Iterable[Any]], torch.optim.Optimizer]


class Happening(Enum):
    """What an update may do to a parameter other than change its values."""

    REPLACED = "another tensor stands in its place, and nothing else holds the old one"
    UNREGISTERED = "a registered parameter gave way to another object"
    LEFT_BEHIND = "another tensor stands in its place, and something still holds the old one"
    RESHAPED = "its shape or dtype is another one"
    SHARED = "another object changed as well"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One such happening.

    Attributes:
        kind: Which.
        step: Number of the step, from 0 on.
        label: The parameter, or the attribute.
        text: The particulars.
    """

    kind: Happening
    step: int
    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One step.

    Attributes:
        points: What the step trained on: one batch, or several whose gradients are accumulated.
        before: The parameters.
        after: The same after the update.
        left: The gradients that the subject left; None where it shows none.
    """

    points: tuple[Primals, ...]
    before: Tensors
    after: Tensors
    left: Gradients


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A whole run.

    Attributes:
        moments: Its steps, as far as parameters kept their shapes and all went well.
        incidents: What else happened.
        raised: What ended it before its time; None if nothing did.
    """

    moments: tuple[Moment, ...]
    incidents: tuple[Incident, ...] = ()
    raised: SubjectError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The same computation for autograd.

    Attributes:
        parameters: Leaves that require grad; the caller moves them.
        objective: Gives, at a point, the outputs that take a cotangent, with their graph. The state of the point is
            not looked at.
    """

    parameters: Tensors
    objective: Callable[[Primals], Tensors]
