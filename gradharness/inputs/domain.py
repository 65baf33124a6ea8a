"""All inputs that a subject is examined on: one spec per argument, and what ties their sizes together."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from gradharness.errors import SpecError, UsageError
from gradharness.inputs.shapes import Axis, Broadcast, Shape, shape_text
from gradharness.inputs.specs import (
    ChoiceSpec,
    ConstantSpec,
    ExampleSpec,
    IndexSpec,
    LeafSpec,
    MaskSpec,
    Spec,
    StrategySpec,
    TensorSpec,
    TreeSpec,
    leaf_specs,
)
from gradharness.inputs.styles import ORDINARY_STYLES, Kind, Style
from gradharness.numerics import tree


class Origin(Enum):
    """Where a rule comes from."""

    DECLARED = "declared"
    INFERRED = "from the example"


@dataclass(frozen=True, slots=True, kw_only=True)
class DimRule:
    """The sizes that one named dim may take.

    Attributes:
        name: As in the shapes.
        own: Size in the example; None if there is no example.
        minimum: Smallest size.
        maximum: Largest size; None if there is no such limit.
        step: Sizes are multiples of it.
        variadic: True if the name stands for zero to two dims.
    """

    name: str
    own: int | None = None
    minimum: int = 0
    maximum: int | None = None
    step: int = 1
    variadic: bool = False

    def allows(self, size: int) -> bool:
        """Whether the dim may have this size."""
        return size >= self.minimum and (self.maximum is None or size <= self.maximum) and size % self.step == 0

    def __str__(self) -> str:
        if self.variadic:
            return f"{self.name}: zero to two dims"
        limits = [f"at least {self.minimum}"] if self.minimum > 1 else []
        limits += [f"at most {self.maximum}"] if self.maximum is not None else []
        limits += [f"multiples of {self.step}"] if self.step > 1 else []
        return f"{self.name}: {' and '.join(limits) or 'any size'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Where primals are drawn from.

    Attributes:
        names: Names of the arguments.
        specs: One per argument.
        dims: Rules of all named dims, in order of appearance.
        origin: Whether the specs were declared or inferred.
        active: Paths of the differentiated tensors; each starts with the argument's number.
        styles: Styles of values that the forward accepts; the simplest first.
        examples: The user's own values; None if there are none.
        notes: Further lines for the report.
    """

    names: tuple[str, ...]
    specs: tuple[Spec, ...]
    dims: tuple[DimRule, ...]
    origin: Origin
    active: tuple[tree.Path, ...]
    styles: tuple[Style, ...] = ORDINARY_STYLES
    examples: tuple[object, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def differentiable(self) -> tuple[str, ...]:
        """Labels of the differentiated tensors."""
        return tuple(tree.label(self.names[int(path[0])], path[1:]) for path in self.active)

    @property
    def broadcastable(self) -> tuple[str, ...]:
        """Places of all axes that may be one while their dim is not, such as ``bias:0``."""
        return tuple(place for place, _ in self.broadcasts())

    def leaves(self) -> Iterator[tuple[str, tree.Path, LeafSpec]]:
        """Label, path and spec of every drawn tensor."""
        for number, (name, spec) in enumerate(zip(self.names, self.specs, strict=True)):
            for path, leaf in leaf_specs(spec):
                yield tree.label(name, path), (number, *path), leaf

    def broadcasts(self) -> Iterator[tuple[str, Broadcast]]:
        """Places of the axes that may be one, and what is known about that."""
        for label, _, spec in self.leaves():
            for number, axis in enumerate(spec.shape):
                if axis.broadcast is not Broadcast.NEVER:
                    yield f"{label}:{number}", axis.broadcast

    def describe(self) -> tuple[str, ...]:
        """What is drawn, one line per argument, then the dims, then the notes."""
        lines = [
            line for name, spec in zip(self.names, self.specs, strict=True) for line in _argument_lines(name, spec)
        ]
        lines = [f"{line} ({self.origin.value})" for line in lines]
        if self.dims:
            lines.append(", ".join(str(rule) for rule in self.dims))
        return (*lines, *self.notes)


def declared_domain(specs: Mapping[str, Spec], *, beside: bool = False) -> Domain:
    """The domain of specs that a user wrote.

    Args:
        specs: One per argument, in the order of the call.
        beside: Whether something beside the inputs is differentiated, so that none of them need be.

    Returns:
        The domain.

    Raises:
        SpecError: If ``below`` names no dim.
        UsageError: If no input is differentiable.
    """
    names = tuple(specs)
    fresh = iter(range(1000))
    values = tuple(_name_blanks(spec, fresh) for spec in specs.values())
    dims = _dims_of(values)
    active = active_paths(values)
    if not (active or beside):
        raise UsageError(
            f"no differentiable input among {', '.join(names) or 'no arguments at all'}: "
            'give at least one argument a floating tensor, such as x="n d"'
        )
    domain = Domain(names=names, specs=values, dims=dims, origin=Origin.DECLARED, active=active)
    _check_below(domain)
    return domain


def active_paths(specs: Sequence[Spec]) -> tuple[tree.Path, ...]:
    """Paths of the tensors that ask for a gradient."""
    found: list[tree.Path] = []
    for number, spec in enumerate(specs):
        if isinstance(spec, ExampleSpec):
            found += [(number,)] if spec.value.requires_grad else []
        found += [(number, *path) for path, leaf in leaf_specs(spec) if isinstance(leaf, TensorSpec) and leaf.grad]
    return tuple(found)


def map_leaves(spec: Spec, change: Mapping[tree.Path, LeafSpec]) -> Spec:
    """The spec with other specs at some paths inside the argument."""
    if isinstance(spec, TreeSpec):
        return TreeSpec(spec.template, tuple((path, change.get(path, leaf)) for path, leaf in spec.leaves))
    return change.get((), spec)


def _name_blanks(spec: Spec, fresh: Iterator[int]) -> Spec:
    """Every ``_`` is a dim of its own."""

    def axis(a: Axis) -> Axis:
        return replace(a, name=f"_{next(fresh)}") if a.name == "_" else a

    def shape(s: Shape) -> Shape:
        return tuple(axis(a) for a in s)

    return map_leaves(spec, {path: replace(leaf, shape=shape(leaf.shape)) for path, leaf in leaf_specs(spec)})


def _dims_of(specs: Sequence[Spec]) -> tuple[DimRule, ...]:
    rules: dict[str, DimRule] = {}
    for spec in specs:
        for _, leaf in leaf_specs(spec):
            for axis in leaf.shape:
                if axis.size is None:
                    rules.setdefault(axis.name, DimRule(name=axis.name, variadic=axis.variadic))
                    if rules[axis.name].variadic is not axis.variadic:
                        raise SpecError(f"dim {axis.name!r} is both one dim and any number of dims; rename one of them")
    return tuple(rules.values())


def _check_below(domain: Domain) -> None:
    known = [rule.name for rule in domain.dims if not rule.variadic]
    known += [
        name
        for name, spec in zip(domain.names, domain.specs, strict=True)
        if isinstance(spec, (StrategySpec, ChoiceSpec))
        or (isinstance(spec, ConstantSpec) and isinstance(spec.value, int))
    ]
    for label, _, spec in domain.leaves():
        if isinstance(spec, IndexSpec) and isinstance(spec.below, str) and spec.below not in known:
            close = difflib.get_close_matches(spec.below, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
            raise SpecError(f"{label}: below={spec.below!r} names no dim: {hint}")


def _argument_lines(name: str, spec: Spec) -> Iterator[str]:
    for path, leaf in leaf_specs(spec):
        yield f"{tree.label(name, path)}: {_leaf_text(leaf)}"
    if isinstance(spec, ChoiceSpec):
        yield f"{name}: one of {', '.join(repr(v) for v in spec.values)}"
    elif isinstance(spec, StrategySpec):
        yield f"{name}: drawn from {spec.strategy!r}"
    elif isinstance(spec, ConstantSpec):
        yield f"{name}: always {_short(spec.value)}"
    elif isinstance(spec, ExampleSpec):
        yield f"{name}: always the given {str(spec.value.dtype).removeprefix('torch.')}{list(spec.value.shape)}"


def _leaf_text(spec: LeafSpec) -> str:
    sizes = f"[{shape_text(spec.shape).replace(' ', ', ')}]"
    if isinstance(spec, MaskSpec):
        return f"bool{sizes}" + (", a True in every row" if spec.nonempty else "")
    if isinstance(spec, IndexSpec):
        return f"integers{sizes} in {_range_text(spec)}"
    number = str(spec.dtype).removeprefix("torch.") if spec.dtype else "complex" if spec.complex else "float"
    return f"{number}{sizes} {_region_text(spec)}" + ("" if spec.grad else ", no gradient")


def _range_text(spec: IndexSpec) -> str:
    top = spec.below if spec.inclusive else spec.below - 1 if isinstance(spec.below, int) else f"{spec.below}-1"
    words = [word for word, on in (("sorted", spec.sorted), ("unique", spec.unique), ("all of them", spec.cover)) if on]
    words += [f"or {value}" for value in spec.special]
    return ", ".join([f"{spec.low} .. {top}", *words])


def _region_text(spec: TensorSpec) -> str:
    words = {
        Kind.SPD: "symmetric positive definite",
        Kind.SYMMETRIC: "symmetric",
        Kind.LOWER: "lower triangular",
        Kind.ORTHOGONAL: "orthogonal",
        Kind.INVERTIBLE: "invertible",
        Kind.UNIT: "of unit length along the last dim",
        Kind.UNIT_SUM: "positive, rows sum to one",
        Kind.SORTED: "sorted",
        Kind.BINARY: "zeros and ones",
        Kind.NEAR: "near the example's values",
    }
    if spec.kind in words:
        return words[spec.kind]
    if spec.low is not None and spec.high is not None:
        return f"between {spec.low:.4g} and {spec.high:.4g}"
    if spec.low is not None:
        return f"above {spec.low:.4g}"
    if spec.high is not None:
        return f"below {spec.high:.4g}"
    return "complex" if spec.complex else "real" if spec.scale == 1 else f"real, around {spec.scale:.4g}"


def _short(value: object, width: int = 60) -> str:
    text = repr(value).splitlines()[0] if repr(value) else ""
    return text if len(text) <= width else text[: width - 1] + "…"
