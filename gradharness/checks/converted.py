"""A case in another dtype: the same numbers, rounded to it or held exactly in a wider one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from gradharness.checks.base import Setting
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Linearization, Primals, Subject
from gradharness.numerics import tree


def converted(primals: Primals, old: torch.dtype, new: torch.dtype) -> Primals:
    """The point with its tensors of real dtype ``old`` in ``new``; tensors of a dtype of their own keep it."""
    return mapped(primals, lambda t: t.to(new) if t.dtype is old else t)


def mapped(primals: Primals, change: Callable[[torch.Tensor], torch.Tensor]) -> Primals:
    """The point with other tensors."""
    return Primals(primals.names, tree.map_tensors(change, primals.values), primals.active)


def is_hand_written(setting: Setting, case: Case) -> bool:
    """Whether there is a backward that somebody wrote, or a reference that says what it has to be."""
    if setting.trusted is not None:
        return True
    # Of plain torch code the subject itself is the only place that returns gradients.
    returned = setting.subject.raw_returns(case.primals, case.cotangents)
    return any(r.place != setting.subject.name for r in returned)


def carried(subject: Subject, case: Case, primals: Primals) -> tuple[Case, Gradients] | None:
    """The case at other primals with its cotangents in the dtypes of the outputs there, and the subject's gradients.

    None if the subject has other outputs there.

    Raises:
        SubjectError: If the subject raises there.
    """
    linearization = subject.linearize(primals)
    if not _same_outputs(case, linearization):
        return None
    like = linearization.cotangent_like
    there = replace(
        case,
        primals=primals,
        outputs=linearization.outputs,
        cotangents=tuple(_as(w, y) for w, y in zip(case.cotangents, like, strict=True)),
        other_cotangents=tuple(_as(w, y) for w, y in zip(case.other_cotangents, like, strict=True)),
    )
    return there, linearization.pullback(there.cotangents)


def _same_outputs(case: Case, there: Linearization) -> bool:
    shapes = [y.shape for y in there.outputs]
    return shapes == [y.shape for y in case.outputs] and there.differentiable == case.differentiable


def _as(cotangent: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    if cotangent.is_complex() and not output.is_complex():
        return cotangent.real.to(output.dtype)
    return cotangent.to(output.dtype)
