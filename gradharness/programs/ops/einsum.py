"""Sums of products by equation. The gradient of an operand is an einsum of the cotangent and the other operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import broadcast, one_of

_FORMULA = "product rule; the adjoint of summing over an index is to repeat along it, of a diagonal to embed one"
_Labels: TypeAlias = list[str]

_ONE = (
    "...i->...",
    "...ij->...ji",
    "ij->ji",
    "ii->i",
    "ii->",
    "ij->i",
    "ij->j",
    "ijk->kij",
    "ijk->k",
    "i->",
    "...ii->...i",
)
_TWO = (
    "...i,...i->...",
    "...i,...j->...ij",
    "...ij,...jk->...ik",
    "ij,ij->ij",
    "ij,kj->ik",
    "ij,jk->ki",
    "ij,ij->",
    "ij,ij->j",
    "i,j->ij",
    "i,j->j",
    "ij,j->i",
    "ij,jk->",
    "ii,ij->j",
    "bi,bj->bij",
    "bij,bjk->bik",
    "ijk,kl->lij",
)
_THREE = ("...i,...i,...i->...", "i,ij,j->", "ij,jk,kl->il", "bi,oij,bj->bo", "ij,ij,j->i")


def _sides(equation: str) -> tuple[list[_Labels], _Labels]:
    """The labels of every operand and of the result; the ellipsis is left out."""
    left, right = equation.replace("...", "").split("->")
    return [list(labels) for labels in left.split(",")], list(right)


def _contract(g: torch.Tensor, others: Sequence[torch.Tensor], equation: str, number: int) -> tuple[torch.Tensor, str]:
    """The cotangent times the other operands, with the labels of the operand that it can have, each once."""
    operands, result = _sides(equation)
    rest = operands[:number] + operands[number + 1 :]
    known = {label for labels in (result, *rest) for label in labels}
    kept = "".join(dict.fromkeys(label for label in operands[number] if label in known))
    dots = "..." if "..." in equation else ""
    left = ",".join(dots + "".join(labels) for labels in (result, *rest))
    return torch.einsum(f"{left}->{dots}{kept}", g, *(other.conj() for other in others)), kept


def _spread(gradient: torch.Tensor, kept: str, labels: _Labels, shape: Shape) -> torch.Tensor:
    """To the operand's axes: repeated along those summed over, on the diagonal of those named twice."""
    extra = gradient.dim() - len(kept)
    unique = list(dict.fromkeys(labels))
    sizes = dict(zip(labels, shape[len(shape) - len(labels) :], strict=True))
    for axis, label in enumerate(unique, start=extra):
        if label not in kept:
            gradient = gradient.unsqueeze(axis)
    gradient = gradient.expand(*gradient.shape[:extra], *(sizes[label] for label in unique))
    if len(unique) == len(labels):
        return gradient
    return torch.diag_embed(gradient)  # the catalogue names an index twice only in "ii"


def _einsum(call: Call, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    equation = call.parameters["equation"]
    operands, _ = _sides(equation)
    gradients = []
    for number, (x, labels) in enumerate(zip(call.inputs, operands, strict=True)):
        others = call.inputs[:number] + call.inputs[number + 1 :]
        gradient, kept = _contract(g, others, equation, number)
        gradients.append(unbroadcast(_spread(gradient, kept, labels, tuple(x.shape)), x.shape))
    return tuple(gradients)


def _fits(equation: str, shapes: Sequence[Shape]) -> bool:
    """Whether every label has one size in all operands, and what the ellipsis stands for broadcasts."""
    sizes: dict[str, int] = {}
    batches = []
    for labels, shape in zip(_sides(equation)[0], shapes, strict=True):
        batch = len(shape) - len(labels)
        if batch < 0 or (batch and "..." not in equation):
            return False
        batches.append(shape[:batch])
        for label, size in zip(labels, shape[batch:], strict=True):
            if sizes.setdefault(label, size) != size:
                return False
    return broadcast(*batches) is not None


def _choose(equations: Sequence[str]) -> Callable[[Sequence[Shape], int], Parameters | None]:
    def parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
        return one_of(choice, [{"equation": equation} for equation in equations if _fits(equation, shapes)])

    return parameters


def _forward(*operands: torch.Tensor, equation: str) -> torch.Tensor:
    return torch.einsum(equation, *operands)


def _op(name: str, arity: int, equations: Sequence[str]) -> Op:
    operands = ", ".join(f"{{{number}}}" for number in range(arity))
    return Op(
        name=name,
        forward=_forward,
        vjp=_einsum,
        code=f"torch.einsum({{equation}}, {operands})",
        formula=_FORMULA,
        arity=arity,
        parameters=_choose(equations),
        same_shape=False,
        complex=True,
    )


OPS = (_op("einsum_of_one", 1, _ONE), _op("einsum", 2, _TWO), _op("einsum_of_three", 3, _THREE))
