"""Normalisations. With xhat = (x - mean) r and u = gamma g, in each group: dx = r (u - mean(u) - xhat mean(u xhat))."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import broadcast, every_dim, grid
from gradharness.programs.ops.front import front, put_front

_BATCH = "Ioffe & Szegedy 2015, Batch normalization, section 3: the statistics depend on x too"
_LAYER = "Ba, Kiros & Hinton 2016, Layer normalization, section 3"
_RMS = "Zhang & Sennrich 2019, Root mean square layer normalization, section 4"
_GROUP = "Wu & He 2018, Group normalization, section 3"
_INSTANCE = "Ulyanov, Vedaldi & Lempitsky 2016, Instance normalization"
_UNIT = "projection: the derivative of x / |x| is (I - u uᵀ) / |x|"
_EPS = (0.1, 0.5)  # large, so that a group of equal elements is no kink

_Triple: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_Fit: TypeAlias = Callable[[Sequence[Shape], int], Parameters | None]


def _standardise(x: torch.Tensor, dims: Sequence[int], eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The standardised operand and the inverse deviation; the variance is that of the population."""
    centred = x - x.mean(list(dims), keepdim=True)
    inverse = (centred.square().mean(list(dims), keepdim=True) + eps).rsqrt()
    return centred * inverse, inverse


def _standardise_back(u: torch.Tensor, xhat: torch.Tensor, inverse: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """The three terms: direct, through the mean, through the variance."""
    over = list(dims)
    return inverse * (u - u.mean(over, keepdim=True) - xhat * (u * xhat).mean(over, keepdim=True))


def _per_channel(v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The first elements of ``v``, one for each channel of ``x``."""
    return front(v, x.shape[1], *[1] * (x.dim() - 2))


def _other_dims(x: torch.Tensor) -> list[int]:
    return [d for d in range(x.dim()) if d != 1]


# ------------------------------------------------------------------------------------------------------- over last axes


def _layer_forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _layer(call: Call, g: torch.Tensor) -> _Triple:
    x, weight, _ = call.inputs
    dims = range(-weight.dim(), 0)
    xhat, inverse = _standardise(x, dims, call.parameters["eps"])
    grad_x = _standardise_back(g * weight, xhat, inverse, dims)
    return grad_x, unbroadcast(g * xhat, weight.shape), unbroadcast(g, weight.shape)


def _fit_last(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """The weight, and the bias where there is one, have the shape of the operand's last axes."""
    x, weight = shapes[:2]
    at_end = len(weight) > 0 and x[len(x) - len(weight) :] == weight
    fits = at_end and prod(x) > 0 and all(bias == weight for bias in shapes[2:])
    return grid(choice, eps=_EPS) if fits else None


def _plain_layer_forward(x: torch.Tensor, axes: int, eps: float) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-axes:], eps=eps)


def _plain_layer(call: Call, g: torch.Tensor) -> torch.Tensor:
    dims = range(-call.parameters["axes"], 0)
    xhat, inverse = _standardise(call.x, dims, call.parameters["eps"])
    return _standardise_back(g, xhat, inverse, dims)


def _choose_axes(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, axes=range(1, len(shapes[0]) + 1), eps=_EPS) if prod(shapes[0]) else None


def _rms_forward(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def _rms(call: Call, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x, weight = call.inputs
    over = list(range(-weight.dim(), 0))
    inverse = (x.square().mean(over, keepdim=True) + call.parameters["eps"]).rsqrt()
    xhat, u = x * inverse, g * weight
    grad_x = inverse * (u - xhat * (u * xhat).mean(over, keepdim=True))
    return grad_x, unbroadcast(g * xhat, weight.shape)


# -------------------------------------------------------------------- per channel, whose weights are the first elements


def _affine_back(
    g: torch.Tensor, xhat: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of a weight and a bias for each channel."""
    others = _other_dims(g)
    return put_front((g * xhat).sum(others), weight.shape), put_front(g.sum(others), bias.shape)


def _group_forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
    channels = x.shape[1]
    return F.group_norm(x, groups, front(weight, channels), front(bias, channels), eps)


def _group(call: Call, g: torch.Tensor) -> _Triple:
    x, weight, bias = call.inputs
    grouped = (x.shape[0], call.parameters["groups"], -1)
    xhat, inverse = _standardise(x.reshape(grouped), [-1], call.parameters["eps"])
    u = (g * _per_channel(weight, x)).reshape(grouped)
    grad_x = _standardise_back(u, xhat, inverse, [-1]).reshape(x.shape)
    return grad_x, *_affine_back(g, xhat.reshape(x.shape), weight, bias)


def _fit_groups(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Groups of more than one value: for one the gradient is 0, and torch gives its round-off, or an error."""
    x, weight, bias = shapes
    if len(x) < 2 or not prod(x) or min(prod(weight), prod(bias)) < x[1]:
        return None
    return grid(choice, groups=[n for n in range(1, x[1] + 1) if x[1] % n == 0 and prod(x) > n * x[0]], eps=_EPS)


def _batch_forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """All positions in one axis, and contiguous weights.

    Torch 2.13 on the CPU gives wrong gradients without: for a weight with a stride, and in rank 4 for a cotangent that
    is dense with its channels last but for the strides of its axes of size 1.
    """
    own, shift = (front(v, x.shape[1]).contiguous() for v in (weight, bias))
    return F.batch_norm(x.reshape(*x.shape[:2], -1), None, None, own, shift, training=True, eps=eps)


def _batch(call: Call, g: torch.Tensor) -> _Triple:
    weight, bias = call.inputs[1:]
    x, over = call.x.reshape(g.shape), [0, 2]
    xhat, inverse = _standardise(x, over, call.parameters["eps"])
    grad_x = _standardise_back(g * _per_channel(weight, x), xhat, inverse, over)
    return grad_x.reshape(call.x.shape), *_affine_back(g, xhat, weight, bias)


def _fit_batch(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Torch refuses a batch with a single value per channel."""
    x, weight, bias = shapes
    if len(x) < 2 or prod(x) <= x[1] or min(prod(weight), prod(bias)) < x[1]:
        return None
    return grid(choice, eps=_EPS)


def _columns_forward(x: torch.Tensor, eps: float) -> torch.Tensor:
    return F.batch_norm(x.reshape(-1, x.shape[-1]), None, None, training=True, eps=eps)


def _columns(call: Call, g: torch.Tensor) -> torch.Tensor:
    xhat, inverse = _standardise(call.x.reshape(g.shape), [0], call.parameters["eps"])
    return _standardise_back(g, xhat, inverse, [0]).reshape(call.x.shape)


def _fit_columns(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    return grid(choice, eps=_EPS) if shape and prod(shape) > shape[-1] else None


def _instance_forward(x: torch.Tensor, eps: float) -> torch.Tensor:
    return F.instance_norm(x.reshape(1, -1, x.shape[-1]), eps=eps)


def _instance(call: Call, g: torch.Tensor) -> torch.Tensor:
    xhat, inverse = _standardise(call.x, [-1], call.parameters["eps"])
    return _standardise_back(g.reshape(call.x.shape), xhat, inverse, [-1])


def _fit_instance(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    shape = shapes[0]
    return grid(choice, eps=_EPS) if shape and prod(shape) > 0 and shape[-1] > 1 else None


# -------------------------------------------------------------------------------------------------------------- lengths


def _normalize(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim = call.parameters["dim"]
    length = call.x.square().sum(dim, keepdim=True).sqrt()
    return (g - call.y * (g * call.y).sum(dim, keepdim=True)) / length


def _cosine(call: Call, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.broadcast_tensors(*call.inputs)  # type: ignore[no-untyped-call]
    dim = call.parameters["dim"]
    size_a, size_b = (x.square().sum(dim, keepdim=True).sqrt() for x in (a, b))
    along_a, along_b, cosine = a / size_a, b / size_b, call.y.unsqueeze(dim)
    spread = g.unsqueeze(dim)
    grad_a = spread * (along_b - cosine * along_a) / size_a
    grad_b = spread * (along_a - cosine * along_b) / size_b
    return unbroadcast(grad_a, call.inputs[0].shape), unbroadcast(grad_b, call.inputs[1].shape)


def _along_common(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    together = broadcast(*shapes)
    return grid(choice, dim=every_dim(len(together))) if together is not None and prod(together) > 0 else None


def _along_unit(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, dim=every_dim(len(shapes[0]))) if prod(shapes[0]) else None


# ---------------------------------------------------------------------------------------------------------- the records


def _op(name: str, forward: Callable[..., torch.Tensor], vjp: Callable[..., object], call: str, fit: _Fit) -> Op:
    formulas = {"layer": _LAYER, "rms": _RMS, "group": _GROUP, "batch": _BATCH, "instance": _INSTANCE}
    return Op(
        name=name,
        forward=forward,
        vjp=vjp,  # type: ignore[arg-type]
        code="torch.nn.functional." + call,
        formula=formulas[name.partition("_")[0]],
        arity=next(n for n in (3, 2, 1) if f"{{{n - 1}}}" in call),
        parameters=fit,
        same_shape=False,
    )


_LAYER_CALL = "layer_norm({0}, {1}.shape, {1}, {2}, eps={eps})"
_RMS_CALL = "rms_norm({0}, {1}.shape, {1}, eps={eps})"
_WEIGHT, _BIAS = "{1}.flatten()[:{0}.shape[1]]", "{2}.flatten()[:{0}.shape[1]]"
_GROUP_CALL = f"group_norm({{0}}, {{groups}}, {_WEIGHT}, {_BIAS}, eps={{eps}})"
_POSITIONS = "{0}.reshape(*{0}.shape[:2], -1)"
_OWN, _SHIFT = f"{_WEIGHT}.contiguous()", f"{_BIAS}.contiguous()"
_BATCH_CALL = f"batch_norm({_POSITIONS}, None, None, {_OWN}, {_SHIFT}, training=True, eps={{eps}})"
_PLAIN_CALL = "layer_norm({0}, {0}.shape[-{axes}:], eps={eps})"
_COLUMNS_CALL = "batch_norm({0}.reshape(-1, {0}.shape[-1]), None, None, training=True, eps={eps})"
_INSTANCE_CALL = "instance_norm({0}.reshape(1, -1, {0}.shape[-1]), eps={eps})"

OPS = (
    _op("layer_norm", _layer_forward, _layer, _LAYER_CALL, _fit_last),
    _op("layer_norm_plain", _plain_layer_forward, _plain_layer, _PLAIN_CALL, _choose_axes),
    _op("rms_norm", _rms_forward, _rms, _RMS_CALL, _fit_last),
    _op("group_norm", _group_forward, _group, _GROUP_CALL, _fit_groups),
    _op("batch_norm", _batch_forward, _batch, _BATCH_CALL, _fit_batch),
    _op("batch_norm_plain", _columns_forward, _columns, _COLUMNS_CALL, _fit_columns),
    _op("instance_norm", _instance_forward, _instance, _INSTANCE_CALL, _fit_instance),
    Op(
        name="normalize",
        forward=F.normalize,
        vjp=_normalize,
        code="torch.nn.functional.normalize({0}, dim={dim})",
        formula=_UNIT,
        parameters=_along_unit,
        domains=(Domain.NONZERO,),
        kinks="x = 0",
    ),
    Op(
        name="cosine_similarity",
        forward=F.cosine_similarity,
        vjp=_cosine,
        code="torch.nn.functional.cosine_similarity({0}, {1}, dim={dim})",
        formula=_UNIT,
        arity=2,
        parameters=_along_common,
        domains=(Domain.NONZERO, Domain.NONZERO),
        kinks="x = 0 or y = 0",
    ),
)
