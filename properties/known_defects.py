"""Gradients of PyTorch itself that are wrong at special points. A run that meets one has found it, and not failed.

Every entry is pinned by a test: when PyTorch mends it, the test says so and the entry goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gradharness.model.case import Case


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One defect.

    Attributes:
        names: Entries of the catalogue that show it.
        holds: Whether a case is at the special point.
        reason: What is wrong there, and where it was reported.
    """

    names: tuple[str, ...]
    holds: Callable[[Case], bool]
    reason: str


def _singular(case: Case) -> bool:
    (a,) = case.primals.leaves
    return a.shape[0] > 1 and int(torch.linalg.matrix_rank(a)) < a.shape[0]


def _ties_with_zero(case: Case) -> bool:
    return bool((case.primals.leaves[-1] == 0).any())


DEFECTS = (
    Defect(
        names=("det",),
        holds=_singular,
        reason="det's gradient is zero at singular matrices of rank n - 1, whose cofactors are not (pytorch#79487)",
    ),
    Defect(
        names=("scatter_amax alone",),
        holds=_ties_with_zero,
        reason="include_self=False still shares the gradient with the excluded value where they tie (pytorch#169263)",
    ),
)


def known(name: str, case: Case) -> str:
    """The reason why a correct tool fails this case; empty if there is none."""
    return next((d.reason for d in DEFECTS if name in d.names and d.holds(case)), "")
