"""Products of vectors, matrices and tensors. A gradient is the cotangent times the conjugate of the other factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

import torch

from gradharness.programs.op import Call, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import broadcast, every_dim, grid
from gradharness.programs.ops.front import front, put_front

_GILES = "Giles 2008, Collected matrix derivative results, 2.2.1: dC = dA B + A dB"
_PRODUCT = "product rule"
_LARGEST = 512  # elements of an outer product

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
_Triple: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_Fit: TypeAlias = Callable[[Sequence[Shape], int], Parameters | None]

# --------------------------------------------------------------------------------------------------------------- matmul


def _matmul(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    left = a.unsqueeze(0) if a.dim() == 1 else a
    right = b.unsqueeze(-1) if b.dim() == 1 else b
    g = g.unsqueeze(-1) if b.dim() == 1 else g
    g = g.unsqueeze(-2) if a.dim() == 1 else g
    grad_a, grad_b = unbroadcast(g @ right.mH, left.shape), unbroadcast(left.mH @ g, right.shape)
    return grad_a.reshape(a.shape), grad_b.reshape(b.shape)


def _fit_matmul(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    a, b = shapes
    if not a or not b or a[-1] != b[0 if len(b) == 1 else -2]:
        return None
    return {} if broadcast(a[:-2], b[:-2]) is not None else None


def _matmul_transposed(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return unbroadcast(g @ b.conj(), a.shape), unbroadcast(g.mT @ a.conj(), b.shape)


def _fit_transposed(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    a, b = shapes
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-1]:
        return None
    return {} if broadcast(a[:-2], b[:-2]) is not None else None


def _gram(call: Call, g: torch.Tensor) -> torch.Tensor:
    return (g + g.mH) @ call.x


def _fit_matrix(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return {} if len(shapes[0]) >= 2 else None


def _fit_ranks(first: int, second: int) -> _Fit:
    """For the products that take fixed ranks: inner sizes and batches have to be equal."""

    def parameters(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
        a, b = shapes
        if (len(a), len(b)) != (first, second) or (second == 3 and a[0] != b[0]):
            return None
        return {} if a[-1] == b[0 if second == 1 else -2] else None

    return parameters


# ---------------------------------------------------------------------------------------------- vectors, outer, tensors


def _outer(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return g @ b.conj(), g.mT @ a.conj()


def _fit_outer(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return {} if [len(shape) for shape in shapes] == [1, 1] else None


def _outer_flat_forward(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.outer(a.flatten(), b.flatten())


def _outer_flat(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    return (g @ b.conj().flatten()).reshape(a.shape), (g.mT @ a.conj().flatten()).reshape(b.shape)


def _fit_small(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    a, b = shapes
    return {} if prod(a) * prod(b) <= _LARGEST else None


def _vecdot(call: Call, g: torch.Tensor, *, dim: int) -> _Pair:
    a, b = call.inputs
    spread = g.unsqueeze(dim)
    return unbroadcast(spread.conj() * b, a.shape), unbroadcast(spread * a, b.shape)


def _vecdot_at(call: Call, g: torch.Tensor) -> _Pair:
    return _vecdot(call, g, dim=call.parameters["dim"])


def _fit_vecdot(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Negative dims, of the shorter operand, where both are of one size: then a dim is the same axis in both."""
    a, b = shapes
    together = broadcast(a, b)
    if together is None:
        return None
    return grid(choice, dim=[-i for i in range(1, min(len(a), len(b)) + 1) if a[-i] == b[-i]])


def _cross(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    dim = call.parameters["dim"]
    grad_a = torch.linalg.cross(b.conj().expand_as(g), g, dim=dim)
    grad_b = torch.linalg.cross(g, a.conj().expand_as(g), dim=dim)
    return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)


def _fit_cross(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    a, b = shapes
    if len(a) != len(b) or broadcast(a, b) is None:
        return None
    return grid(choice, dim=[dim for dim in reversed(every_dim(len(a))) if a[dim] == b[dim] == 3])


def _row_kron_forward(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2)


def _row_kron(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    table = g.reshape(*g.shape[:-1], a.shape[-1], b.shape[-1])
    grad_a, grad_b = (table * b.conj().unsqueeze(-2)).sum(-1), (table * a.conj().unsqueeze(-1)).sum(-2)
    return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)


def _fit_rows(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    a, b = shapes
    if not a or not b or not prod(a) * prod(b) or prod(a) * b[-1] > _LARGEST or prod(b) * a[-1] > _LARGEST:
        return None
    return {} if broadcast(a[:-1], b[:-1]) is not None else None


def _tensordot(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    dims = call.parameters["dims"]
    kept_a, kept_b, summed = a.shape[: a.dim() - dims], b.shape[dims:], b.shape[:dims]
    table = g.reshape(prod(kept_a), prod(kept_b))
    left, right = a.reshape(prod(kept_a), prod(summed)), b.reshape(prod(summed), prod(kept_b))
    return (table @ right.mH).reshape(a.shape), (left.mH @ table).reshape(b.shape)


def _fit_tensordot(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    a, b = shapes
    fitting = [k for k in range(1, min(len(a), len(b)) + 1) if a[len(a) - k :] == b[:k]]
    outer = [0] if prod(a) * prod(b) <= _LARGEST else []
    return grid(choice, dims=[*fitting, *outer])


# ------------------------------------------------------------------------------------------------ a product plus a term


def _add_product(call: Call, g: torch.Tensor) -> _Triple:
    term, a, b = call.inputs
    beta, alpha = call.parameters["beta"], call.parameters["alpha"]
    return unbroadcast(beta * g, term.shape), alpha * (g @ b.mH), alpha * (a.mH @ g)


def _fit_add_product(rank: int) -> _Fit:
    def parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
        term, a, b = shapes
        if len(a) != rank or len(b) != rank or a[-1] != b[-2] or a[:-2] != b[:-2]:
            return None
        result = (*a[:-1], b[-1])
        if broadcast(term, result) != result:
            return None
        return grid(choice, beta=(1, 2, 0.5), alpha=(1, -1, 0.5))

    return parameters


def _addmv_forward(term: torch.Tensor, a: torch.Tensor, v: torch.Tensor, beta: float, alpha: float) -> torch.Tensor:
    rows, columns = a.shape
    return torch.addmv(front(term, rows), a, front(v, columns), beta=beta, alpha=alpha)


def _addmv(call: Call, g: torch.Tensor) -> _Triple:
    term, a, v = call.inputs
    beta, alpha = call.parameters["beta"], call.parameters["alpha"]
    grad_a = alpha * torch.outer(g, front(v, a.shape[1]).conj())
    return put_front(beta * g, term.shape), grad_a, put_front(alpha * (a.mH @ g), v.shape)


def _fit_addmv(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    term, a, v = shapes
    if len(a) != 2 or prod(term) < a[0] or prod(v) < a[1]:
        return None
    return grid(choice, beta=(1, 2, 0.5), alpha=(1, -1, 0.5))


def _linear_forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, weight, front(bias, weight.shape[0]))


def _linear(call: Call, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x, weight = call.inputs[:2]
    rows = g.reshape(-1, weight.shape[0])
    grad_x, grad_weight = g @ weight.conj(), rows.mT @ x.reshape(-1, weight.shape[1]).conj()
    return (grad_x, grad_weight, *(put_front(rows.sum(0), bias.shape) for bias in call.inputs[2:]))


def _fit_linear(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    x, weight = shapes[:2]
    if not x or len(weight) != 2 or x[-1] != weight[1] or not prod(x) * prod(weight):
        return None
    return {} if all(prod(bias) >= weight[0] for bias in shapes[2:]) else None


# ---------------------------------------------------------------------------------------------------------- the records


def _op(name: str, forward: Callable[..., torch.Tensor], vjp: Callable[..., object], code: str, fit: _Fit) -> Op:
    """A product of two operands of their own shapes, real or complex."""
    return Op(
        name=name,
        forward=forward,
        vjp=vjp,  # type: ignore[arg-type]
        code=code,
        formula=_GILES,
        arity=2,
        parameters=fit,
        same_shape=False,
        complex=True,
    )


_MATRICES = (
    _op("matmul", torch.matmul, _matmul, "{0} @ {1}", _fit_matmul),
    _op("matmul_transposed", lambda a, b: a @ b.mT, _matmul_transposed, "{0} @ {1}.mT", _fit_transposed),
    _op("mm", torch.mm, _matmul, "torch.mm({0}, {1})", _fit_ranks(2, 2)),
    _op("bmm", torch.bmm, _matmul, "torch.bmm({0}, {1})", _fit_ranks(3, 3)),
    _op("mv", torch.mv, _matmul, "torch.mv({0}, {1})", _fit_ranks(2, 1)),
    _op("dot", torch.dot, _matmul, "torch.dot({0}, {1})", _fit_ranks(1, 1)),
    _op("outer", torch.outer, _outer, "torch.outer({0}, {1})", _fit_outer),
    _op("outer_flat", _outer_flat_forward, _outer_flat, "torch.outer({0}.flatten(), {1}.flatten())", _fit_small),
    _op("row_kron", _row_kron_forward, _row_kron, "({0}.unsqueeze(-1) * {1}.unsqueeze(-2)).flatten(-2)", _fit_rows),
    _op("tensordot", torch.tensordot, _tensordot, "torch.tensordot({0}, {1}, dims={dims})", _fit_tensordot),
    Op(
        name="gram",
        forward=lambda x: x @ x.mH,
        vjp=_gram,
        code="{0} @ {0}.mH",
        formula=_GILES + ", with B = A^H",
        parameters=_fit_matrix,
        complex=True,
    ),
)

_VECTORS = (
    Op(
        name="vecdot",
        forward=torch.linalg.vecdot,
        vjp=_vecdot_at,
        code="torch.linalg.vecdot({0}, {1}, dim={dim})",
        formula=_PRODUCT + "; sum of conj(x) y",
        arity=2,
        parameters=_fit_vecdot,
        complex=True,
    ),
    Op(
        name="cross",
        forward=torch.linalg.cross,
        vjp=_cross,
        code="torch.linalg.cross({0}, {1}, dim={dim})",
        formula="scalar triple product: g . (da x b) = da . (b x g)",
        arity=2,
        parameters=_fit_cross,
        complex=True,
    ),
)

_SUMS = (
    Op(
        name="addmm",
        forward=torch.addmm,
        vjp=_add_product,
        code="torch.addmm({0}, {1}, {2}, beta={beta}, alpha={alpha})",
        formula=_GILES,
        arity=3,
        parameters=_fit_add_product(2),
        same_shape=False,
        complex=True,
    ),
    Op(
        name="baddbmm",
        forward=torch.baddbmm,
        vjp=_add_product,
        code="torch.baddbmm({0}, {1}, {2}, beta={beta}, alpha={alpha})",
        formula=_GILES,
        arity=3,
        parameters=_fit_add_product(3),
        same_shape=False,
        complex=True,
    ),
    Op(
        name="addmv",
        forward=_addmv_forward,
        vjp=_addmv,
        code=(
            "torch.addmv({0}.flatten()[:{1}.shape[0]], {1}, {2}.flatten()[:{1}.shape[1]], beta={beta}, alpha={alpha})"
        ),
        formula=_GILES,
        arity=3,
        parameters=_fit_addmv,
        same_shape=False,
        complex=True,
    ),
    Op(
        name="linear",
        forward=_linear_forward,
        vjp=_linear,
        code="torch.nn.functional.linear({0}, {1}, {2}.flatten()[:{1}.shape[0]])",
        formula=_GILES + "; the bias takes the sum over rows",
        arity=3,
        parameters=_fit_linear,
        same_shape=False,
        complex=True,
    ),
    Op(
        name="linear_without_bias",
        forward=torch.nn.functional.linear,
        vjp=_linear,
        code="torch.nn.functional.linear({0}, {1})",
        formula=_GILES,
        arity=2,
        parameters=_fit_linear,
        same_shape=False,
        complex=True,
    ),
)

OPS = (*_MATRICES, *_VECTORS, *_SUMS)
