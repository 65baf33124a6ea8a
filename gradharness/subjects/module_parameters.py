"""A module as a function of its inputs and its parameters, so that the gradients of both are looked at."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch.func import functional_call


class WithParameters:
    """``module(*inputs)`` called as ``with_parameters(*inputs, *parameters)``.

    Args:
        module: With at least one parameter that requires grad; it is never changed.
        inputs: Names of the inputs that its forward is given, in order.
    """

    def __init__(self, module: torch.nn.Module, inputs: tuple[str, ...]) -> None:
        self.module = module
        self.count = len(inputs)
        self.names = tuple(name for name, p in module.named_parameters() if p.requires_grad)
        labels = [*inputs, *map(_identifier, self.names)]
        kind = inspect.Parameter.POSITIONAL_ONLY
        self.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in labels])

    def __call__(self, *arguments: object) -> object:
        """The module's outputs with these parameters in place of its own."""
        parameters = dict(zip(self.names, arguments[self.count :], strict=True))
        return functional_call(self.module, parameters, arguments[: self.count])  # type: ignore[arg-type]

    def examples(self, inputs: Sequence[object]) -> tuple[torch.Tensor, ...]:
        """The parameters' values as leaves, in the dtype of the first floating input: all are drawn in one anyway."""
        known = dict(self.module.named_parameters())
        dtypes = [t.dtype for t in inputs if isinstance(t, torch.Tensor) and t.is_floating_point()]
        values = (known[name].detach() for name in self.names)
        return tuple(p.to(dtypes[0] if dtypes else p.dtype, copy=True).requires_grad_() for p in values)


def _identifier(name: str) -> str:
    """``0.weight`` as ``_0_weight``."""
    plain = name.replace(".", "_")
    return plain if plain.isidentifier() else f"_{plain}"


def module_with_parameters(function: object) -> torch.nn.Module | None:
    """The module, if it is one with something to differentiate beside its inputs."""
    if isinstance(function, torch.nn.Module) and any(p.requires_grad for p in function.parameters()):
        return function
    return None
