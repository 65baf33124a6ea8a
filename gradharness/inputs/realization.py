"""From the choices of a recipe to the arguments of a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradharness.errors import UsageError
from gradharness.inputs import values
from gradharness.inputs.domain import Domain, Origin
from gradharness.inputs.shapes import Shape
from gradharness.inputs.specs import (
    ChoiceSpec,
    ConstantSpec,
    ExampleSpec,
    IndexSpec,
    LeafSpec,
    MaskSpec,
    Spec,
    StrategySpec,
    TreeSpec,
    leaf_specs,
)
from gradharness.inputs.styles import Style
from gradharness.numerics import tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The choices of a recipe, ready to be looked up.

    Attributes:
        sizes: Of every dim.
        batches: Of every variadic dim.
        broadcast: Places of axes that have size one.
        seed: Gives all elements.
        style_of: Style of the tensor of a label.
        arguments: Choices of plain arguments.
    """

    sizes: Mapping[str, int]
    batches: Mapping[str, tuple[int, ...]]
    broadcast: frozenset[str]
    seed: int
    style_of: Callable[[str], Style]
    arguments: Mapping[str, Any]


def fitted(domain: Domain, sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The sizes, changed where a tensor of unique integers would hold more of them than its range has."""
    fitting = dict(sizes)
    for _, _, spec in domain.leaves():
        if isinstance(spec, IndexSpec) and spec.unique and domain.origin is Origin.DECLARED:
            _fit(spec, fitting)
    return fitting


def _fit(spec: IndexSpec, sizes: dict[str, int]) -> None:
    """Makes the range as large as the tensor's literal sizes need, and then its named dims as small as the range."""
    count = math.prod(axis.size for axis in spec.shape if axis.size is not None)
    if isinstance(spec.below, int):
        span = spec.below - spec.low
    else:
        sizes[spec.below] = max(sizes.get(spec.below, 0), spec.low + (count if spec.shape else 1))
        span = sizes[spec.below] - spec.low
    for axis in spec.shape:
        if axis.name and axis.name != spec.below:
            sizes[axis.name] = min(sizes.get(axis.name, 1), span // max(count, 1))
        if axis.name:
            count *= sizes[axis.name]


def arguments(domain: Domain, plan: Plan, dtype: torch.dtype, device: torch.device | str) -> tuple[object, ...]:
    """The arguments of the call, tensors on ``device``."""
    chosen = {
        name: _choice(name, spec, plan)
        for name, spec in zip(domain.names, domain.specs, strict=True)
        if isinstance(spec, (ChoiceSpec, StrategySpec, ConstantSpec))
    }
    made = []
    for name, spec in zip(domain.names, domain.specs, strict=True):
        if name in chosen:
            made.append(_ready(chosen[name], dtype, device))
        elif isinstance(spec, ExampleSpec):
            made.append(copies(spec.value, dtype, device))
        else:
            made.append(_drawn(name, spec, plan, chosen, dtype, device))
    return tuple(made)


def copies(value: object, dtype: torch.dtype, device: torch.device | str) -> object:
    """The value with copies of its tensors: detached, converted, strides kept."""
    return tree.map_tensors(lambda t: _copy(t, dtype, device), value)


def shape_of(shape: Shape, label: str, plan: Plan) -> tuple[int, ...]:
    """Sizes of a tensor.

    Raises:
        UsageError: If the recipe does not say the size of a dim.
    """
    sizes: list[int] = []
    for number, axis in enumerate(shape):
        if axis.variadic:
            sizes += plan.batches.get(axis.name, ())
        elif f"{label}:{number}" in plan.broadcast:
            sizes.append(1)
        elif axis.size is not None:
            sizes.append(axis.size)
        elif axis.name in plan.sizes:
            sizes.append(axis.factor * plan.sizes[axis.name])
        else:
            raise UsageError(f"recipe: no size for dim {axis.name!r} of {label}; it belongs to another domain")
    return tuple(sizes)


def _choice(name: str, spec: Spec, plan: Plan) -> object:
    if isinstance(spec, ChoiceSpec):
        number = plan.arguments.get(name, 0)
        if not isinstance(number, int) or not 0 <= number < len(spec.values):
            raise UsageError(f"recipe: argument {name!r} has {len(spec.values)} choices, not number {number!r}")
        return spec.values[number]
    if isinstance(spec, StrategySpec):
        if name not in plan.arguments:
            raise UsageError(f"recipe: no value for argument {name!r}; draw one with its strategy")
        return plan.arguments[name]
    return spec.value if isinstance(spec, ConstantSpec) else None


def _ready(value: object, dtype: torch.dtype, device: torch.device | str) -> object:
    return copies(value, dtype, device) if tree.tensor_paths(value) else value


def _drawn(
    name: str, spec: Spec, plan: Plan, chosen: Mapping[str, object], dtype: torch.dtype, device: torch.device | str
) -> object:
    value = copies(spec.template, dtype, device) if isinstance(spec, TreeSpec) else None
    for path, leaf in leaf_specs(spec):
        t = _tensor(tree.label(name, path), leaf, plan, chosen)
        if t.is_complex():
            t = t.to(dtype.to_complex())
        elif t.is_floating_point():
            t = t.to(getattr(leaf, "dtype", None) or dtype)
        value = tree.replace(value, path, t.to(device=device))
    return value


def _tensor(label: str, spec: LeafSpec, plan: Plan, chosen: Mapping[str, object]) -> torch.Tensor:
    sizes = shape_of(spec.shape, label, plan)
    g = values.generator(plan.seed, label)
    style = plan.style_of(label)
    if isinstance(spec, IndexSpec):
        return values.draw_index(spec, sizes, _upper(spec, label, plan, chosen), style, g)
    if isinstance(spec, MaskSpec):
        return values.draw_mask(spec, sizes, style, g)
    return values.draw_tensor(spec, sizes, style, g)


def _upper(spec: IndexSpec, label: str, plan: Plan, chosen: Mapping[str, object]) -> int:
    """Largest value of an index tensor."""
    below: object = spec.below
    if isinstance(below, str):
        below = plan.sizes[below] if below in plan.sizes else chosen.get(below)
    if not isinstance(below, int):
        raise UsageError(f"recipe: no size for below={spec.below!r} of {label}; it belongs to another domain")
    return below if spec.inclusive else below - 1


def _copy(t: torch.Tensor, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    t = t.detach()
    if t.is_complex():
        dtype = dtype.to_complex()
    elif not t.is_floating_point():
        dtype = t.dtype
    if t.numel() == 0 or t.is_contiguous() or t.layout is not torch.strided:
        return t.to(dtype=dtype, device=device, copy=True)
    # Through the storage, so that strides, gaps and overlaps are those of the example.
    extent = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    memory = t.as_strided((extent,), (1,), t.storage_offset()).to(dtype=dtype, device=device, copy=True)
    return memory.as_strided(t.shape, t.stride())
