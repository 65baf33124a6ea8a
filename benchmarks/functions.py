"""Three hand-written Functions, their references, and twins of them with an error of known size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Change = Callable[[Tensor], Tensor]


class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class MatMul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        a, b = ctx.saved_tensors
        return g @ b.T, a.T @ g


class LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        inverse = (centred.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        z = centred * inverse
        ctx.save_for_backward(z, inverse, w)
        return z * w + b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        z, inverse, w = ctx.saved_tensors
        h = g * w
        dx = (h - h.mean(-1, keepdim=True) - z * (h * z).mean(-1, keepdim=True)) * inverse
        return dx, (g * z).sum(0), g.sum(0)


@dataclass(frozen=True)
class Candidate:
    """One function under test.

    Attributes:
        name: As in the table.
        cls: The hand-written Function.
        reference: Plain torch.
        specs: Named dims of every argument.
        sizes: Dims for N elements.
    """

    name: str
    cls: type[torch.autograd.Function]
    reference: Callable[..., Tensor]
    specs: dict[str, str]
    sizes: Callable[[int], dict[str, int]]


CANDIDATES = (
    Candidate("tanh", Tanh, torch.tanh, {"x": "n"}, lambda n: {"n": n}),
    Candidate("matmul", MatMul, torch.matmul, {"a": "n k", "b": "k m"}, lambda n: {"n": n // 10, "k": 10, "m": 8}),
    Candidate(
        "layer_norm",
        LayerNorm,
        lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b),
        {"x": "n k", "w": "k", "b": "k"},
        lambda n: {"n": n // 10, "k": 10},
    ),
)


def faulty(cls: type[torch.autograd.Function], change: Change) -> type[torch.autograd.Function]:
    """A Function whose gradients are changed before they are returned."""

    def backward(ctx: Any, g: Tensor) -> Any:
        given = cls.backward(ctx, g)
        return tuple(change(t) for t in given) if isinstance(given, tuple) else change(given)

    return type(f"Faulty{cls.__name__}", (cls,), {"backward": staticmethod(backward)})


def opaque(cls: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """The same Function with a forward that autograd cannot see through, as that of a kernel."""

    def forward(ctx: Any, *arguments: Tensor) -> Any:
        return cls.forward(ctx, *(t.detach() for t in arguments))

    return type(f"Opaque{cls.__name__}", (cls,), {"forward": staticmethod(forward)})


def uniform(size: float) -> Change:
    """Every element too large by the same share."""
    return lambda g: g * (1 + size)


def dense(size: float, seed: int) -> Change:
    """Every element wrong by its own share, of this root mean square."""

    def change(g: Tensor) -> Tensor:
        noise = torch.randn(g.shape, generator=torch.Generator().manual_seed(seed + g.dim()), dtype=g.dtype)
        return g * (1 + size * noise)

    return change
