"""Nodes of an autograd graph that stand for a whole formula: its terms, and what people write in place of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import torch

from gradharness.model.subject import Tensors
from gradharness.model.verdict import Fault

Node: TypeAlias = Any
Handed: TypeAlias = tuple[torch.Tensor | None, ...]  # what comes to a node, and what it hands on
Hook: TypeAlias = Callable[[Handed, Handed], Handed | None]
Axes: TypeAlias = tuple[int, ...]
Terms: TypeAlias = Callable[[Node, torch.Tensor, "Axes | None"], Tensors]

_MOST_DIMS = 4


def saved(node: Node, name: str) -> Any:
    """What a node keeps; None where it has no such value, or where it has been written over since."""
    try:
        return getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None


def bare(node: Node) -> str:
    """The name of a node's operation."""
    return re.sub(r"Backward\d*$", "", node.name())


@dataclass(frozen=True, slots=True)
class _Formula:
    """What a node computes, as a sum of terms.

    Attributes:
        terms: Of the node, what comes to it, and the dimensions to sum over in place of its own (None).
        words: What each term is called.
        axes: The node's own dimensions; None where it has none.
        diagonal: The gradient by the diagonal of its Jacobian alone; None where that is all there is.
    """

    terms: Terms
    words: tuple[str, ...]
    axes: Callable[[Node, torch.Tensor], Axes] | None = None
    diagonal: Callable[[Node, torch.Tensor], torch.Tensor] | None = None


def terms(node: Node) -> Iterator[tuple[str, str, Hook]]:
    """The terms of a node's formula: (key, words, what it hands on without the term)."""
    found = _FORMULAS.get(bare(node))
    if found is None or len(found.words) < 2:
        return
    for number, words in enumerate(found.words):

        def hook(handed: Handed, came: Handed, number: int = number) -> Handed | None:
            if handed[0] is None or came[0] is None:
                return None
            return (handed[0] - found.terms(node, came[0], None)[number], *handed[1:])

        yield f"term {number}", words, hook


def variants(node: Node) -> Iterator[tuple[str, Fault, str, Hook]]:
    """Other formulas that stand where a node's own is due: (key, fault, words, what it hands on by them)."""
    found = _FORMULAS.get(bare(node))
    if found is None:
        return
    diagonal = found.diagonal
    if diagonal is not None:
        words = "takes the diagonal of the Jacobian of {} alone: what the elements do to each other is missing"
        yield "diagonal", Fault.MISSING_TERM, words, _handing(lambda g: diagonal(node, g))
    shape = _shape(node)
    if found.axes is None or shape is None or not 2 <= len(shape) <= _MOST_DIMS:
        return
    own = found.axes(node, torch.empty(shape, device="meta"))
    one_by_one = range(1, len(found.words)) if len(found.words) > 2 else range(0)
    for count in range(1, len(shape) + 1):
        for other in combinations(range(len(shape)), count):
            if other == own:
                continue
            words = f"sums over {_named(other)} where {_named(own)} {'is' if len(own) == 1 else 'are'} due, in {{}}"
            for number in (None, *one_by_one):
                key = f"over {other} {number}"
                yield key, Fault.WRONG_AXIS, words, _handing(_otherwise(found, node, other, number))


def _shape(node: Node) -> tuple[int, ...] | None:
    """The shape of what such a node is given; its result has the same."""
    for name in ("result", "input", "self"):
        kept = saved(node, name)
        if isinstance(kept, torch.Tensor):
            return tuple(kept.shape)
    return tuple(node._input_metadata[0].shape) if node._input_metadata else None


def _otherwise(
    formula: _Formula, node: Node, other: Axes, number: int | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """With all sums over other dimensions, or that of one term alone."""

    def gradient(g: torch.Tensor) -> torch.Tensor:
        own, changed = formula.terms(node, g, None), formula.terms(node, g, other)
        chosen = [c if number in (None, n) else o for n, (o, c) in enumerate(zip(own, changed, strict=True))]
        return sum(chosen[1:], chosen[0])

    return gradient


def _handing(gradient: Callable[[torch.Tensor], torch.Tensor]) -> Hook:
    def hook(handed: Handed, came: Handed) -> Handed | None:
        if handed[0] is None or came[0] is None:
            return None
        other = gradient(came[0])
        return (other, *handed[1:]) if other.shape == handed[0].shape else None

    return hook


def _named(axes: Axes) -> str:
    return f"dimension {axes[0]}" if len(axes) == 1 else f"dimensions {', '.join(map(str, axes[:-1]))} and {axes[-1]}"


# --- softmax ---------------------------------------------------------------------------------------------------------


def _along(node: Node, like: torch.Tensor) -> Axes:
    """Graph nodes keep negative numbers as large ones."""
    dim = saved(node, "dim")
    return (dim if 0 <= dim < like.dim() else (dim - 2**64 if dim >= 2**63 else dim) % like.dim(),)


def _softmax_terms(node: Node, g: torch.Tensor, over: Axes | None) -> Tensors:
    y = saved(node, "result")
    return y * g, -y * (y * g).sum(over or _along(node, g), keepdim=True)


def _softmax_diagonal(node: Node, g: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = saved(node, "result")
    return y * (1 - y) * g


def _log_softmax_terms(node: Node, g: torch.Tensor, over: Axes | None) -> Tensors:
    y = saved(node, "result")
    return g, -y.exp() * g.sum(over or _along(node, g), keepdim=True)


def _log_softmax_diagonal(node: Node, g: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = saved(node, "result")
    return (1 - y.exp()) * g


def _cumsum_terms(node: Node, g: torch.Tensor, over: Axes | None) -> Tensors:
    dim = (over or _along(node, g))[0]
    return (g.flip(dim).cumsum(dim).flip(dim),)


# --- normalisation ---------------------------------------------------------------------------------------------------


def _normal(x: torch.Tensor, node: Node, dims: Axes) -> tuple[torch.Tensor, torch.Tensor]:
    """The normalised values, and what they were divided by, inverted."""
    eps = saved(node, "eps")
    rstd = (x.var(dims, correction=0, keepdim=True) + (eps if isinstance(eps, float) else 0.0)).rsqrt()
    return (x - x.mean(dims, keepdim=True)) * rstd, rstd


def _normal_terms(h: torch.Tensor, normal: torch.Tensor, rstd: torch.Tensor, over: Axes) -> Tensors:
    return rstd * h, -rstd * h.mean(over, keepdim=True), -rstd * normal * (h * normal).mean(over, keepdim=True)


def _layer(node: Node, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, weight, rstd = saved(node, "input"), saved(node, "weight"), saved(node, "result2")
    return (g if weight is None else g * weight), (x - saved(node, "result1")) * rstd, rstd


def _layer_axes(node: Node, like: torch.Tensor) -> Axes:
    return tuple(range(like.dim() - len(saved(node, "normalized_shape")), like.dim()))


def _layer_norm_terms(node: Node, g: torch.Tensor, over: Axes | None) -> Tensors:
    return _normal_terms(*_layer(node, g), over or _layer_axes(node, g))


def _layer_norm_diagonal(node: Node, g: torch.Tensor) -> torch.Tensor:
    h, normal, rstd = _layer(node, g)
    n: int = math.prod(saved(node, "normalized_shape"))
    return rstd * h * (1 - 1 / n - normal * normal / n)


def _batch_axes(_node: Node, like: torch.Tensor) -> Axes:
    return tuple(d for d in range(like.dim()) if d != 1)


def _batch_norm_terms(node: Node, g: torch.Tensor, over: Axes | None) -> Tensors:
    x, weight = saved(node, "input"), saved(node, "weight")
    normal, rstd = _normal(x, node, _batch_axes(node, x))
    h = g if weight is None else g * weight.reshape(rstd.shape)
    return _normal_terms(h, normal, rstd, over or _batch_axes(node, x))


def _group_norm_terms(node: Node, g: torch.Tensor, _over: Axes | None) -> Tensors:
    x, weight, groups = saved(node, "input"), saved(node, "weight"), saved(node, "group")
    h = g if weight is None else g * weight.reshape(1, -1, *[1] * (x.dim() - 2))
    grouped = x.reshape(len(x), groups, -1)
    rstd = saved(node, "result2")[..., None]
    normal = (grouped - saved(node, "result1")[..., None]) * rstd
    found = _normal_terms(h.reshape(grouped.shape), normal, rstd, (2,))
    return tuple(t.expand(grouped.shape).reshape(x.shape) for t in found)


def _variance_terms(node: Node, g: torch.Tensor, over: Axes | None) -> Tensors:
    x, correction = saved(node, "self"), saved(node, "correction")
    dims = _variance_axes(node, x)
    n = math.prod(x.shape[d] for d in dims)
    wide = g.reshape([1 if d in dims else s for d, s in enumerate(x.shape)])
    scale = 2 * wide / (n - (1 if correction is None else correction))
    return scale * x, -scale * x.mean(over or dims, keepdim=True)


def _variance_axes(node: Node, like: torch.Tensor) -> Axes:
    dims = saved(node, "dim") or range(like.dim())
    return tuple(sorted((d - 2**64 if d >= 2**63 else d) % like.dim() for d in dims))


# --- activations -----------------------------------------------------------------------------------------------------


def _gelu_terms(node: Node, g: torch.Tensor, _over: Axes | None) -> Tensors:
    x = saved(node, "self")
    whole = 0.5 * (1 + torch.erf(x / 2**0.5))
    return g * whole, g * x * torch.exp(-0.5 * x * x) / (2 * torch.pi) ** 0.5


def _silu_terms(node: Node, g: torch.Tensor, _over: Axes | None) -> Tensors:
    x = saved(node, "self")
    s = x.sigmoid()
    return g * s, g * x * s * (1 - s)


_CENTRING = "the mean that has to be taken off (centring)"
_PROJECTION = "the projection term (the inner product with the normalised value)"
_NORMAL = ("the direct term", _CENTRING, _PROJECTION)
_SOFTMAX = _Formula(_softmax_terms, ("the term y·g", "the term y·Σ(g·y) (projection)"), _along, _softmax_diagonal)
_FORMULAS = {
    "Softmax": _SOFTMAX,
    "SafeSoftmax": _SOFTMAX,
    "LogSoftmax": _Formula(_log_softmax_terms, ("the term g", "the term softmax·Σg"), _along, _log_softmax_diagonal),
    "Cumsum": _Formula(_cumsum_terms, ("the sum",), _along),
    "NativeLayerNorm": _Formula(_layer_norm_terms, _NORMAL, _layer_axes, _layer_norm_diagonal),
    "NativeBatchNorm": _Formula(_batch_norm_terms, _NORMAL, _batch_axes),
    "NativeGroupNorm": _Formula(_group_norm_terms, _NORMAL),
    "Var": _Formula(_variance_terms, ("the term with x", "the term with the mean (centring)"), _variance_axes),
    "Gelu": _Formula(_gelu_terms, ("the term Φ(x)", "the term x·φ(x)")),
    "Silu": _Formula(_silu_terms, ("the term sigmoid(x)", "the term x·sigmoid'(x)")),
}
