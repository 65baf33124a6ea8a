"""Steps that write into their first operand and return it.

By the time of the VJP the first operand holds what was written, so that no VJP here may use it: each is in terms of the
output and of the other operands. The second operand broadcasts to what is written, never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from gradharness.programs.op import Call, Domain, Op, Parameters, Shape, unbroadcast
from gradharness.programs.ops.choosing import grid, one_of
from gradharness.programs.ops.dims import broadcasts_to
from gradharness.programs.ops.parts import place_menu, slice_menu

_LINEAR = "linear"
_CALCULUS = "elementary calculus"

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]

# -------------------------------------------------------------------------------------------------- element by element


def _relu_(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (call.y > 0)


def _tanh_(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * (1 - call.y.square()).conj()


def _sigmoid_(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.y * (1 - call.y)


def _exp_(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g * call.y.conj()


def _sqrt_(call: Call, g: torch.Tensor) -> torch.Tensor:
    return g / (2 * call.y)


def _neg_(_call: Call, g: torch.Tensor) -> torch.Tensor:
    return -g


def _scale_forward(x: torch.Tensor, *, factor: float) -> torch.Tensor:
    return x.mul_(factor)


def _scale_(call: Call, g: torch.Tensor) -> torch.Tensor:
    factor: float = call.parameters["factor"]
    return g * factor


def _factor(_shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, factor=(2.0, -1.0, 0.5, 0.0))


# --------------------------------------------------------------------------------------------------------- two operands


def _add_forward(x: torch.Tensor, other: torch.Tensor, *, alpha: float) -> torch.Tensor:
    return x.add_(other, alpha=alpha)


def _add_(call: Call, g: torch.Tensor) -> _Pair:
    return g, unbroadcast(g * call.parameters["alpha"], call.inputs[1].shape)


def _mul_forward(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return x.mul_(other)


def _mul_(call: Call, g: torch.Tensor) -> _Pair:
    other = call.inputs[1]
    before = call.y / other  # what was overwritten
    return g * other.conj(), unbroadcast(g * before.conj(), other.shape)


def _div_forward(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return x.div_(other)


def _div_(call: Call, g: torch.Tensor) -> _Pair:
    other = call.inputs[1]
    over = g / other.conj()
    return over, unbroadcast(-over * call.y.conj(), other.shape)


def _fits(shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    return {} if broadcasts_to(shapes[1], shapes[0]) else None


def _fits_with_alpha(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    return grid(choice, alpha=(1, -1, 0.5)) if broadcasts_to(shapes[1], shapes[0]) else None


# --------------------------------------------------------------------------------------------------------- into a part


def _part(x: torch.Tensor, dim: int, start: int, stop: int, step: int) -> torch.Tensor:
    part: torch.Tensor = torch.ops.aten.slice.Tensor(x, dim, start, stop, step)
    return part


_PART = "torch.ops.aten.slice({0}, {dim}, {start}, {stop}, {step})"


def _copy_slice_forward(
    x: torch.Tensor, source: torch.Tensor, *, dim: int, start: int, stop: int, step: int
) -> torch.Tensor:
    _part(x, dim, start, stop, step).copy_(source)
    return x


def _copy_slice_(call: Call, g: torch.Tensor) -> _Pair:
    where = [call.parameters[name] for name in ("dim", "start", "stop", "step")]
    taken = _part(g, *where)
    kept = torch.slice_scatter(g.contiguous(), torch.zeros_like(taken), *where)
    return kept, unbroadcast(taken, call.inputs[1].shape)


def _slices_that_fit(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    """Slices that the second operand broadcasts to; slices of all of a dimension are among them."""
    into, source = shapes
    menu = slice_menu(into) if broadcasts_to(source, into) else []
    return one_of(choice, [part for part in menu if broadcasts_to(source, _sliced(into, **part))])


def _sliced(shape: Shape, *, dim: int, start: int, stop: int, step: int) -> Shape:
    at = dim % len(shape)
    return (*shape[:at], len(range(*slice(start, stop, step).indices(shape[at]))), *shape[at + 1 :])


def _add_to_row_forward(x: torch.Tensor, row: torch.Tensor, *, dim: int, index: int) -> torch.Tensor:
    x.select(dim, index).add_(row)
    return x


def _add_to_row_(call: Call, g: torch.Tensor) -> _Pair:
    row = g.select(call.parameters["dim"], call.parameters["index"])
    return g, unbroadcast(row, call.inputs[1].shape)


def _rows_that_fit(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    into, row = shapes
    fitting = {dim for dim in range(len(into)) if broadcasts_to(row, into[:dim] + into[dim + 1 :])}
    menu = place_menu(into) if fitting else []
    return one_of(choice, [place for place in menu if place["dim"] % len(into) in fitting])


def _scale_row_forward(x: torch.Tensor, *, dim: int, index: int, factor: float) -> torch.Tensor:
    x.select(dim, index).mul_(factor)
    return x


def _scale_row_(call: Call, g: torch.Tensor) -> torch.Tensor:
    dim, index, factor = (call.parameters[name] for name in ("dim", "index", "factor"))
    return torch.select_scatter(g.contiguous(), g.select(dim, index) * factor, dim, index)


def _rows_and_factor(shapes: Sequence[Shape], choice: int) -> Parameters | None:
    found = one_of(choice // 3, place_menu(shapes[0]))
    return None if found is None else {**found, "factor": (2.0, 0.0, -0.5)[choice % 3]}


def _op(name: str, vjp: Callable[[Call, torch.Tensor], torch.Tensor], **more: Any) -> Op:
    code = f"{{0}}.{name}()"
    return Op(
        name=name, forward=getattr(torch.Tensor, name), vjp=vjp, code=code, formula=_CALCULUS, in_place=True, **more
    )


_ONE = (
    _op("relu_", _relu_, kinks="at 0"),
    _op("tanh_", _tanh_, complex=True),
    _op("sigmoid_", _sigmoid_),
    _op("exp_", _exp_, complex=True),
    _op("sqrt_", _sqrt_, domains=(Domain.POSITIVE,)),
    _op("neg_", _neg_, complex=True),
    Op(
        name="scale_",
        forward=_scale_forward,
        vjp=_scale_,
        code="{0}.mul_({factor})",
        formula=_LINEAR,
        parameters=_factor,
        in_place=True,
        complex=True,
    ),
    Op(
        name="scale_row_",
        forward=_scale_row_forward,
        vjp=_scale_row_,
        code="({0}.select({dim}, {index}).mul_({factor}), {0})[1]",
        formula=_LINEAR,
        parameters=_rows_and_factor,
        in_place=True,
        complex=True,
    ),
)

_TWO = (
    Op(
        name="add_",
        forward=_add_forward,
        vjp=_add_,
        code="{0}.add_({1}, alpha={alpha})",
        formula=_LINEAR,
        arity=2,
        parameters=_fits_with_alpha,
        in_place=True,
        complex=True,
    ),
    Op(
        name="mul_",
        forward=_mul_forward,
        vjp=_mul_,
        code="{0}.mul_({1})",
        formula="product rule",
        arity=2,
        parameters=_fits,
        domains=(Domain.REAL, Domain.NONZERO),
        in_place=True,
        complex=True,
    ),
    Op(
        name="div_",
        forward=_div_forward,
        vjp=_div_,
        code="{0}.div_({1})",
        formula="quotient rule",
        arity=2,
        parameters=_fits,
        domains=(Domain.REAL, Domain.NONZERO),
        in_place=True,
        complex=True,
    ),
    Op(
        name="copy_slice_",
        forward=_copy_slice_forward,
        vjp=_copy_slice_,
        code=f"({_PART}.copy_({{1}}), {{0}})[1]",
        formula=_LINEAR,
        arity=2,
        parameters=_slices_that_fit,
        in_place=True,
        complex=True,
    ),
    Op(
        name="add_to_row_",
        forward=_add_to_row_forward,
        vjp=_add_to_row_,
        code="({0}.select({dim}, {index}).add_({1}), {0})[1]",
        formula=_LINEAR,
        arity=2,
        parameters=_rows_that_fit,
        same_shape=False,
        in_place=True,
        complex=True,
    ),
)

OPS = (*_ONE, *_TWO)
