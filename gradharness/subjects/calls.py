"""Calling code that is not ours: its exceptions get a name, its outputs become a flat tuple of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradharness.errors import BackwardRaised, ForwardRaised, GradharnessError, OutputError
from gradharness.model.subject import Tensors
from gradharness.numerics import tree


def call_forward(function: Callable[..., object], arguments: Sequence[object]) -> object:
    """``function(*arguments)``.

    Raises:
        ForwardRaised: If it raises.
    """
    try:
        return function(*arguments)
    except GradharnessError:
        raise
    except (Exception, SystemExit) as error:
        raise ForwardRaised(error) from error


def call_backward(function: Callable[..., object], arguments: Sequence[object]) -> object:
    """``function(*arguments)``.

    Raises:
        BackwardRaised: If it raises.
    """
    try:
        return function(*arguments)
    except GradharnessError:
        raise
    except (Exception, SystemExit) as error:
        raise BackwardRaised(error) from error


def tensor_outputs(value: object, name: str) -> tuple[Tensors, tuple[str, ...]]:
    """All tensors in what a forward returned, and how reports call each.

    Raises:
        OutputError: If there is none.
    """
    if isinstance(value, torch.Tensor):
        return (value,), ("output",)
    found = [(path, leaf) for path, leaf in tree.leaves(value) if isinstance(leaf, torch.Tensor)]
    if not found:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise OutputError(
            f"forward of {name} returned {shown} ({type(value).__name__}), which holds no tensor: "
            "return a tensor, or tuples, lists or dicts of tensors"
        )
    return tuple(leaf for _, leaf in found), tuple(tree.label("output", path) for path, _ in found)
