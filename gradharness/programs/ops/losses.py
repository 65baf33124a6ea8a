"""Losses: of classes given as parameters, and between two tensors that broadcast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import broadcast, grid, indices

_BISHOP = "Bishop 2006, Pattern recognition and machine learning, 4.3.4: the gradient is softmax(x) - target"
_CALCULUS = "elementary calculus, element by element"
_HUBER = "Huber 1964, Robust estimation of a location parameter"
_REDUCTIONS = ("mean", "sum", "none")

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
_Slopes: TypeAlias = Callable[[torch.Tensor, torch.Tensor, Parameters], _Pair]

# -------------------------------------------------------------------------------------------------------------- classes


def _targets(call: Call) -> torch.Tensor:
    return torch.tensor(call.parameters["target"], device=call.x.device)


def _rows(call: Call, g: torch.Tensor) -> torch.Tensor:
    """The cotangent of every row's loss, as a column."""
    number = len(call.parameters["target"])
    reduction = call.parameters["reduction"]
    each = g if reduction == "none" else g.expand(number)
    return (each / number if reduction == "mean" else each).unsqueeze(-1)


def _cross_entropy_forward(x: torch.Tensor, target: list[int], reduction: str, label_smoothing: float) -> torch.Tensor:
    rows, classes = x.reshape(-1, x.shape[-1]), torch.tensor(target, device=x.device)
    return F.cross_entropy(rows, classes, reduction=reduction, label_smoothing=label_smoothing)


def _cross_entropy(call: Call, g: torch.Tensor) -> torch.Tensor:
    rows = call.x.reshape(-1, call.x.shape[-1])
    smoothing = call.parameters["label_smoothing"]
    wanted: torch.Tensor = (
        F.one_hot(_targets(call), rows.shape[1]).to(g.dtype) * (1 - smoothing) + smoothing / rows.shape[1]
    )
    return (_rows(call, g) * (torch.softmax(rows, -1) - wanted)).reshape(call.x.shape)


def _nll_forward(x: torch.Tensor, target: list[int], reduction: str) -> torch.Tensor:
    return F.nll_loss(x.reshape(-1, x.shape[-1]), torch.tensor(target, device=x.device), reduction=reduction)


def _nll(call: Call, g: torch.Tensor) -> torch.Tensor:
    chosen: torch.Tensor = F.one_hot(_targets(call), call.x.shape[-1]).to(g.dtype)
    return -(_rows(call, g) * chosen).reshape(call.x.shape)


def _choose_nll(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """The last dimension holds the classes, all others are rows."""
    shape = shapes[0]
    if not shape or not prod(shape):
        return None
    target = indices(choice // 3, prod(shape[:-1]), shape[-1])
    return {"target": target, "reduction": _REDUCTIONS[choice % 3]}


def _choose_classes(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    chosen = _choose_nll(shapes, choice // 2)
    return None if chosen is None else {**chosen, "label_smoothing": (0.0, 0.2)[choice % 2]}


# -------------------------------------------------------------------------------------------------- between two tensors


def _together(a: torch.Tensor, b: torch.Tensor) -> _Pair:
    a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
    return a, b


def _between(slopes: _Slopes) -> Callable[[Call, torch.Tensor], _Pair]:
    """The VJP of a loss, from its derivatives for both operands element by element."""

    def vjp(call: Call, g: torch.Tensor) -> _Pair:
        a, b = _together(*call.inputs)
        parts = {"mean": a.numel(), "batchmean": a.shape[0] if a.dim() else 1}
        share = g / parts.get(call.parameters["reduction"], 1)
        slope_a, slope_b = slopes(a, b, call.parameters)
        return unbroadcast(share * slope_a, call.inputs[0].shape), unbroadcast(share * slope_b, call.inputs[1].shape)

    return vjp


def _squared(a: torch.Tensor, b: torch.Tensor, _: Parameters) -> _Pair:
    return 2 * (a - b), 2 * (b - a)


def _absolute(a: torch.Tensor, b: torch.Tensor, _: Parameters) -> _Pair:
    sign = (a - b).sign()
    return sign, -sign


def _smooth(a: torch.Tensor, b: torch.Tensor, parameters: Parameters) -> _Pair:
    slope = ((a - b) / parameters["beta"]).clamp(-1, 1)
    return slope, -slope


def _huber(a: torch.Tensor, b: torch.Tensor, parameters: Parameters) -> _Pair:
    slope = (a - b).clamp(-parameters["delta"], parameters["delta"])
    return slope, -slope


def _logistic(x: torch.Tensor, target: torch.Tensor, _: Parameters) -> _Pair:
    return torch.sigmoid(x) - target, -x


def _divergence(x: torch.Tensor, target: torch.Tensor, parameters: Parameters) -> _Pair:
    """Of ``t (log t - x)``; or, with the logarithm l of the target given, of ``exp(l) (l - x)``."""
    if parameters["log_target"]:
        return -target.exp(), target.exp() * (target - x + 1)
    return -target, target.log() + 1 - x


def _poisson(x: torch.Tensor, target: torch.Tensor, _: Parameters) -> _Pair:
    """Of ``exp(x) - t x``."""
    return x.exp() - target, -x


def _choose(
    reductions: Sequence[str] = _REDUCTIONS, **options: Sequence[float]
) -> Callable[[Sequence[Shape], int], Parameters | None]:
    def parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
        together = broadcast(*shapes)
        if together is None or not prod(together):
            return None
        fitting = [name for name in reductions if name != "batchmean" or together]
        return grid(choice, reduction=fitting, **options)

    return parameters


def _pairwise(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The loss of operands that broadcast; torch warns where they are not of one shape."""

    def forward(a: torch.Tensor, b: torch.Tensor, **parameters: float) -> torch.Tensor:
        return function(*_together(a, b), **parameters)

    return forward


# ---------------------------------------------------------------------------------------------------------- the records


def _op(
    function: Callable[..., torch.Tensor],
    slopes: _Slopes,
    choose: Callable[[Sequence[Shape], int], Parameters | None],
    formula: str = _CALCULUS,
    kinks: str = "",
    domains: tuple[Domain, ...] = (),
) -> Op:
    name = function.__name__
    options = {
        "smooth_l1_loss": ", beta={beta}",
        "huber_loss": ", delta={delta}",
        "kl_div": ", log_target={log_target}",
    }
    keywords = "reduction={reduction}" + options.get(name, "")
    return Op(
        name=name,
        forward=_pairwise(function),
        vjp=_between(slopes),
        code=f"torch.nn.functional.{name}(*torch.broadcast_tensors({{0}}, {{1}}), {keywords})",
        formula=formula,
        arity=2,
        parameters=choose,
        domains=domains,
        kinks=kinks,
    )


_CLASSES = (
    Op(
        name="cross_entropy",
        forward=_cross_entropy_forward,
        vjp=_cross_entropy,
        code=(
            "torch.nn.functional.cross_entropy({0}.reshape(-1, {0}.shape[-1]),"
            " torch.tensor({target}, device={0}.device), reduction={reduction}, label_smoothing={label_smoothing})"
        ),
        formula=_BISHOP,
        parameters=_choose_classes,
    ),
    Op(
        name="nll_loss",
        forward=_nll_forward,
        vjp=_nll,
        code=(
            "torch.nn.functional.nll_loss({0}.reshape(-1, {0}.shape[-1]), torch.tensor({target}, device={0}.device),"
            " reduction={reduction})"
        ),
        formula="linear: minus the chosen elements",
        parameters=_choose_nll,
    ),
)

_PAIRS = (
    _op(F.mse_loss, _squared, _choose()),
    _op(F.l1_loss, _absolute, _choose(), kinks="x = y"),
    _op(F.smooth_l1_loss, _smooth, _choose(beta=(1.0, 0.5, 2.0)), _HUBER, "|x - y| = beta, in the second derivative"),
    _op(F.huber_loss, _huber, _choose(delta=(1.0, 0.5, 2.0)), _HUBER, "|x - y| = delta, in the second derivative"),
    _op(F.binary_cross_entropy_with_logits, _logistic, _choose(), _BISHOP),
    _op(
        F.kl_div,
        _divergence,
        _choose(("sum", "batchmean", "none"), log_target=(False, True)),
        "Kullback & Leibler 1951: t (log t - x)",
        domains=(Domain.REAL, Domain.POSITIVE),
    ),
    _op(F.poisson_nll_loss, _poisson, _choose()),
)

OPS = (*_CLASSES, *_PAIRS)
