"""Ops of the user's: what their forwards may not do, said in a sentence, and their source."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gradharness.errors import OperandsRefused, UsageError, first_line
from gradharness.model.subject import Tensors


@dataclass(slots=True)
class OwnForward:
    """A user's forward. What it raises, it refuses: a program then puts another op in its place.

    Attributes:
        name: Of the op.
        function: The forward.
        outputs: How many tensors it returns.
        refusal: The last exception, in a line; empty if there was none.
    """

    name: str
    function: Callable[..., object]
    outputs: int = 1
    refusal: str = field(default="", compare=False)

    def __call__(self, *operands: torch.Tensor) -> Tensors:
        """The outputs, always as a tuple.

        Raises:
            OperandsRefused: If the forward raises.
            UsageError: If it returns no floating tensors, writes into an operand, or leaves autograd.
        """
        before = [x._version for x in operands]
        try:
            value = self.function(*operands)
        except Exception as error:  # the user's code may raise anything
            self.refusal = f"{type(error).__name__}: {first_line(error)}"
            raise OperandsRefused(f"the forward of {self.name} raised {self.refusal}") from error
        made = tuple(value) if isinstance(value, tuple | list) else (value,)
        self._insist(made, operands)
        if before != [x._version for x in operands]:
            raise UsageError(f"the forward of {self.name} writes into its operand: let it work on a clone")
        return made

    def _insist(self, made: tuple[object, ...], operands: Tensors) -> None:
        tensors = [y for y in made if isinstance(y, torch.Tensor) and (y.is_floating_point() or y.is_complex())]
        if len(tensors) != len(made) or len(made) != self.outputs:
            kinds = ", ".join(str(y.dtype) if isinstance(y, torch.Tensor) else type(y).__name__ for y in made)
            wanted = "one floating tensor" if self.outputs == 1 else f"a tuple of {self.outputs} floating tensors"
            raise UsageError(f"the forward of {self.name} returns ({kinds}): it has to return {wanted}")
        attached = torch.is_grad_enabled() and any(x.requires_grad for x in operands)
        if attached and not any(y.requires_grad for y in tensors):
            raise UsageError(
                f"the forward of {self.name} leaves autograd, which is the truth that its VJP is held against: "
                "write it in torch operations, without detach, numpy or no_grad"
            )


def call_source(name: str, function: Callable[..., object], arity: int) -> tuple[str, str]:
    """How a program's source calls a user's forward, and the definition that this relies on.

    Args:
        name: Of the op.
        function: The forward.
        arity: Number of its operands.
    """
    operands = ", ".join(f"{{{i}}}" for i in range(arity))
    own = getattr(function, "__name__", "")
    if getattr(torch, own, None) is function:
        return f"torch.{own}({operands})", ""
    if inspect.isfunction(function) and own.isidentifier() and "<locals>" not in function.__qualname__:
        try:
            text = textwrap.dedent(inspect.getsource(function)).rstrip()
        except (OSError, TypeError):
            text = ""
        if text.startswith("def "):
            return f"{own}({operands})", text
    code = getattr(function, "__code__", None)
    place = "" if code is None else f", {Path(code.co_filename).name} line {code.co_firstlineno}"
    return f"{name}({operands})", f"# {name}: the forward that was given to vjp_of{place}"
