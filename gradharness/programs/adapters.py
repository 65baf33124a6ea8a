"""Recorded steps that make operands fit: they are ops like any other, and no program names them."""

from __future__ import annotations

import torch

from gradharness.programs.op import Call, Domain, Op

_CALCULUS = "elementary calculus"


def _mean(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g.expand(call.x.shape) * (g.numel() / call.x.numel())


def _positive(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.x / 2


def _unit(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (0.9 - call.y.square() / 0.9)


def _away_from_zero(x: torch.Tensor) -> torch.Tensor:
    return x + torch.copysign(torch.full_like(x, 0.5), x.detach())


def _spd(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT / 4 + torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def _pull_spd(call: Call, g: torch.Tensor) -> torch.Tensor:
    return (g + g.mT) @ call.x / 4


def _lower(x: torch.Tensor) -> torch.Tensor:
    return x.tril(-1) / 4 + torch.diag_embed(x.diagonal(0, -2, -1).square() / 4 + 0.5)


def _pull_lower(call: Call, g: torch.Tensor) -> torch.Tensor:
    diagonals = g.diagonal(0, -2, -1) * call.x.diagonal(0, -2, -1) / 2
    return g.tril(-1) / 4 + torch.diag_embed(diagonals)


MEAN = Op(
    name="(mean)",
    forward=lambda x, dim: x.mean(dim, keepdim=True),
    vjp=_mean,
    code="{0}.mean({dim}, keepdim=True)",
    formula=_CALCULUS,
    complex=True,
)
SCALE = Op(
    name="(scale)",
    forward=lambda x, factor: x * factor,
    vjp=lambda call, g: g * call.parameters["factor"],
    code="{0} * {factor}",
    formula=_CALCULUS,
    complex=True,
)
CLONE = Op(name="(clone)", forward=torch.clone, vjp=lambda _, g: g, code="{0}.clone()", formula=_CALCULUS, complex=True)
REAL_PART = Op(
    name="(real)",
    forward=torch.real,
    vjp=lambda _, g: torch.complex(g, torch.zeros_like(g)),
    code="torch.real({0})",
    formula="conjugate Wirtinger convention",
    complex=True,
)
AS_COMPLEX = Op(
    name="(complex)",
    forward=lambda x: torch.complex(x, torch.zeros_like(x)),
    vjp=lambda _, g: g.real,
    code="torch.complex({0}, torch.zeros_like({0}))",
    formula="conjugate Wirtinger convention",
)
INTO: dict[Domain, Op] = {
    Domain.POSITIVE: Op(
        name="(positive)",
        forward=lambda x: x * x / 4 + 0.5,
        vjp=_positive,
        code="{0} * {0} / 4 + 0.5",
        formula=_CALCULUS,
    ),
    Domain.UNIT: Op(
        name="(unit)",
        forward=lambda x: 0.9 * torch.tanh(x),
        vjp=_unit,
        code="0.9 * torch.tanh({0})",
        formula=_CALCULUS,
    ),
    Domain.NONZERO: Op(
        name="(nonzero)",
        forward=_away_from_zero,
        vjp=lambda _, g: g,
        code="{0} + torch.copysign(torch.full_like({0}, 0.5), {0}.detach())",
        formula=_CALCULUS,
    ),
    Domain.ABOVE_ONE: Op(
        name="(above one)",
        forward=lambda x: x * x / 4 + 1.5,
        vjp=_positive,
        code="{0} * {0} / 4 + 1.5",
        formula=_CALCULUS,
    ),
    Domain.SPD: Op(
        name="(spd)",
        forward=_spd,
        vjp=_pull_spd,
        code="{0} @ {0}.mT / 4 + torch.eye({0}.shape[-1], dtype={0}.dtype, device={0}.device)",
        formula="product rule",
    ),
    Domain.WELL_CONDITIONED: Op(
        name="(well conditioned)",
        forward=lambda x: x / 4 + 3 * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device),
        vjp=lambda _, g: g / 4,
        code="{0} / 4 + 3 * torch.eye({0}.shape[-1], dtype={0}.dtype, device={0}.device)",
        formula=_CALCULUS,
    ),
    Domain.LOWER: Op(
        name="(lower)",
        forward=_lower,
        vjp=_pull_lower,
        code="{0}.tril(-1) / 4 + torch.diag_embed({0}.diagonal(0, -2, -1).square() / 4 + 0.5)",
        formula=_CALCULUS,
    ),
}
ALL = (MEAN, SCALE, CLONE, REAL_PART, AS_COMPLEX, *INTO.values())
