"""What an argument may be: specs, and how they are written."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from hypothesis.strategies import SearchStrategy

from gradharness.errors import SpecError
from gradharness.inputs import jaxtyped
from gradharness.inputs.kinds import parse_kind
from gradharness.inputs.shapes import Shape, parse_shape
from gradharness.inputs.styles import Kind
from gradharness.numerics import tree


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A floating or complex tensor.

    Attributes:
        shape: Its axes.
        low: Values are above it; None if there is no such limit.
        high: Values are below it; None if there is no such limit.
        dtype: Dtype that the tensor always has; None if it follows the run's.
        grad: Whether a gradient is asked for.
        complex: True for complex values (of the run's precision).
        kind: Structure of the values.
        scale: Magnitude of unbounded values.
        center: Values of the example, for ``Kind.NEAR``.
    """

    shape: Shape
    low: float | None = None
    high: float | None = None
    dtype: torch.dtype | None = None
    grad: bool = True
    complex: bool = False
    kind: Kind = Kind.PLAIN
    scale: float = 1.0
    center: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """An integer tensor.

    Attributes:
        shape: Its axes.
        below: Name of a dim or of an integer argument, or a number.
        low: Smallest value.
        inclusive: True if ``below`` itself is allowed (lengths, offsets).
        sorted: Whether values never decrease along the last axis.
        unique: Whether no value comes twice.
        cover: Whether every value of the range occurs.
        special: Values outside of the range that also occur, such as an ignored class.
        dtype: Integer dtype.
    """

    shape: Shape
    below: str | int
    low: int = 0
    inclusive: bool = False
    sorted: bool = False
    unique: bool = False
    cover: bool = False
    special: tuple[int, ...] = ()
    dtype: torch.dtype = torch.int64


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskSpec:
    """A boolean tensor.

    Attributes:
        shape: Its axes.
        nonempty: Whether each row along the last axis has a True.
    """

    shape: Shape
    nonempty: bool = False


LeafSpec: TypeAlias = TensorSpec | IndexSpec | MaskSpec


@dataclass(frozen=True, slots=True)
class TreeSpec:
    """A list, tuple or dict with tensors in it.

    Attributes:
        template: The container; its tensors are replaced.
        leaves: Where each tensor sits, and its spec.
    """

    template: object
    leaves: tuple[tuple[tree.Path, LeafSpec], ...]


@dataclass(frozen=True, slots=True)
class ChoiceSpec:
    """A plain Python value out of a few; the example's own comes first."""

    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A plain Python value that a Hypothesis strategy draws."""

    strategy: SearchStrategy[object]


@dataclass(frozen=True, slots=True)
class ConstantSpec:
    """A value that is always the same and is not differentiated."""

    value: object


@dataclass(frozen=True, slots=True)
class ExampleSpec:
    """A tensor that is always the same; differentiated if it requires grad."""

    value: torch.Tensor


Spec: TypeAlias = TensorSpec | IndexSpec | MaskSpec | TreeSpec | ChoiceSpec | StrategySpec | ConstantSpec | ExampleSpec
SPEC_TYPES = (TensorSpec, IndexSpec, MaskSpec, TreeSpec, ChoiceSpec, StrategySpec, ConstantSpec, ExampleSpec)
LEAF_TYPES = (TensorSpec, IndexSpec, MaskSpec)


def tensor(
    shape: str,
    *,
    low: float | None = None,
    high: float | None = None,
    dtype: torch.dtype | None = None,
    grad: bool = True,
    kind: str | None = None,
) -> TensorSpec:
    """A floating (or complex) tensor whose axes are named dims.

    The kinds, where a tensor's values as a whole have a structure (of matrices, the last two dims are meant):

    - ``"spd"``: symmetric positive definite; ``"symmetric"``: symmetric. They are only moved along symmetric
      directions, so that a function may read one triangle alone.
    - ``"lower"``: lower triangular with a diagonal between 1/2 and 3/2; moved along lower triangular directions.
    - ``"orthogonal"``: square, with orthonormal rows and columns; ``"invertible"``: square, with singular values from
      1/2 to 2; ``"sorted"``: never decreasing along the last dim, equal neighbours included; ``"simplex"``: positive
      with sum one along the last dim; ``"unit"``: of Euclidean length one along the last dim. These are moved in all
      directions: the function has to be defined around them, as its formula mostly is, and must not check for them.

    Args:
        shape: Names and sizes, such as ``"n d"`` or ``"n 3"``; ``""`` is a scalar, ``"*batch d"`` has any number of
            leading dims, ``"#n d"`` may also have size one where others have n.
        low: Values stay above it.
        high: Values stay below it.
        dtype: Dtype that the tensor has in every run; complex dtypes follow the precision of the run.
        grad: Whether a gradient is asked for.
        kind: One of the words above; None for values without a structure.

    Returns:
        The spec.

    Raises:
        SpecError: If the shape is malformed or does not fit the kind, the range is empty, or the dtype has no gradient.
    """
    axes = parse_shape(shape, f"tensor({shape!r})")
    structure = parse_kind(kind, axes, f"tensor({shape!r})")
    if structure not in (Kind.PLAIN, Kind.SORTED) and (low is not None or high is not None):
        raise SpecError(f"tensor({shape!r}): kind={kind!r} has a range of its own; leave out low and high")
    for name, bound in (("low", low), ("high", high)):
        if bound is not None and not (_is_number(bound) and math.isfinite(bound)):
            raise SpecError(f"tensor({shape!r}): {name}={bound!r} is no finite number; leave it out for no limit")
    if low is not None and high is not None and not low < high:
        raise SpecError(f"tensor({shape!r}): low={low} is not below high={high}; swap them, or use a constant")
    is_complex = dtype is not None and dtype.is_complex
    if dtype is not None and not (dtype.is_floating_point or is_complex):
        raise SpecError(f"tensor({shape!r}): dtype {dtype} has no gradient; use index(...) or mask(...)")
    if is_complex and (low is not None or high is not None):
        raise SpecError(f"tensor({shape!r}): complex values have no order; leave out low and high")
    if is_complex and structure is not Kind.PLAIN:
        raise SpecError(f"tensor({shape!r}): kind={kind!r} is for real values; leave out the complex dtype")
    fixed = None if is_complex else dtype
    return TensorSpec(shape=axes, low=low, high=high, dtype=fixed, grad=grad, complex=is_complex, kind=structure)


def index(shape: str, *, below: str | int, low: int = 0, unique: bool = False) -> IndexSpec:
    """An int64 tensor with values in ``low .. below - 1``.

    Args:
        shape: As for ``tensor``.
        below: Name of a dim (or of an integer argument), or a number.
        low: Smallest value.
        unique: Whether no value may come twice in the tensor. Its named dims are then no larger than the range allows.

    Returns:
        The spec.

    Raises:
        SpecError: If the shape is malformed, or the range is empty or too small for unique values.
    """
    axes = parse_shape(shape, f"index({shape!r})")
    if unique and any(axis.variadic for axis in axes):
        raise SpecError(f"index({shape!r}): unique values need a count of dims; write names instead of '*' and '...'")
    if isinstance(below, str):
        parsed = parse_shape(below, f"index({shape!r}, below={below!r})")
        if len(parsed) != 1 or parsed[0].size is not None or parsed[0].variadic:
            raise SpecError(f"index({shape!r}): below={below!r} must name one dim, such as 'n', or be a number")
    elif isinstance(below, bool) or not isinstance(below, int):
        raise SpecError(f"index({shape!r}): below={below!r} must be the name of a dim or an integer")
    elif below <= low:
        raise SpecError(f"index({shape!r}): no integer is in {low} .. {below - 1}; raise below or lower low")
    elif unique and (count := math.prod(axis.size or 1 for axis in axes)) > below - low:
        raise SpecError(f"index({shape!r}): {low} .. {below - 1} holds no {count} unique integers; raise below")
    return IndexSpec(shape=axes, below=below, low=low, unique=unique)


def mask(shape: str) -> MaskSpec:
    """A boolean tensor."""
    return MaskSpec(shape=parse_shape(shape, f"mask({shape!r})"))


def is_spec(value: object) -> bool:
    """Whether a user wrote a claim about an argument, and not an example of it."""
    return isinstance(value, (str, SearchStrategy, *SPEC_TYPES)) or jaxtyped.is_annotation(value)


def as_spec(value: object, where: str) -> Spec:
    """Whatever a user wrote for an argument, as a spec.

    Args:
        value: A shape, a spec, a strategy, a jaxtyping annotation, a container of these, a tensor or a plain value.
        where: Which argument, for messages.

    Returns:
        The spec.

    Raises:
        SpecError: If a shape is malformed.
    """
    if isinstance(value, SPEC_TYPES):
        return value
    if isinstance(value, str):
        return TensorSpec(shape=parse_shape(value, where))
    if jaxtyped.is_annotation(value):
        return from_annotation(value, where)
    if isinstance(value, (list, tuple, dict)):
        return _container(value, where)
    return _plain_spec(value)


def _plain_spec(value: object) -> Spec:
    if isinstance(value, SearchStrategy):
        return StrategySpec(value)
    return ExampleSpec(value) if isinstance(value, torch.Tensor) else ConstantSpec(value)


def from_annotation(annotation: object, where: str) -> LeafSpec:
    """A jaxtyping annotation such as ``Float[Tensor, "n d"]`` as a spec.

    Raises:
        SpecError: If the shape is beyond what specs can say, or integers have no range.
    """
    family, dtype = jaxtyped.family(annotation, where)
    shape = parse_shape(jaxtyped.dims(annotation), where)
    if family is jaxtyped.Family.BOOL:
        return MaskSpec(shape=shape)
    if family is jaxtyped.Family.INT:
        # An annotation has no range; zero and one are an index into nearly anything. `index(...)` says more.
        return IndexSpec(shape=shape, below=2, dtype=dtype or torch.int64)
    return TensorSpec(shape=shape, dtype=dtype, complex=family is jaxtyped.Family.COMPLEX)


def specs_from_signature(function: Callable[..., object], keywords: Mapping[str, object]) -> dict[str, Spec]:
    """One spec per argument: the keyword of that name, else its jaxtyping annotation, else its default.

    Args:
        function: The subject, or the test that is one.
        keywords: What the user wrote, by argument name.

    Returns:
        Specs in the order of the signature.

    Raises:
        SpecError: If a keyword fits no argument, or an argument has neither spec nor default.
    """
    called = getattr(function, "__name__", type(function).__name__)
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if p.kind not in collecting}
    for keyword in keywords:
        if keyword not in parameters:
            close = difflib.get_close_matches(keyword, parameters, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its arguments: {', '.join(parameters) or 'none'}"
            raise SpecError(f"{called} has no argument {keyword!r}: {hint}")
    hints = _annotations_of(function)
    return {p.name: _parameter_spec(called, p, keywords, hints) for p in parameters.values()}


def _parameter_spec(
    function: str, parameter: inspect.Parameter, keywords: Mapping[str, object], hints: Mapping[str, object]
) -> Spec:
    name = parameter.name
    if name in keywords:
        return as_spec(keywords[name], name)
    if jaxtyped.is_annotation(hints.get(name)):
        return from_annotation(hints[name], name)
    if parameter.default is not parameter.empty:
        return ConstantSpec(parameter.default)
    raise SpecError(f'{function}: argument {name!r} has no spec; add its shape ({name}="n d") or annotate it')


def _annotations_of(function: Callable[..., object]) -> Mapping[str, object]:
    try:
        return inspect.get_annotations(function, eval_str=True)
    except Exception:  # a name that exists only for type checkers; then there are no annotations to go by
        return {}


def leaf_specs(spec: Spec) -> Iterator[tuple[tree.Path, LeafSpec]]:
    """The specs of all drawn tensors of an argument, with their paths inside it."""
    if isinstance(spec, LEAF_TYPES):
        yield (), spec
    elif isinstance(spec, TreeSpec):
        yield from spec.leaves


def with_grad(spec: TensorSpec, *, grad: bool) -> TensorSpec:
    """The spec with another wish for a gradient."""
    return replace(spec, grad=grad)


def _container(value: object, where: str) -> Spec:
    found = list(tree.leaves(value))
    if not any(isinstance(leaf, (*LEAF_TYPES, torch.Tensor)) for _, leaf in found):
        return ConstantSpec(value)
    leaves = []
    for path, leaf in found:
        spec = as_spec(leaf, tree.label(where, path)) if isinstance(leaf, (*LEAF_TYPES, str)) else None
        if isinstance(spec, LEAF_TYPES):
            leaves.append((path, spec))
    return TreeSpec(value, tuple(leaves))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
