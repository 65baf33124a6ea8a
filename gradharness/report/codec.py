"""Values to plain JSON data and back: tensors, containers, numbers that JSON has no word for.

What JSON can say is left as it is. All else is an object with a ``kind``:

    {"kind": "tensor", "dtype": "float64", "shape": [2], "values": [1.5, "nan"]}
    {"kind": "tuple", "items": [1, 2]}
    {"kind": "float", "value": "inf"}
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from gradharness.report import show

MAX_ELEMENTS = 10_000


def encode(value: object) -> Any:
    """Plain JSON data that ``decode`` turns back. An object of a foreign type becomes its repr."""
    if value is None or isinstance(value, bool | int | str):
        return value
    for kind, encoder in _ENCODERS:
        if isinstance(value, kind):
            return encoder(value)
    return {"kind": "repr", "text": repr(value)}


def decode(data: Any) -> Any:
    """The value that ``encode`` was given. Raises ``ValueError`` if the data cannot come from there."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "kind" not in data:
        return {key: decode(item) for key, item in data.items()}
    decoder = _DECODERS.get(data["kind"]) if isinstance(data["kind"], str) else None
    if decoder is None:
        raise ValueError(f"unknown kind of value {data['kind']!r}")
    try:
        return decoder(data)
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"malformed {data['kind']}: {error}") from error


def number(value: float) -> float | str:
    """A float that JSON can hold: ``nan``, ``inf`` and ``-inf`` as text."""
    return value if math.isfinite(value) else str(value)


def _encode_dict(value: dict[Any, Any]) -> Any:
    if all(isinstance(key, str) for key in value) and "kind" not in value:
        return {key: encode(item) for key, item in value.items()}
    return {"kind": "dict", "items": [[encode(key), encode(item)] for key, item in value.items()]}


def _encode_tensor(value: torch.Tensor) -> dict[str, Any]:
    value = value.detach()
    data: dict[str, Any] = {"kind": "tensor", "dtype": _name(value.dtype), "shape": list(value.shape)}
    if value.device.type != "cpu":
        data["device"] = str(value.device)
    if value.numel() > MAX_ELEMENTS or value.device.type == "meta" or value.layout is not torch.strided:
        return {**data, "note": f"values not recorded: {show.kind(value)} has {value.numel()} elements"}
    if not value.is_contiguous():
        data["stride"] = list(value.stride())
    parts = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return {**data, "values": _finite(parts.tolist())}


def _decode_tensor(data: dict[str, Any]) -> torch.Tensor:
    """A tensor on the CPU with the recorded strides; on the meta device where the values were not recorded."""
    dtype = _dtype(data["dtype"])
    if "values" not in data:
        return torch.empty(data["shape"], dtype=dtype, device="meta")
    parts = dtype.to_real() if dtype.is_complex else dtype
    values = torch.tensor(_numbers(data["values"]), dtype=parts)
    values = values.reshape([*data["shape"], 2] if dtype.is_complex else data["shape"])
    if dtype.is_complex:
        values = torch.view_as_complex(values)
    return _with_stride(values, data["stride"]) if "stride" in data else values


def _with_stride(values: torch.Tensor, stride: list[int]) -> torch.Tensor:
    """The same values with other strides; left contiguous if the elements overlap in another way than by expansion."""
    unexpanded = values
    for dim, step in enumerate(stride):
        if step == 0:
            unexpanded = unexpanded.narrow(dim, 0, min(1, values.shape[dim]))
    result = torch.empty_strided(values.shape, stride, dtype=values.dtype)
    target = result.as_strided(unexpanded.shape, stride)
    try:
        target.copy_(unexpanded)
    except RuntimeError:
        return values
    return result


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return number(value) if isinstance(value, float) else value


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) else value


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name!r} is no dtype of torch")
    return dtype


_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tensor": _decode_tensor,
    "float": lambda data: float(data["value"]),
    "complex": lambda data: complex(float(data["re"]), float(data["im"])),
    "dtype": lambda data: _dtype(data["name"]),
    "tuple": lambda data: tuple(decode(item) for item in data["items"]),
    "dict": lambda data: {decode(key): decode(item) for key, item in data["items"]},
    "repr": lambda data: data["text"],
}

_ENCODERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (float, lambda value: value if math.isfinite(value) else {"kind": "float", "value": str(value)}),
    (complex, lambda value: {"kind": "complex", "re": number(value.real), "im": number(value.imag)}),
    (torch.Tensor, _encode_tensor),
    (torch.dtype, lambda value: {"kind": "dtype", "name": _name(value)}),
    (list, lambda value: [encode(item) for item in value]),
    (tuple, lambda value: {"kind": "tuple", "items": [encode(item) for item in value]}),
    (dict, _encode_dict),
)
