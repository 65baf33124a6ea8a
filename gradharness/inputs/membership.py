"""Whether a point that was not drawn is one of a domain: values kept from another run, after the specs were changed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradharness.inputs.domain import Domain
from gradharness.inputs.shapes import Broadcast
from gradharness.inputs.specs import ChoiceSpec, ConstantSpec, IndexSpec, LeafSpec, MaskSpec, Spec, TensorSpec
from gradharness.numerics import tree

# Values are drawn in few bits, and those of an interval are rounded after they were drawn inside of it.
_SLACK = 2.0**-8


def sizes_in(domain: Domain, values: tuple[object, ...]) -> dict[str, int]:
    """Size of every named dim, as the tensors have it; those of which no tensor tells are left out."""
    sizes: dict[str, int] = {}
    perhaps_one: dict[str, int] = {}  # where all axes of a dim may be one by broadcasting, the longest tells
    for _, path, spec in domain.leaves():
        t = _at(values, path)
        if t is None or t.dim() != len(spec.shape):
            continue
        for axis, size in zip(spec.shape, t.shape, strict=True):
            if axis.name and not axis.variadic and size % axis.factor == 0:
                found = sizes if axis.broadcast is Broadcast.NEVER else perhaps_one
                found[axis.name] = max(found.get(axis.name, 0), size // axis.factor)
    return perhaps_one | sizes


def why_outside(domain: Domain, values: tuple[object, ...]) -> str:
    """What in a point is none of a domain that was declared; empty if nothing is.

    Structures such as symmetry are not looked at: there the values decide nothing that the subject does not see.

    Args:
        domain: Of declared specs.
        values: One per argument.
    """
    reasons = [*_of_arguments(domain, values), *_of_tensors(domain, values)]
    return reasons[0] if reasons else ""


def _of_arguments(domain: Domain, values: tuple[object, ...]) -> Iterator[str]:
    for name, spec, value in zip(domain.names, domain.specs, values, strict=True):
        if isinstance(spec, ChoiceSpec) and not any(_same(value, one) for one in spec.values):
            yield f"{name} was {value!r:.60}, which is none of its choices"
        elif isinstance(spec, ConstantSpec) and not _same(value, spec.value):
            yield f"{name} was {value!r:.60}, and is {spec.value!r:.60} now"


def _of_tensors(domain: Domain, values: tuple[object, ...]) -> Iterator[str]:
    sizes = sizes_in(domain, values)
    for label, path, spec in domain.leaves():
        t = _at(values, path)
        reason = "it was no tensor" if t is None else _of_shape(spec, t, sizes) or _of_values(spec, t)
        if reason:
            yield f"{label}: {reason}"


def _of_shape(spec: LeafSpec, t: torch.Tensor, sizes: dict[str, int]) -> str:
    variadic = any(axis.variadic for axis in spec.shape)
    if t.dim() < len(spec.shape) - variadic or (not variadic and t.dim() != len(spec.shape)):
        return f"it had the shape {list(t.shape)}"
    if variadic:
        return ""
    for axis, size in zip(spec.shape, t.shape, strict=True):
        wanted = axis.size if axis.size is not None else axis.factor * sizes.get(axis.name, size)
        if size not in (wanted, 1):  # an axis may be one by broadcasting
            return f"it had the shape {list(t.shape)}, in which {axis} is not {size}"
    return ""


def _of_values(spec: Spec, t: torch.Tensor) -> str:
    kind = "bool" if t.dtype is torch.bool else "complex" if t.is_complex() else "float"
    kind = kind if kind != "float" or t.is_floating_point() else "integer"
    wanted = "bool" if isinstance(spec, MaskSpec) else "integer" if isinstance(spec, IndexSpec) else "float"
    if isinstance(spec, TensorSpec) and spec.complex:
        wanted = "complex"
    if kind != wanted:
        return f"it was a tensor of {kind} values, and is one of {wanted} values now"
    if isinstance(spec, TensorSpec) and not spec.complex and t.numel():
        return _of_region(spec, t.detach().double())
    return ""


def _of_region(spec: TensorSpec, t: torch.Tensor) -> str:
    slack = _SLACK * max(abs(spec.low or 0.0), abs(spec.high or 0.0), spec.scale)
    if spec.low is not None and bool((t < spec.low - slack).any()):
        return f"it had the value {float(t.min()):.6g}, below {spec.low:.6g}"
    if spec.high is not None and bool((t > spec.high + slack).any()):
        return f"it had the value {float(t.max()):.6g}, above {spec.high:.6g}"
    return ""


def _at(values: tuple[object, ...], path: tree.Path) -> torch.Tensor | None:
    found: object = values
    try:
        for key in path:
            if not isinstance(found, (list, tuple, dict)):
                return None
            found = found[key]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        return None
    return found if isinstance(found, torch.Tensor) else None


def _same(left: object, right: object) -> bool:
    """Whether two plain values are the same; what cannot be compared is taken to be."""
    if tree.tensors(left) or tree.tensors(right):
        return True
    try:
        return type(left) is type(right) and bool(left == right or left != left)
    except Exception:  # a user's own comparison
        return True
