"""The form of a catalogue op: a forward in plain torch, a VJP written by hand, and where it may be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import torch

from gradharness.model.subject import Gradients, Tensors

Parameters: TypeAlias = Mapping[str, Any]  # plain values only, so that they are written as source and as JSON
Shape: TypeAlias = tuple[int, ...]


class Domain(Enum):
    """Where an operand has to lie for the op to be smooth and well conditioned. The value says how it is brought there.

    What comes in is of size 4 at most. The interpreter puts the operation of the value before an operand, as a node of
    its own.
    """

    REAL = "x"
    POSITIVE = "x * x / 4 + 0.5"
    UNIT = "0.9 * tanh(x)"
    NONZERO = "x + copysign(0.5, x)"
    ABOVE_ONE = "x * x / 4 + 1.5"
    SPD = "x @ x.mT / 4 + identity"
    WELL_CONDITIONED = "x / 4 + 3 * identity"
    LOWER = "x.tril(-1) / 4 + diagonal of x * x / 4 + 0.5"


@dataclass(frozen=True, slots=True)
class Call:
    """One use of an op, as its VJP sees it.

    Attributes:
        inputs: The operands.
        outputs: What forward made of them.
        parameters: As forward got them.
    """

    inputs: Tensors
    outputs: Tensors
    parameters: Parameters

    @property
    def x(self) -> torch.Tensor:
        """The first operand."""
        return self.inputs[0]

    @property
    def y(self) -> torch.Tensor:
        """The first output."""
        return self.outputs[0]


Forward: TypeAlias = Callable[..., torch.Tensor | Tensors]
Vjp: TypeAlias = Callable[..., Gradients | torch.Tensor]


def none_needed(_shapes: Sequence[Shape], _choice: int) -> Parameters | None:
    """For ops without parameters that take operands of any shapes that broadcast."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One differentiable op.

    Attributes:
        name: As in programs and reports; unique.
        forward: ``forward(*operands, **parameters)``, in plain torch; a tensor or a tuple of tensors.
        vjp: ``vjp(call, *cotangents)``, by hand and without autograd: one gradient for each operand, each of its
            operand's shape (see ``unbroadcast``), or None where an operand takes none; a single tensor where there is
            one operand. A cotangent comes for every output, of zeros where the output was not used.
        code: The call as Python source, with ``{0}``, ``{1}`` for the operands and ``{name}`` for a parameter, such as
            ``"torch.sum({0}, dim={dim})"``.
        formula: Where the derivative is from: a name, a rule, a book.
        arity: Number of tensor operands.
        parameters: ``parameters(shapes, choice)``: the parameters for operands of these shapes, or None where the op
            takes no operands of such shapes. ``choice`` is any integer from 0 on, taken modulo what there is to choose
            from; 0 is the simplest choice. Pure.
        domains: One for each operand; shorter means that the rest are REAL.
        outputs: Number of outputs; 0 where it depends on shapes and parameters.
        same_shape: Whether operands have to broadcast; the interpreter averages over axes that do not.
        kinks: Where it has kinks, in words; empty for none. Drawn reals do not meet them but by chance.
        in_place: Whether forward writes into its first operand: the interpreter then hands it an intermediate of its
            own, that nothing else uses unharmed.
        complex: Whether it takes complex operands as well, with gradients by the conjugate Wirtinger convention.
        discrete: Number of outputs, from the last, that carry no gradient (indices).
        definition: Source that ``code`` relies on beside torch: the function that it calls.
    """

    name: str
    forward: Forward
    vjp: Vjp
    code: str
    formula: str
    arity: int = 1
    parameters: Callable[[Sequence[Shape], int], Parameters | None] = none_needed
    domains: tuple[Domain, ...] = ()
    outputs: int = 1
    same_shape: bool = True
    kinks: str = ""
    in_place: bool = False
    complex: bool = False
    discrete: int = 0
    definition: str = ""

    def run(self, operands: Sequence[torch.Tensor], parameters: Parameters) -> Tensors:
        """Forward, always as a tuple."""
        value = self.forward(*operands, **parameters)
        return value if isinstance(value, tuple) else (value,)

    def pull(self, call: Call, cotangents: Sequence[torch.Tensor]) -> Gradients:
        """The VJP, always as a tuple with one entry for each operand."""
        value = self.vjp(call, *cotangents)
        return value if isinstance(value, tuple) else (value,)

    def domain(self, operand: int) -> Domain:
        """Where an operand has to lie."""
        return self.domains[operand] if operand < len(self.domains) else Domain.REAL

    def source(self, operands: Sequence[str], parameters: Parameters) -> str:
        """The call as a Python expression."""
        return self.code.format(*operands, **{name: repr(value) for name, value in parameters.items()})


def unbroadcast(gradient: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The sum over all axes along which an operand of ``shape`` was broadcast: the adjoint of ``expand``.

    Args:
        gradient: Of the broadcast shape.
        shape: The operand's.

    Returns:
        Of ``shape``.
    """
    extra = gradient.dim() - len(shape)
    axes = [*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and gradient.shape[i + extra] != 1)]
    summed = gradient.sum(axes) if axes else gradient
    return summed.reshape(tuple(shape))
