"""What the values of an example tensor show: region, structure, range of integers."""

from __future__ import annotations

import math

import torch

from gradharness.inputs.shapes import Axis
from gradharness.inputs.specs import IndexSpec, LeafSpec, MaskSpec, TensorSpec
from gradharness.inputs.styles import Kind


def observed_spec(t: torch.Tensor, *, grad: bool) -> LeafSpec:
    """The spec of an example tensor, its axes still literal sizes.

    Args:
        t: The example.
        grad: Whether it is differentiated.
    """
    shape = tuple(Axis(size=size) for size in t.shape)
    if t.dtype is torch.bool:
        return MaskSpec(shape=shape)
    if t.is_complex():
        return TensorSpec(shape=shape, grad=grad, complex=True, scale=_scale(t))
    t = t.detach().cpu()
    if not t.is_floating_point():
        return _integers(t, shape)
    t = t.double()
    kind = _kind(t, grad=grad)
    if kind is not Kind.PLAIN:
        return TensorSpec(shape=shape, grad=grad, kind=kind, scale=_scale(t))
    low, high = _region(t)
    return TensorSpec(shape=shape, grad=grad, low=low, high=high, scale=_scale(t))


def tight_region(spec: TensorSpec, t: torch.Tensor) -> TensorSpec | None:
    """The spec with exactly the example's range; None if it has none."""
    values = t.detach().double().cpu()
    if spec.complex or spec.kind is not Kind.PLAIN or values.numel() < 2 or not values.min() < values.max():
        return None
    return TensorSpec(shape=spec.shape, grad=spec.grad, low=float(values.min()), high=float(values.max()))


def near_example(spec: TensorSpec, t: torch.Tensor) -> TensorSpec | None:
    """The spec of values close to the example's; None for complex ones."""
    if spec.complex or not t.numel():
        return None
    return TensorSpec(shape=spec.shape, grad=spec.grad, kind=Kind.NEAR, center=t.detach().double().cpu())


def _integers(t: torch.Tensor, shape: tuple[Axis, ...]) -> IndexSpec:
    if not t.numel():
        return IndexSpec(shape=shape, below=1, dtype=t.dtype)
    t64 = t.long()
    low, high = int(t64.min()), int(t64.max())
    long_row = t.dim() > 0 and t.shape[-1] >= 3
    is_sorted = long_row and bool((t64.diff(dim=-1) >= 0).all()) and low < high
    return IndexSpec(shape=shape, below=high + 1, low=low, sorted=is_sorted, dtype=t.dtype)


def _kind(t: torch.Tensor, *, grad: bool) -> Kind:
    if not t.numel() or not bool(t.isfinite().all()):
        return Kind.PLAIN
    if t.dim() >= 2 and t.shape[-1] == t.shape[-2] >= 2 and bool((t != t.reshape(-1)[0]).any()):
        if torch.equal(t, t.mT):
            return Kind.SPD if bool((torch.linalg.eigvalsh(t) > 0).all()) else Kind.SYMMETRIC
        if torch.equal(t, t.tril()) and bool((t.diagonal(dim1=-2, dim2=-1) != 0).all()):
            return Kind.LOWER
    binary = bool(((t == 0) | (t == 1)).all())
    if binary and not grad and t.numel() >= 4 and bool(t.min() < t.max()):
        return Kind.BINARY
    if t.dim() and t.shape[-1] >= 2 and bool((t >= 0).all()) and bool(((t.sum(-1) - 1).abs() < 1e-6).all()):
        return Kind.UNIT_SUM
    ascending = t.dim() == 1 and t.shape[-1] >= 5 and bool((t.diff() > 0).all())
    return Kind.SORTED if ascending else Kind.PLAIN


def _region(t: torch.Tensor) -> tuple[float | None, float | None]:
    values = t[t.isfinite()]
    if not values.numel():
        return None, None
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 and bool(((values > 0) & (values < 1)).any()) and values.numel() >= 2:
        return 0.0, 1.0
    if low > 0:
        return low / 4, high * 4
    if high < 0:
        return low * 4, high / 4
    return None, None


def _scale(t: torch.Tensor) -> float:
    """Magnitude of the values: one, or a power of two where they are far from it."""
    values = t.detach().abs().double().cpu()
    values = values[values.isfinite() & (values > 0)]
    if not values.numel():
        return 1.0
    rms = float(values.square().mean().sqrt())
    return 1.0 if 1 / 8 <= rms <= 8 else 2.0 ** round(math.log2(rms))
