"""Softmax, its relatives, and attention. The derivative of y = softmax(x) is diag(y) - y yᵀ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import along_full, grid

_BRIDLE = "Bridle 1990, softmax: dy = diag(y) - y yᵀ"
_FLASH = "Dao et al. 2022, FlashAttention, appendix B.2"


def _through(y: torch.Tensor, g: torch.Tensor, dim: int) -> torch.Tensor:
    """The gradient for x of ``y = softmax(x)``."""
    return y * (g - (y * g).sum(dim, keepdim=True))


def _softmax(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _through(call.y, g, call.parameters["dim"])


def _softmin(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -_through(call.y, g, call.parameters["dim"])


def _log_softmax(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g - call.y.exp() * g.sum(call.parameters["dim"], keepdim=True)


def _masked_softmax_forward(x: torch.Tensor, diagonal: int) -> torch.Tensor:
    visible = torch.ones_like(x, dtype=torch.bool).tril(diagonal)
    return torch.softmax(x.masked_fill(~visible, -torch.inf), -1)


def _masked_softmax(call: Call, g: torch.Tensor) -> torch.Tensor:
    """What is hidden has y = 0, and so no gradient."""
    return _through(call.y, g, -1)


def _choose_diagonal(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """From 0 on, so that every row sees something."""
    shape = shapes[0]
    return {"diagonal": choice % 2} if len(shape) >= 2 and prod(shape) > 0 else None


def _attention(call: Call, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # torch's kernels keep the scores in single precision at least: rounded to half, an exponential of them is lost.
    q, k, v, wide = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (*call.inputs, g))
    scale = q.shape[-1] ** -0.5
    scores = (q @ k.mT) * scale
    if call.parameters["is_causal"]:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)
    y = torch.softmax(scores, -1)
    grad_scores = _through(y, wide @ v.mT, -1) * scale
    gradients = grad_scores @ k, grad_scores.mT @ q, y.mT @ wide
    return tuple(grad.to(g.dtype) for grad in gradients)


def _fit_attention(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    q, k, v = shapes
    if len(q) < 2 or not prod(q) * prod(k) * prod(v) or len({s[:-2] for s in shapes}) > 1:
        return None
    if min(map(len, shapes)) < 2 or q[-1] != k[-1] or k[-2] != v[-2]:
        return None
    return grid(choice, is_causal=(False, True))


def _op(name: str, forward: Callable[..., torch.Tensor], vjp: Callable[[Call, torch.Tensor], torch.Tensor]) -> Op:
    module = "torch.nn.functional." if name == "softmin" else "torch."
    code = f"{module}{name}({{0}}, dim={{dim}})"
    return Op(name=name, forward=forward, vjp=vjp, code=code, formula=_BRIDLE, parameters=along_full)


OPS = (
    _op("softmax", torch.softmax, _softmax),
    _op("log_softmax", torch.log_softmax, _log_softmax),
    _op("softmin", F.softmin, _softmin),
    Op(
        name="masked_softmax",
        forward=_masked_softmax_forward,
        vjp=_masked_softmax,
        code=(
            "torch.softmax({0}.masked_fill(~torch.ones_like({0}, dtype=torch.bool).tril({diagonal}), -torch.inf), -1)"
        ),
        formula=_BRIDLE,
        parameters=_choose_diagonal,
    ),
    Op(
        name="attention",
        forward=F.scaled_dot_product_attention,
        vjp=_attention,
        code="torch.nn.functional.scaled_dot_product_attention({0}, {1}, {2}, is_causal={is_causal})",
        formula=_FLASH,
        arity=3,
        parameters=_fit_attention,
        same_shape=False,
    ),
)
