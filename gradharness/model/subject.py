"""The code under test, seen through one protocol: primals in, outputs and a pullback out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch

from gradharness.numerics import tree

Tensors: TypeAlias = tuple[torch.Tensor, ...]
Gradients: TypeAlias = tuple[torch.Tensor | None, ...]
Pullback: TypeAlias = Callable[[Sequence[torch.Tensor]], Gradients]


@dataclass(frozen=True, slots=True)
class Primals:
    """One point: the arguments of a call, and which tensors among them are differentiated.

    Attributes:
        names: Name of every argument.
        values: Value of every argument: a tensor, a container of tensors, or a plain value.
        active: Where the differentiated tensors (the leaves) sit; a path starts with the argument's number.
    """

    names: tuple[str, ...]
    values: tuple[object, ...]
    active: tuple[tree.Path, ...]

    @property
    def leaves(self) -> Tensors:
        """The differentiated tensors."""
        return tuple(tree.get(self.values, path) for path in self.active)

    @property
    def labels(self) -> tuple[str, ...]:
        """How each leaf is called in reports."""
        return tuple(tree.label(self.names[int(path[0])], path[1:]) for path in self.active)

    def arguments(self, leaves: Sequence[torch.Tensor]) -> tuple[object, ...]:
        """The arguments with other tensors in place of the leaves."""
        values: list[object] = list(self.values)
        for path, leaf in zip(self.active, leaves, strict=True):
            number = int(path[0])
            values[number] = leaf if len(path) == 1 else tree.replace(values[number], path[1:], leaf)
        return tuple(values)

    def at(self, leaves: Sequence[torch.Tensor]) -> Primals:
        """The same point with other leaves."""
        return Primals(self.names, self.arguments(leaves), self.active)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Primals:
        """The point with its floating tensors in ``dtype`` (complex: the matching one), all on ``device``."""

        def convert(t: torch.Tensor) -> torch.Tensor:
            if dtype is None or not (t.is_floating_point() or t.is_complex()):
                return t.to(device=device)
            return t.to(device=device, dtype=dtype.to_complex() if t.is_complex() else dtype)

        return Primals(self.names, tree.map_tensors(convert, self.values), self.active)


@dataclass(frozen=True, slots=True)
class Linearization:
    """Outputs at one point, and the pullback there. The pullback may be called once.

    Attributes:
        outputs: Every tensor that the forward returned, detached.
        labels: How each output is called in reports.
        differentiable: Numbers of the outputs that take a cotangent.
        pullback: Cotangents (one per differentiable output) to gradients (one per leaf; None where none came).
    """

    outputs: Tensors
    labels: tuple[str, ...]
    differentiable: tuple[int, ...]
    pullback: Pullback

    @property
    def cotangent_like(self) -> Tensors:
        """The outputs that take a cotangent."""
        return tuple(self.outputs[i] for i in self.differentiable)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawInput:
    """One input of a hand-written backward, as far as its gradient is concerned.

    Attributes:
        label: How reports call it.
        needed: Whether a gradient was asked for.
        like: Shape, dtype and device that the gradient has to have; None if it was not asked for.
    """

    label: str
    needed: bool
    like: TensorMeta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMeta:
    """Shape, dtype and device, without values."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorMeta:
        """The metadata of a tensor."""
        return cls(shape=tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawReturn:
    """What one hand-written backward returned, before anybody coerced it.

    Attributes:
        place: The code that returned it, such as ``LinearFunction.backward``.
        inputs: Its inputs, in order.
        returned: The returned objects, whatever they are.
        coerced: Whether autograd sums and casts the values afterwards.
        written: Primals and cotangents that are not what they were before.
    """

    place: str
    inputs: tuple[RawInput, ...]
    returned: tuple[object, ...]
    coerced: bool
    written: tuple[str, ...] = ()


class Session(Protocol):
    """One object of a manual class, to be used several times."""

    @property
    def fixed(self) -> tuple[int, ...]:
        """Numbers of the leaves that are the object's own state: they stay what they were when it was made."""
        ...

    def linearize(self, primals: Primals) -> Linearization:
        """Runs the object's forward; the pullback runs its backward, and gives what the object holds afterwards."""
        ...

    def lists_calls(self, primals: Primals) -> bool:
        """Whether a fresh object of this kind keeps what forward saves in a list, with one entry after one call."""
        ...

    def clear(self) -> bool:
        """Calls the object's own ``zero_grad``; False if it has none."""
        ...


class Subject(Protocol):
    """Adapter of some code under test.

    ``outputs`` and ``linearize`` raise ``ForwardRaised``, pullbacks ``BackwardRaised``, when the user's code raises.
    """

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    @property
    def fixed_cotangent(self) -> bool:
        """True where backward starts from a loss, so that the only cotangent is one."""
        ...

    def outputs(self, primals: Primals) -> Tensors:
        """Every tensor output, without grad."""
        ...

    def linearize(self, primals: Primals) -> Linearization:
        """Outputs and pullback of the hand-written backward."""
        ...

    def traced(self, primals: Primals, leaves: Tensors) -> Tensors | None:
        """The outputs that take a cotangent, with their graph back to ``leaves``; None where autograd has no part.

        Args:
            primals: The point; its leaves are replaced.
            leaves: One per active place of ``primals``; those that require grad are recorded, views and non-leaf
                tensors among them as they are.

        Returns:
            The outputs that require grad, in order.
        """
        ...

    def session(self, primals: Primals) -> Session | None:
        """An object with the state of these primals, to be used several times; None where no object is kept."""
        ...

    def raw_returns(self, primals: Primals, cotangents: Sequence[torch.Tensor]) -> tuple[RawReturn, ...]:
        """What each hand-written backward in the subject returns before anybody coerces it."""
        ...

    def own_forward(self) -> Subject | None:
        """The subject with autograd of its own forward in place of its backward; None if there is no such thing."""
        ...
