"""Values as short text: numbers side by side, tensors in one line."""

from __future__ import annotations

import math

import torch

from gradharness.numerics import tree

SHOWN_ELEMENTS = 12
DIGITS = 6
ALL_DIGITS = 17

Number = complex | float


def number(value: Number, digits: int = DIGITS) -> str:
    """A number with at most ``digits`` significant digits."""
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, complex):
        sign = "-" if math.copysign(1, value.imag) < 0 else "+"
        return f"{value.real:.{digits}g}{sign}{abs(value.imag):.{digits}g}j"
    return f"{value:.{digits}g}"


def apart(first: Number, second: Number) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to see that they differ."""
    for digits in range(DIGITS, ALL_DIGITS):
        texts = number(first, digits), number(second, digits)
        if texts[0] != texts[1]:
            return texts
    return number(first, ALL_DIGITS), number(second, ALL_DIGITS)


def size(value: float) -> str:
    """An error, bound or ratio: two digits, since its order is what counts."""
    return f"{value:.2g}"


def seconds(value: float) -> str:
    """A duration."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s"


def count(amount: int, noun: str) -> str:
    """``1 check``, ``2 checks``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def kind(tensor: torch.Tensor) -> str:
    """Dtype, shape, and what is unusual: ``float32[2, 3] cuda:0 strides (1, 2)``."""
    text = str(tensor.dtype).removeprefix("torch.") + str(list(tensor.shape))
    if tensor.device.type not in ("cpu", "meta"):
        text += f" {tensor.device}"
    if tensor.layout is torch.strided and not tensor.is_contiguous():
        text += f" strides {tuple(tensor.stride())}"
    return text


def tensor(value: torch.Tensor) -> str:
    """A tensor in one line: all of its values if they are few, else their range."""
    value = value.detach()
    if value.numel() == 0:
        return kind(value)
    if value.device.type == "meta":
        return f"{kind(value)}, values not recorded"
    if value.layout is not torch.strided:
        return f"{kind(value)} {value.layout}"
    if value.numel() <= SHOWN_ELEMENTS:
        return f"{kind(value)} = {_nested(value.tolist())}"
    return f"{kind(value)}, {_range(value)}"


def anything(value: object) -> str:
    """An argument of a call in one line."""
    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, float | complex) and not isinstance(value, bool):
        return number(value, ALL_DIGITS) if isinstance(value, complex) else repr(value)
    if isinstance(value, tuple | list | dict) and tree.tensor_paths(value):
        return ", ".join(f"{tree.label('', path)}: {anything(leaf)}" for path, leaf in tree.leaves(value))
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _nested(values: object) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(_nested(v) for v in values) + "]"
    return number(values) if isinstance(values, int | float | complex) else str(values)


def _range(value: torch.Tensor) -> str:
    """Where the values of a big tensor lie, and how many are not finite."""
    if value.dtype is torch.bool:
        return f"{int(value.sum())} of {value.numel()} true"
    wide = value.to(torch.complex128 if value.is_complex() else torch.float64)
    finite = torch.isfinite(wide)
    odd = value.numel() - int(finite.sum())
    name = "magnitudes" if value.is_complex() else "values"
    wide = wide[finite].abs() if value.is_complex() else wide[finite]
    parts = []
    if wide.numel():
        parts.append(f"{name} from {number(wide.min().item())} to {number(wide.max().item())}")
    if odd:
        parts.append(f"{odd} not finite")
    return ", ".join(parts)
