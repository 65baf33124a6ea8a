"""Linear algebra: inverses, solutions, determinants, factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

import torch

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import broadcast, grid

_GILES = "Giles 2008, Collected matrix derivative results"
_INVERSE = _GILES + ", 2.2.3: dC = -C dA C"
_SOLVE = _GILES + ", 2.3.1: B' = A^-H C', A' = -B' C^H"
_DETERMINANT = _GILES + ", 2.2.4: Jacobi's formula; The Matrix Cookbook, (46) and (57)"
_CHOLESKY = "Murray 2016, Differentiation of the Cholesky decomposition, (10)"
_RIDGE = "; chain rule through I + x xᵀ"

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]


def _square(shape: Shape) -> bool:
    return len(shape) >= 2 and shape[-1] == shape[-2] and prod(shape) > 0


def _fit_square(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return {} if _square(shapes[0]) else None


def _fit_matrix(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return {} if len(shapes[0]) >= 2 and prod(shapes[0]) > 0 else None


def _inverse(x: torch.Tensor) -> torch.Tensor:
    inverse: torch.Tensor = torch.linalg.inv(x)
    return inverse


def _everywhere(g: torch.Tensor) -> torch.Tensor:
    """The cotangent of a number for each matrix, as matrices of size 1 by 1."""
    return g.reshape(*g.shape, 1, 1)


# ------------------------------------------------------------------------------------------------ inverse and solutions


def _inv(call: Call, g: torch.Tensor) -> torch.Tensor:
    return -call.y.mH @ g @ call.y.mH


def _solve(call: Call, g: torch.Tensor) -> _Pair:
    a, b = call.inputs
    vector = b.dim() == 1
    left = call.parameters["left"]
    g, y = (t.unsqueeze(-1) if vector else t for t in (g, call.y))
    grad_b = torch.linalg.solve(a.mH, g, left=left)
    grad_a = -grad_b @ y.mH if left else -y.mH @ grad_b
    grad_b = grad_b.squeeze(-1) if vector else grad_b
    return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)


def _fit_solve(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """A batch of vectors is left out: torch reads some of these shapes as one and some as a matrix."""
    a, b = shapes
    if not _square(a) or not b or not prod(b):
        return None
    if len(b) == 1:
        return {"left": True} if len(a) == 2 and b == a[1:] else None
    if broadcast(a[:-2], b[:-2]) is None or b == a[:-1]:
        return None
    return grid(choice, left=[left for left in (True, False) if b[-2 if left else -1] == a[-1]])


def _solve_triangular(call: Call, g: torch.Tensor) -> _Pair:
    """Only the triangle that is read takes a gradient; without the diagonal where that counts as ones."""
    a, b = call.inputs
    left, unit, upper = (call.parameters[name] for name in ("left", "unitriangular", "upper"))
    grad_b = torch.linalg.solve_triangular(a.mH, g, upper=not upper, left=left, unitriangular=unit)
    grad_a = -grad_b @ call.y.mH if left else -call.y.mH @ grad_b
    grad_a = grad_a.triu(int(unit)) if upper else grad_a.tril(-int(unit))
    return unbroadcast(grad_a, a.shape), unbroadcast(grad_b, b.shape)


def _fit_triangular(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    a, b = shapes
    if not _square(a) or len(b) < 2 or not prod(b) or broadcast(a[:-2], b[:-2]) is None:
        return None
    fitting = [left for left in (True, False) if b[-2 if left else -1] == a[-1]]
    return grid(choice, left=fitting, unitriangular=(False, True), upper=(False, True))


def _power(call: Call, g: torch.Tensor) -> torch.Tensor:
    """``sum over k of (A^k)^H g (A^(n-1-k))^H``; for n < 0 of the inverse, and through it."""
    n = call.parameters["n"]
    base = call.x if n > 0 else _inverse(call.x)
    powers = [torch.eye(base.shape[-1], dtype=base.dtype, device=base.device).expand(base.shape)]
    for _ in range(abs(n) - 1):
        powers.append(powers[-1] @ base)
    grad = sum((p.mH @ g @ q.mH for p, q in zip(powers, reversed(powers), strict=True)), torch.zeros_like(base))
    return grad if n > 0 else -base.mH @ grad @ base.mH


def _choose_power(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, n=(2, 1, 3, -1, -2)) if _square(shapes[0]) else None


# --------------------------------------------------------------------------------------------------------- determinants


def _det(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _everywhere(g * call.y.conj()) * _inverse(call.x).mH


def _slogdet_forward(x: torch.Tensor) -> _Pair:
    sign, size = torch.linalg.slogdet(x)
    return size, sign


def _slogdet(call: Call, g: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _everywhere(g) * _inverse(call.x).mT


def _logdet(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _everywhere(g) * _inverse(call.x).mT


def _trace_forward(x: torch.Tensor) -> torch.Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


def _trace(call: Call, g: torch.Tensor) -> torch.Tensor:
    rows, columns = call.x.shape[-2:]
    return _everywhere(g) * torch.eye(rows, columns, dtype=g.dtype, device=g.device)


# -------------------------------------------------------------------------------------------------------------- factors


def _cholesky_forward(x: torch.Tensor) -> torch.Tensor:
    """Of the symmetric part, so that every element counts."""
    lower: torch.Tensor = torch.linalg.cholesky((x + x.mT) / 2)
    return lower


def _cholesky_back(lower: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """``L^-T phi(Lᵀ g) L^-1``, symmetrised; phi takes the lower triangle and half of the diagonal."""
    inner = (lower.mT @ g).tril()
    inner = inner - inner.diagonal(dim1=-2, dim2=-1).diag_embed() / 2
    half: torch.Tensor = torch.linalg.solve_triangular(lower.mT, inner, upper=True)
    full: torch.Tensor = torch.linalg.solve_triangular(lower, half, upper=False, left=False)
    return (full + full.mT) / 2


def _cholesky(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _cholesky_back(call.y, g)


# ------------------------------------------------------------------- of I + x xᵀ, which any matrix x makes well behaved


def _ridge(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)


def _ridge_back(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return (g + g.mT) @ x


def _ridge_logdet_forward(x: torch.Tensor) -> torch.Tensor:
    return torch.logdet(_ridge(x))


def _ridge_logdet(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _ridge_back(call.x, _everywhere(g) * _inverse(_ridge(call.x)))


def _ridge_inv_forward(x: torch.Tensor) -> torch.Tensor:
    return _inverse(_ridge(x))


def _ridge_inv(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _ridge_back(call.x, -call.y.mT @ g @ call.y.mT)


def _ridge_cholesky_forward(x: torch.Tensor) -> torch.Tensor:
    lower: torch.Tensor = torch.linalg.cholesky(_ridge(x))
    return lower


def _ridge_cholesky(call: Call, g: torch.Tensor) -> torch.Tensor:
    return _ridge_back(call.x, _cholesky_back(call.y, g))


def _ridge_solve_forward(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    solution: torch.Tensor = torch.linalg.solve(_ridge(x), b)
    return solution


def _ridge_solve(call: Call, g: torch.Tensor) -> _Pair:
    x, _ = call.inputs
    grad_b = torch.linalg.solve(_ridge(x).mT, g)
    return _ridge_back(x, -grad_b @ call.y.mT), grad_b


def _fit_ridge(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    x, b = shapes
    fits = len(x) == len(b) >= 2 and x[:-1] == b[:-1] and prod(x) * prod(b) > 0
    return {} if fits else None


# ---------------------------------------------------------------------------------------------------------- the records

_RIDGE_CODE = "{0} @ {0}.mT + torch.eye({0}.shape[-2], dtype={0}.dtype, device={0}.device)"


def _ridged(
    name: str, forward: Callable[[torch.Tensor], torch.Tensor], vjp: Callable[..., torch.Tensor], by: str
) -> Op:
    function = name.removeprefix("ridge_")
    module = "torch." if function == "logdet" else "torch.linalg."
    return Op(
        name=name,
        forward=forward,
        vjp=vjp,
        code=f"{module}{function}({_RIDGE_CODE})",
        formula=by + _RIDGE,
        parameters=_fit_matrix,
    )


_SOLUTIONS = (
    Op(
        name="inv",
        forward=torch.linalg.inv,
        vjp=_inv,
        code="torch.linalg.inv({0})",
        formula=_INVERSE,
        parameters=_fit_square,
        domains=(Domain.WELL_CONDITIONED,),
        complex=True,
    ),
    Op(
        name="solve",
        forward=torch.linalg.solve,
        vjp=_solve,
        code="torch.linalg.solve({0}, {1}, left={left})",
        formula=_SOLVE,
        arity=2,
        parameters=_fit_solve,
        domains=(Domain.WELL_CONDITIONED,),
        same_shape=False,
        complex=True,
    ),
    Op(
        name="solve_triangular",
        forward=torch.linalg.solve_triangular,
        vjp=_solve_triangular,
        code=("torch.linalg.solve_triangular({0}, {1}, upper={upper}, left={left}, unitriangular={unitriangular})"),
        formula=_SOLVE + ", on the triangle that is read",
        arity=2,
        parameters=_fit_triangular,
        domains=(Domain.LOWER,),
        same_shape=False,
        complex=True,
    ),
    Op(
        name="matrix_power",
        forward=torch.linalg.matrix_power,
        vjp=_power,
        code="torch.linalg.matrix_power({0}, {n})",
        formula="product rule over the factors; for n < 0 by " + _INVERSE,
        parameters=_choose_power,
        domains=(Domain.WELL_CONDITIONED,),
        complex=True,
    ),
)

_SCALARS = (
    Op(
        name="det",
        forward=torch.linalg.det,
        vjp=_det,
        code="torch.linalg.det({0})",
        formula=_DETERMINANT,
        parameters=_fit_square,
        domains=(Domain.WELL_CONDITIONED,),
        complex=True,
    ),
    Op(
        name="slogdet",
        forward=_slogdet_forward,
        vjp=_slogdet,
        code="tuple(torch.linalg.slogdet({0}))[::-1]",
        formula=_DETERMINANT,
        parameters=_fit_square,
        domains=(Domain.WELL_CONDITIONED,),
        outputs=2,
        discrete=1,
    ),
    Op(
        name="logdet",
        forward=torch.logdet,
        vjp=_logdet,
        code="torch.logdet({0})",
        formula=_DETERMINANT,
        parameters=_fit_square,
        domains=(Domain.SPD,),
    ),
    Op(
        name="trace",
        forward=_trace_forward,
        vjp=_trace,
        code="{0}.diagonal(dim1=-2, dim2=-1).sum(-1)",
        formula="The Matrix Cookbook, (99): the identity",
        parameters=_fit_matrix,
        complex=True,
    ),
    Op(
        name="cholesky",
        forward=_cholesky_forward,
        vjp=_cholesky,
        code="torch.linalg.cholesky(({0} + {0}.mT) / 2)",
        formula=_CHOLESKY,
        parameters=_fit_square,
        domains=(Domain.SPD,),
    ),
)

_RIDGED = (
    _ridged("ridge_logdet", _ridge_logdet_forward, _ridge_logdet, _DETERMINANT),
    _ridged("ridge_inv", _ridge_inv_forward, _ridge_inv, _INVERSE),
    _ridged("ridge_cholesky", _ridge_cholesky_forward, _ridge_cholesky, _CHOLESKY),
    Op(
        name="ridge_solve",
        forward=_ridge_solve_forward,
        vjp=_ridge_solve,
        code=f"torch.linalg.solve({_RIDGE_CODE}, {{1}})",
        formula=_SOLVE + _RIDGE,
        arity=2,
        parameters=_fit_ridge,
        same_shape=False,
    ),
)

OPS = (*_SOLUTIONS, *_SCALARS, *_RIDGED)
