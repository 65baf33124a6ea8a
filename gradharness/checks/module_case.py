"""A case of a module: its inputs, its state, and modules of its kind that hold this state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import nn

from gradharness.checks.base import Setting
from gradharness.checks.roundoff import MARGIN, forward_roundoff, own_roundoff
from gradharness.comparison import compare
from gradharness.errors import GradharnessError, SubjectError
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.subject import Gradients, Tensors
from gradharness.model.verdict import Discrepancy
from gradharness.numerics import tree
from gradharness.subjects.calls import call_backward, call_forward, tensor_outputs
from gradharness.subjects.module_function import ModuleFunction
from gradharness.subjects.transformed import bare_function

Found: TypeAlias = Iterator[tuple[bool, Discrepancy]]
"""Whether it is an error, and what is wrong."""


def function_of(setting: Setting) -> ModuleFunction | None:
    """The module of a setting; None if the subject is none."""
    bare = bare_function(setting.subject)
    return bare if isinstance(bare, ModuleFunction) else None


@dataclass(frozen=True)
class ModuleCase:
    """One point, for a module.

    Attributes:
        setting: The setting.
        case: The case.
        function: The module.
    """

    setting: Setting
    case: Case
    function: ModuleFunction

    @property
    def seed(self) -> int:
        """Set before every call."""
        seed: int | None = getattr(self.setting.subject, "seed", None)
        return seed or 0

    @property
    def inputs(self) -> tuple[Any, ...]:
        """Fresh copies of the inputs, those that are differentiated as leaves."""
        leaves = [x.detach().clone().requires_grad_() for x in self.case.primals.leaves]
        return self.function.split(self.case.primals.arguments(leaves))[0]

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name, as the case has them."""
        return self.function.split(self.case.primals.values)[1]

    @property
    def inner(self) -> frozenset[int]:
        """Numbers of the leaves that are parameters, and no inputs."""
        first = len(self.case.primals.values) - len(self.function.state)
        return frozenset(i for i, path in enumerate(self.case.primals.active) if int(path[0]) >= first)

    @property
    def learnable(self) -> tuple[str, ...]:
        """Names of the parameters that are differentiated."""
        return tuple(held.name for held in self.function.state if held.learnable)

    def twin(self, *, seed: int = 0) -> nn.Module | None:
        """A module of its own with the state of the case; None where there can be none."""
        try:
            return self.function.twin(self.state, seed=seed)
        except GradharnessError:
            return None

    def outputs(self, module: nn.Module, inputs: Sequence[Any], *, seed: int | None = None) -> Tensors:
        """All tensors that a module gives, with their graph.

        Raises:
            ForwardRaised: If it raises.
        """
        torch.manual_seed(self.seed if seed is None else seed)
        with torch.enable_grad():
            value = call_forward(module, tuple(inputs))
        return tensor_outputs(value, self.setting.subject.name)[0]

    def plain(self, module: nn.Module, *, seed: int | None = None) -> Tensors:
        """The same without a graph, on copies of the case's inputs."""
        inputs = tree.map_tensors(lambda t: t.detach().clone(), self.inputs)
        torch.manual_seed(self.seed if seed is None else seed)
        with torch.no_grad():
            value = call_forward(module, inputs)
        return tensor_outputs(value, self.setting.subject.name)[0]

    def gradients(self, module: nn.Module) -> tuple[Tensors, dict[str, torch.Tensor | None]]:
        """Outputs, and the gradient of every learnable parameter of a module by name.

        Raises:
            SubjectError: If forward or backward raises.
        """
        outputs = self.outputs(module, self.inputs)
        known = dict(module.named_parameters(remove_duplicate=False))
        leaves = [known[name] for name in self.learnable if name in known]
        pairs = [(y, w) for y, w in zip(self._differentiable(outputs), self.case.cotangents, strict=False)]
        chosen = [(y, w) for y, w in pairs if y.requires_grad and y.shape == w.shape]
        if not chosen or not leaves:
            return outputs, {}

        def run() -> Gradients:
            outs, weights = [y for y, _ in chosen], [w.to(y.dtype) for y, w in chosen]
            return torch.autograd.grad(outs, leaves, weights, allow_unused=True)

        found: Gradients = call_backward(run, ())  # type: ignore[assignment]
        return outputs, dict(zip([n for n in self.learnable if n in known], found, strict=True))

    def _differentiable(self, outputs: Tensors) -> Tensors:
        numbers = self.case.differentiable
        return tuple(outputs[i] for i in numbers if i < len(outputs))

    @cached_property
    def _noise(self) -> Tensors:
        return forward_roundoff(self.setting.subject, self.case.primals, self.case.outputs)

    @cached_property
    def _gradient_noise(self) -> dict[str, torch.Tensor]:
        noise = own_roundoff(self.setting, self.case, self.case.cotangents)
        return dict(zip(self.case.primals.labels, noise or (), strict=False))

    def outputs_differ(self, got: Tensors, expected: Tensors) -> bool:
        """Whether outputs differ by more than rounding explains."""
        if len(got) != len(expected):
            return True
        for number, (a, b) in enumerate(zip(got, expected, strict=True)):
            if a.shape != b.shape or a.dtype != b.dtype:
                return True
            a, b = a.detach(), b.detach()
            if torch.equal(a, b) or not (a.is_floating_point() or a.is_complex()):
                continue
            noise = self._noise[number] if number < len(self._noise) else 0.0
            if rule(compare("output", a, b), MARGIN * noise, self.setting.tolerance).excess > 1:
                return True
        return False

    def gradient_differs(self, name: str, got: torch.Tensor | None, expected: torch.Tensor | None) -> bool:
        """Whether gradients of a parameter differ by more than rounding explains; None is zero."""
        if got is None or expected is None:
            other = got if expected is None else expected
            return other is not None and bool(other.any())
        if torch.equal(got, expected):
            return False
        noise = self._gradient_noise.get(name)
        bound = 0.0 if noise is None or noise.shape != expected.shape else MARGIN * noise
        return rule(compare(name, got, expected), bound, self.setting.tolerance).excess > 1


def shown(names: Sequence[str], *, most: int = 4) -> str:
    """Names for a message, not too many."""
    head = ", ".join(f"`{name}`" for name in names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


def quiet(found: Callable[[ModuleCase], Found], at: ModuleCase) -> Found:
    """What was found; nothing where the module raises on the way, which other checks name."""
    try:
        yield from found(at)
    except SubjectError:
        return
