"""A row of the fault table: a wrong backward and its correct twin, on the inputs that most people would try."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.autograd import Function

from tests.faults.planting import function, randn

X = randn((3, 4))
XY = randn((3, 4), (3, 4))


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        number: Number and letter; rows of one fault with other inputs add a word.
        name: What is wrong.
        wrong: The faulty subject.
        right: The same subject without the fault.
        inputs: Makes example inputs.
        reference: Given to both.
        only_against_reference: Whether nothing but the reference can tell.
        warning: Whether the fault is worth a warning alone: it costs time or memory, or it shows where neither example
            nor reference claims anything.
    """

    number: str
    name: str
    wrong: object
    right: object
    inputs: Callable[[], tuple] = X
    reference: object = None
    only_against_reference: bool = False
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def row(number, name, forward, right, wrong, inputs=X, **rest) -> Row:
    """A row whose two Functions save their arguments; ``right`` and ``wrong`` are their backwards."""
    return Row(number, name, function(forward, wrong), function(forward, right), inputs, **rest)


def classes(number, name, wrong: type[Function], right: type[Function], inputs=X, **rest) -> Row:
    """A row of two Functions written out."""
    return Row(number, name, wrong.apply, right.apply, inputs, **rest)


def given(one: Row, word: str, inputs: Callable[[], tuple], name: str = "") -> Row:
    """The same fault on other inputs."""
    return replace(one, number=f"{one.number} {word}", name=name or f"{one.name}, {word} given", inputs=inputs)


def square(x):
    return x * x


def square_backward(x, g):
    return 2 * x * g


def squares(number, name, wrong, inputs=X, **rest) -> Row:
    """A wrong backward of the square."""
    return row(number, name, square, square_backward, wrong, inputs, **rest)


def made(make: Callable[[torch.Generator], tuple]) -> Callable[[], tuple]:
    """Inputs that ``make`` draws from a generator, differentiated where they are floating."""

    def inputs() -> tuple:
        drawn = make(torch.Generator().manual_seed(1))
        return tuple(t.requires_grad_() if t.is_floating_point() or t.is_complex() else t for t in drawn)

    return inputs


def uniform(*shape, low=0.0, high=1.0) -> Callable[[], tuple]:
    """One tensor of uniform numbers."""
    return made(lambda g: (low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64),))


class Square(Function):
    """x², the twin of many rows."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g
