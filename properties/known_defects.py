"""Gradients of PyTorch itself that are wrong at special points. A run that meets one has found it, and not failed.

An entry holds at a point only if PyTorch's gradient contradicts a right one right there. Every entry has a test at a
point of its own: when PyTorch mends it, the test says so and the entry goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gradharness.model.case import Case
from gradharness.numerics.tolerance import tolerance_for
from properties.drawing import Entry

_SHARE = 0.1  # of the tolerance; a smaller error is none that a check could have seen

Inputs = tuple[torch.Tensor, ...]
Function = Callable[..., torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One defect.

    Attributes:
        name: Entry of the catalogue that shows it.
        right: The same function near these inputs, by operations whose gradients are right there.
        example: Inputs where PyTorch's gradient is wrong.
        reason: What is wrong there, and where it was reported.
    """

    name: str
    right: Function
    example: Inputs
    reason: str


def _vector(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def _det(a: torch.Tensor) -> torch.Tensor:
    """Expansion by cofactors."""
    if a.shape[0] == 1:
        return a[0, 0]
    keep = [[j for j in range(a.shape[0]) if j != i] for i in range(a.shape[0])]
    return torch.stack([(-1) ** i * a[0, i] * _det(a[1:, columns]) for i, columns in enumerate(keep)]).sum()


def _largest_of_each(index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Where nothing is written, there stays the zero that was there."""
    rows = []
    for row in range(5):
        chosen = [source[index[:, j] == row, j] for j in range(source.shape[1])]
        rows.append(torch.stack([c.amax() if c.numel() else source.new_zeros(()) for c in chosen]))
    return torch.stack(rows)


def _hypot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([x, y]), dim=0)


def _cosine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    sizes = [v.norm(dim=-1).clamp(min=1e-8) for v in (x, y)]
    return ((x / sizes[0][..., None]) * (y / sizes[1][..., None])).sum(-1)


def _projector(a: torch.Tensor) -> torch.Tensor:
    """First-order perturbation theory: exact in value and slope at this very matrix."""
    symmetric = (a + a.mT) / 2
    values, vectors = torch.linalg.eigh(symmetric.detach())
    first = vectors[:, :1] @ vectors[:, :1].mT
    resolvent = (vectors[:, 1:] / (values[0] - values[1:])) @ vectors[:, 1:].mT
    moved = resolvent @ (symmetric - symmetric.detach()) @ first
    return first + moved + moved.mT


def _logcumsumexp(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, : j + 1].logsumexp(-1) for j in range(x.shape[1])], -1)


def _triangle(a: torch.Tensor) -> torch.Tensor:
    """R by Gram-Schmidt, with the signs of ``torch.linalg.qr``; for matrices of which only the last column depends."""
    signs = torch.linalg.qr(a.detach()).Q
    columns: list[torch.Tensor] = []
    rows = torch.zeros_like(a)
    for j in range(a.shape[1]):
        rest = a[:, j]
        for i, q in enumerate(columns):
            rows = rows.index_put((torch.tensor(i), torch.tensor(j)), q @ a[:, j])
            rest = rest - q * (q @ rest)
        last = j == a.shape[1] - 1
        # The last direction is what is left over: it does not turn with the last column.
        q = (
            _orthogonal_to(columns, signs[:, j])
            if last
            else rest / rest.norm() * torch.sign(rest @ signs[:, j]).detach()
        )
        columns.append(q)
        rows = rows.index_put((torch.tensor(j), torch.tensor(j)), q @ a[:, j])
    return rows


def _orthogonal_to(columns: list[torch.Tensor], q: torch.Tensor) -> torch.Tensor:
    for c in columns:
        q = q - c * (c @ q)
    return q / q.norm()


def _bce(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return -(t * x.log().clamp(min=-100) + (1 - t) * (-x).log1p().clamp(min=-100)).mean()


def _xlogy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where x is zero, so is the value, and its slope along y, for every y."""
    return x * torch.where(y > 0, y, 1.0).log()


def _log_ndtr(x: torch.Tensor) -> torch.Tensor:
    """Its slope is the normal density over its integral, which erfcx gives without overflow."""
    at = x.detach()
    slope = (2 / torch.pi) ** 0.5 / torch.special.erfcx(-at / 2**0.5)
    return torch.special.log_ndtr(at) + slope * (x - at)


DEFECTS = (
    Defect(
        name="det",
        right=_det,
        example=(torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64),),
        reason="det's gradient is zero at singular matrices of rank n - 1, whose cofactors are not (pytorch#79487)",
    ),
    Defect(
        name="scatter_amax alone",
        right=_largest_of_each,
        example=(torch.tensor([[0]]), _vector(0.0)),
        reason="include_self=False still shares the gradient with the excluded value where they tie (pytorch#169263)",
    ),
    Defect(
        name="hypot",
        right=_hypot,
        example=(_vector(0.0), _vector(0.0)),
        reason="hypot's gradient is NaN at (0, 0), where the one-sided slopes are finite",
    ),
    Defect(
        name="cosine_similarity",
        right=_cosine,
        example=(_vector(6e-10, 8e-10), _vector(3.0, 4.0)),
        reason="cosine_similarity differentiates the norm that it has replaced by eps = 1e-8",
    ),
    Defect(
        name="eigh projector",
        right=_projector,
        example=(torch.diag(torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)),),
        reason="eigh's gradient is NaN beside any repeated eigenvalue, also where it cancels out (documented)",
    ),
    Defect(
        name="logcumsumexp",
        right=_logcumsumexp,
        example=(_vector(1e20, 0.0),),
        reason="logcumsumexp's backward adds the logarithm of the cotangent to values that swallow it",
    ),
    Defect(
        name="qr",
        right=_triangle,
        example=(torch.tensor([[3.0, 3.0], [4.0, 4.0]], dtype=torch.float64),),
        reason="qr's gradient is NaN at singular matrices (documented)",
    ),
    Defect(
        name="bce",
        right=_bce,
        example=(_vector(1e-13), _vector(1.0)),
        reason="binary_cross_entropy's backward keeps x·(1 - x) above 1e-12, its forward does not",
    ),
    Defect(
        name="xlogy",
        right=_xlogy,
        example=(_vector(0.0), _vector(0.0)),
        reason="xlogy's gradient along y is NaN at (0, 0), where its value is zero for every y",
    ),
    Defect(
        name="log_ndtr",
        right=_log_ndtr,
        example=(_vector(-1e10),),
        reason="log_ndtr's gradient overflows far to the left, where it is about -x",
    ),
)


def contradicted(defect: Defect, entry: Entry, inputs: Inputs, cotangent: torch.Tensor) -> bool:
    """Whether PyTorch's gradient differs from the right one by more than a check would let pass."""
    active = [arg.active for arg in entry.args]
    got = gradients(entry.function, inputs, active, cotangent)
    wide = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    right = gradients(defect.right, wide, active, cotangent)
    tolerance = tolerance_for(cotangent.dtype)
    for g, r in zip(got, right, strict=True):
        known = r.isfinite()
        allowed = _SHARE * tolerance.allowed(torch.where(known, r, 0.0))
        if bool((known & ~((g - r).abs() <= allowed)).any()):
            return True
    return False


def gradients(function: Function, inputs: Inputs, active: Sequence[bool], cotangent: torch.Tensor) -> Inputs:
    """Gradients of the active inputs, by autograd."""
    leaves = [x.detach().clone().requires_grad_(a) for x, a in zip(inputs, active, strict=True)]
    output = function(*leaves)
    return torch.autograd.grad(
        output, [x for x in leaves if x.requires_grad], cotangent.to(output.dtype), materialize_grads=True
    )


def known(entry: Entry, case: Case) -> str:
    """The reason why a correct tool fails this case; empty if there is none."""
    inputs = case.primals.values
    for defect in DEFECTS:
        if defect.name != entry.name:
            continue
        if any(contradicted(defect, entry, inputs, w) for w in (case.cotangents[0], case.other_cotangents[0])):
            return defect.reason
    return ""
