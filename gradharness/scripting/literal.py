"""Values as Python source that makes the same values again, the layout of tensors included."""

from __future__ import annotations

import math

import torch

FILL_IN = "FILL IN"
MAX_LITERAL = 4096
_READ = 32  # elements that somebody may want to read; more of them are written as short as can be


def literal(value: object) -> str:
    """An expression for ``value``; where there is none, ``None`` with a comment that asks to fill it in.

    The names ``torch``, ``inf`` and ``nan`` have to be known where the expression stands.
    """
    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, list):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return _plain(value)


def tensor(value: torch.Tensor) -> str:
    """An expression for a tensor: same dtype, device, values, strides and offset."""
    value = value.detach().resolve_conj().resolve_neg()
    options = f"dtype={value.dtype}" + ("" if value.device.type == "cpu" else f", device={str(value.device)!r}")
    if value.numel() == 0:
        return f"torch.zeros({list(value.shape)}, {options})"
    span = _span(value)
    if (value.is_contiguous() and not value.storage_offset()) or span > MAX_LITERAL:
        return _contiguous(value, options)
    memory = value.as_strided((span,), (1,), 0)
    place = f"{tuple(value.shape)}, {tuple(value.stride())}"
    if value.storage_offset():
        place += f", {value.storage_offset()}"
    return f"torch.as_strided({_contiguous(memory, options)}, {place})"


def _span(value: torch.Tensor) -> int:
    """Elements of memory from the storage's begin to the tensor's last element."""
    return int(value.storage_offset()) + 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))


def _contiguous(value: torch.Tensor, options: str) -> str:
    flat = value.reshape(-1)
    if value.numel() > 4 and bool((flat == flat[0]).all()):
        return f"torch.full({list(value.shape)}, {_element(flat[0].item(), value.dtype)}, {options})"
    read = f"torch.tensor({_nested(value.tolist(), value.dtype)}, {options})"
    return read if value.numel() <= _READ else min(read, _bytes(value), key=len)


def _bytes(value: torch.Tensor) -> str:
    """The memory itself, in hexadecimal digits."""
    memory = value.cpu().contiguous().reshape(-1).view(torch.uint8)
    shape = "" if value.dim() == 1 else f".reshape({list(value.shape)})"
    device = "" if value.device.type == "cpu" else f".to({str(value.device)!r})"
    return f"torch.frombuffer(bytearray.fromhex({bytes(memory.tolist()).hex()!r}), dtype={value.dtype}){shape}{device}"


def _nested(values: object, dtype: torch.dtype) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(_nested(v, dtype) for v in values) + "]"
    return _element(values, dtype)


def _element(value: object, dtype: torch.dtype) -> str:
    """The shortest number that is the same element in ``dtype``."""
    if not isinstance(value, float) or not math.isfinite(value) or dtype is torch.float64:
        return _plain(value)
    for digits in range(1, 17):
        short = float(f"{value:.{digits}g}")
        if torch.tensor(short, dtype=dtype).item() == value:
            return repr(short)
    return repr(value)


def _plain(value: object) -> str:
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    return f"None  # {FILL_IN}: {type(value).__name__}\n"
