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
    return int(torch.linalg.matrix_rank(a)) < a.shape[0]


def _ties_with_zero(case: Case) -> bool:
    return bool((case.primals.leaves[-1] == 0).any())


def _both_zero(case: Case) -> bool:
    a, b = case.primals.leaves
    return bool(((a == 0) & (b == 0)).any())


def _short_vector(case: Case) -> bool:
    return any(bool((x.norm(dim=-1) < 2e-8).any()) for x in case.primals.leaves)


def _repeated(case: Case) -> bool:
    (a,) = case.primals.leaves
    gaps = torch.linalg.eigvalsh(a.double()).diff()
    return bool((gaps <= 1e-9 * a.abs().max()).any())


def _beyond_integers(case: Case) -> bool:
    (x,) = case.primals.leaves
    return bool((x.abs() >= 2.0**18).any())


def _near_the_ends(case: Case) -> bool:
    x = case.primals.leaves[0]
    return bool(((x < 1e-11) | (1 - x < 1e-11)).any())


def _large(case: Case) -> bool:
    return bool((case.primals.leaves[0].abs() > 1e3).any())


def _far_left(case: Case) -> bool:
    (x,) = case.primals.leaves
    return bool((x < -1e2).any())


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
    Defect(
        names=("hypot",),
        holds=_both_zero,
        reason="hypot's gradient is NaN at (0, 0), where the one-sided slopes are finite",
    ),
    Defect(
        names=("cosine_similarity", "hand: cosine", "cosine_embedding"),
        holds=_short_vector,
        reason="cosine_similarity differentiates the norm that it has replaced by eps = 1e-8",
    ),
    Defect(
        names=("eigh projector",),
        holds=_repeated,
        reason="eigh's gradient is NaN beside any repeated eigenvalue, also where it cancels out (documented)",
    ),
    Defect(
        names=("logcumsumexp",),
        holds=_large,
        reason="logcumsumexp's backward adds the logarithm of the cotangent to values that swallow it",
    ),
    Defect(
        names=("qr",),
        holds=_singular,
        reason="qr's gradient is NaN at singular matrices (documented)",
    ),
    Defect(
        names=("bce",),
        holds=_near_the_ends,
        reason="binary_cross_entropy's backward keeps x·(1 - x) above 1e-12, its forward does not",
    ),
    Defect(
        names=("log_ndtr",),
        holds=_far_left,
        reason="log_ndtr's gradient overflows far to the left, where it is about -x",
    ),
    Defect(
        names=("floor", "round", "trunc", "frac", "fmod", "remainder"),
        holds=_beyond_integers,
        reason="no defect but a limit: beside numbers this large all steps of a difference are wider than floor's",
    ),
)


def known(name: str, case: Case) -> str:
    """The reason why a correct tool fails this case; empty if there is none."""
    return next((d.reason for d in DEFECTS if name in d.names and d.holds(case)), "")
