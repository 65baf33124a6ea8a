"""Convolutions in one and two dimensions, as sums over the positions of the kernel.

``y[o] = sum over k of w[k] x[stride o + dilation k - padding]``: for every k the operand is seen through a slice with
steps, so its gradient adds into that slice, and the gradient of ``w[k]`` is what the slice and the cotangent make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from gradharness.programs.op import Call, Op, Parameters, Shape
from gradharness.programs.ops.choosing import one_of
from gradharness.programs.ops.front import front, put_front

_FORMULA = "Dumoulin & Visin 2016, A guide to convolution arithmetic; linear in each operand"
_SETTINGS = [(1, 0, 1), (2, 0, 1), (1, 1, 1), (1, 0, 2), (2, 1, 1), (3, 1, 2)]  # stride, padding, dilation

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
_Fit: TypeAlias = Callable[[Sequence[Shape], int], Parameters | None]
Position: TypeAlias = tuple[Shape, Any]  # a place in the kernel, and what indexes the operand there


def positions(kernel: Shape, outputs: Shape, stride: int, dilation: int = 1) -> Iterator[Position]:
    """Every position in the kernel, with the slice of the padded operand that it meets."""
    for place in product(*map(range, kernel)):
        starts = [dilation * k for k in place]
        ends = [start + stride * (n - 1) + 1 for start, n in zip(starts, outputs, strict=True)]
        yield place, (..., *(slice(start, end, stride) for start, end in zip(starts, ends, strict=True)))


def padded(x: torch.Tensor, padding: int, rank: int, value: float = 0.0) -> torch.Tensor:
    """The operand with ``padding`` more elements on both sides of its last ``rank`` dimensions."""
    return F.pad(x, [padding] * (2 * rank), value=value)


def cropped(x: torch.Tensor, padding: int, rank: int) -> torch.Tensor:
    """The adjoint of ``padded``."""
    inside: Any = (..., *(slice(padding, n - padding) for n in x.shape[x.dim() - rank :]))
    return x[inside]


def convolve_back(x: torch.Tensor, w: torch.Tensor, g: torch.Tensor, parameters: Parameters) -> _Pair:
    """The gradients of a convolution for the operand and the weight.

    Args:
        x: Of shape (batch, channels, *sizes).
        w: Of shape (outputs, channels / groups, *kernel).
        g: Of shape (batch, outputs, *sizes).
        parameters: With stride, padding, dilation and groups.
    """
    rank, groups, padding = w.dim() - 2, parameters.get("groups", 1), parameters["padding"]
    seen = padded(x, padding, rank)
    grad_x, grad_w = torch.zeros_like(seen), torch.zeros_like(w)
    out = g.reshape(g.shape[0], groups, -1, prod(g.shape[2:]))
    weight = w.reshape(groups, -1, *w.shape[1:])
    for place, where in positions(w.shape[2:], g.shape[2:], parameters["stride"], parameters["dilation"]):
        patch = seen[where].reshape(x.shape[0], groups, -1, out.shape[-1])
        tap: Any = (..., *place)
        taps = weight[tap]
        grad_x[where] += torch.einsum("ngol,goi->ngil", out, taps.conj()).reshape(seen[where].shape)
        grad_w[tap] = torch.einsum("ngol,ngil->goi", out, patch.conj()).reshape(w.shape[:2])
    return cropped(grad_x, padding, rank), grad_w


def _convolution(call: Call, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x, w = call.inputs[:2]
    grad_x, grad_w = convolve_back(x, w, g, call.parameters)
    summed = g.sum([d for d in range(g.dim()) if d != 1])
    return (grad_x, grad_w, *(put_front(summed, bias.shape) for bias in call.inputs[2:]))


def _biased_forward(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, **settings: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = F.conv1d
    return function(x, w, front(bias, w.shape[0]), **settings)


def _settings(sizes: Shape, kernel: Shape) -> list[Parameters]:
    """What strides, paddings and dilations leave something to see."""
    return [
        {"stride": stride, "padding": padding, "dilation": dilation}
        for stride, padding, dilation in _SETTINGS
        if all(n + 2 * padding >= dilation * (k - 1) + 1 for n, k in zip(sizes, kernel, strict=True))
    ]


def _fit_convolution(rank: int) -> _Fit:
    """Groups follow from the shapes; a bias, where there is one, has enough elements for all outputs."""

    def parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
        x, w = shapes[:2]
        if len(x) != rank + 2 or len(w) != rank + 2 or not prod(x) * prod(w):
            return None
        if any(prod(bias) < w[0] for bias in shapes[2:]):
            return None
        groups = x[1] // w[1]
        if groups * w[1] != x[1] or w[0] % groups:
            return None
        return one_of(choice, [{**setting, "groups": groups} for setting in _settings(x[2:], w[2:])])

    return parameters


# --------------------------------------------------------------------------- operands of any shape, seen as one channel


def _image_forward(x: torch.Tensor, taps: torch.Tensor, kernel: Shape, **settings: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = F.conv1d if len(kernel) == 1 else F.conv2d
    images = x.reshape(-1, 1, *x.shape[x.dim() - len(kernel) :])
    return function(images, front(taps, 1, 1, *kernel), **settings)


def _image(call: Call, g: torch.Tensor) -> _Pair:
    x, taps = call.inputs
    kernel = call.parameters["kernel"]
    images = x.reshape(-1, 1, *x.shape[x.dim() - len(kernel) :])
    grad_x, grad_w = convolve_back(images, front(taps, 1, 1, *kernel), g, call.parameters)
    return grad_x.reshape(x.shape), put_front(grad_w, taps.shape)


def _fit_image(kernels: Sequence[Shape]) -> _Fit:
    rank = len(kernels[0])

    def parameters(shapes: Sequence[Shape], choice: int) -> Parameters | None:
        x, taps = shapes
        if len(x) < rank or not prod(x):
            return None
        fitting = [kernel for kernel in kernels if prod(kernel) <= prod(taps)]
        sizes = x[len(x) - rank :]
        return one_of(choice, [{"kernel": k, **setting} for k in fitting for setting in _settings(sizes, k)])

    return parameters


# ------------------------------------------------------------------- operands of any shape, channels and positions last


def _batch(x: torch.Tensor) -> torch.Tensor:
    """All axes but channels and positions in one."""
    return x.reshape(-1, *x.shape[-2:])


def _channels_forward(x: torch.Tensor, w: torch.Tensor, weight: Shape, **settings: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = F.conv1d
    return function(_batch(x), front(w, *weight), **settings)


def _channels(call: Call, g: torch.Tensor) -> _Pair:
    x, w = call.inputs
    grad_x, grad_w = convolve_back(_batch(x), front(w, *call.parameters["weight"]), g, call.parameters)
    return grad_x.reshape(x.shape), put_front(grad_w, w.shape)


def _fit_channels(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """All channels in one group or each in its own."""
    x, w = shapes
    if len(x) < 2 or not prod(x):
        return None
    wanted = [
        ((1, x[-2], 2), 1),
        ((x[-2], 1, 2), x[-2]),
        ((2, x[-2], 1), 1),
        ((2, x[-2], 3), 1),
        ((x[-2], 1, 1), x[-2]),
    ]
    fitting = [
        {"weight": weight, **setting, "groups": groups}
        for weight, groups in wanted
        if prod(weight) <= prod(w)
        for setting in _settings(x[-1:], weight[2:])
    ]
    return one_of(choice, fitting)


def _transposed_forward(x: torch.Tensor, w: torch.Tensor, weight: Shape, **settings: int) -> torch.Tensor:
    function: Callable[..., torch.Tensor] = F.conv_transpose1d
    return function(_batch(x), front(w, *weight), **settings)


def _transposed(call: Call, g: torch.Tensor) -> _Pair:
    """The operand's gradient is the convolution of the cotangent, of which this op is the adjoint."""
    x, w = _batch(call.x), front(call.inputs[1], *call.parameters["weight"])
    stride, padding = call.parameters["stride"], call.parameters["padding"]
    seen = padded(g, padding, 1)
    grad_x, grad_w = torch.zeros_like(x), torch.zeros_like(w)
    for (k,), where in positions(w.shape[2:], x.shape[2:], stride, call.parameters["dilation"]):
        grad_x += torch.einsum("nol,io->nil", seen[where], w[..., k].conj())
        grad_w[..., k] = torch.einsum("nol,nil->io", seen[where], x.conj())
    return grad_x.reshape(call.x.shape), put_front(grad_w, call.inputs[1].shape)


def _fit_transposed(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    x, w = shapes
    if len(x) < 2 or not prod(x):
        return None
    fitting = [
        {"weight": weight, "stride": stride, "padding": padding, "dilation": dilation}
        for weight in ((x[-2], 1, 2), (x[-2], 2, 1), (x[-2], 2, 3))
        if prod(weight) <= prod(w)
        for stride, padding, dilation in _SETTINGS
        if stride * (x[-1] - 1) + dilation * (weight[2] - 1) + 1 > 2 * padding
    ]
    return one_of(choice, fitting)


# ---------------------------------------------------------------------------------------------------------- the records

_STEPS = "stride={stride}, padding={padding}, dilation={dilation}"
_SEEN = "{0}.reshape(-1, 1, *{0}.shape[-len({kernel}):])"
_TAPS = "{1}.flatten()[:torch.Size({kernel}).numel()].reshape(1, 1, *{kernel})"


def _op(name: str, forward: Callable[..., torch.Tensor], vjp: Callable[..., Any], code: str, fit: _Fit) -> Op:
    return Op(
        name=name,
        forward=forward,
        vjp=vjp,
        code="torch.nn.functional." + code,
        formula=_FORMULA,
        arity=3 if "{2}" in code else 2,
        parameters=fit,
        same_shape=False,
        complex=True,
    )


_LINES = _fit_image([(2,), (1,), (3,)])
_IMAGES = _fit_image([(2, 2), (1, 3), (3, 1), (3, 3), (1, 1)])

_BIASED = "{2}.flatten()[:{1}.shape[0]]"
_BATCH = "{0}.reshape(-1, *{0}.shape[-2:])"
_WEIGHT = "{1}.flatten()[:torch.Size({weight}).numel()].reshape({weight})"
_GROUPS = f"{_STEPS}, groups={{groups}}"

OPS = (
    _op("conv1d", _biased_forward, _convolution, f"conv1d({{0}}, {{1}}, {_BIASED}, {_GROUPS})", _fit_convolution(1)),
    _op("conv2d", F.conv2d, _convolution, f"conv2d({{0}}, {{1}}, {_GROUPS})", _fit_convolution(2)),
    _op("conv_line", _image_forward, _image, f"conv1d({_SEEN}, {_TAPS}, {_STEPS})", _LINES),
    _op("conv_image", _image_forward, _image, f"conv2d({_SEEN}, {_TAPS}, {_STEPS})", _IMAGES),
    _op("conv_channels", _channels_forward, _channels, f"conv1d({_BATCH}, {_WEIGHT}, {_GROUPS})", _fit_channels),
    _op(
        "conv_transpose1d",
        _transposed_forward,
        _transposed,
        f"conv_transpose1d({_BATCH}, {_WEIGHT}, {_STEPS})",
        _fit_transposed,
    ),
)
