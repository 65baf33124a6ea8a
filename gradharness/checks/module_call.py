"""Modules: ``torch.func.functional_call`` with other parameters, beside the module with these parameters in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch

from gradharness.checks.base import Setting
from gradharness.checks.roundoff import MARGIN, forward_roundoff
from gradharness.comparison import compare
from gradharness.errors import GradharnessError
from gradharness.judge import rule
from gradharness.model.case import Case
from gradharness.model.subject import Tensors
from gradharness.model.verdict import Discrepancy, Fault
from gradharness.numerics import tree
from gradharness.subjects.calls import call_forward, tensor_outputs
from gradharness.subjects.module_function import ModuleFunction
from gradharness.subjects.transformed import AnyCallable, is_random

_MOVED = 1 + 2.0**-5
_WORDS = (
    "torch.func.functional_call with other parameters gives another result than the module with these parameters in "
    "it: it holds on to a parameter outside of its registry"
)


def functional(setting: Setting, case: Case, function: AnyCallable) -> Iterator[tuple[bool, Discrepancy]]:
    """Outputs for parameters moved by a few per cent; nothing is asked of what is no module, or draws at random."""
    values = case.primals.arguments(case.primals.leaves)
    module: object = function
    if isinstance(function, ModuleFunction):
        values, given = function.split(values)
        module = function.twin(given)
    if not isinstance(module, torch.nn.Module) or is_random(setting.subject):
        return
    moved = {name: p.detach() * _MOVED for name, p in module.named_parameters()}
    if not moved:
        return
    try:
        got, expected = _swapped(module, values, moved), _written(module, values, moved)
    except GradharnessError:  # the module does not run with these parameters, or cannot be copied
        return
    noise = forward_roundoff(setting.subject, case.primals, case.outputs)
    for label, a, b, n in zip(case.output_labels, got, expected, noise, strict=False):
        if a.shape == b.shape and not torch.equal(a, b) and (a.is_floating_point() or a.is_complex()):
            ruling = rule(compare(label, a, b), MARGIN * n, setting.tolerance)
            if ruling.excess > 1:
                fault = Fault.WRONG_TRANSFORM
                yield True, Discrepancy(label=label, excess=ruling.excess, fault=fault, detail=_WORDS)


def _swapped(module: torch.nn.Module, values: Sequence[object], moved: dict[str, torch.Tensor]) -> Tensors:
    state = {**moved, **{name: b.detach().clone() for name, b in module.named_buffers()}}
    arguments = tree.map_tensors(torch.clone, tuple(values))

    def call() -> object:
        with torch.no_grad():
            return torch.func.functional_call(module, state, arguments)

    return tensor_outputs(call_forward(call, ()), "module")[0]


def _written(module: torch.nn.Module, values: Sequence[object], moved: dict[str, torch.Tensor]) -> Tensors:
    arguments = tree.map_tensors(torch.clone, tuple(values))

    def call() -> object:
        twin = copy.deepcopy(module)
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                parameter.copy_(moved[name])
            return twin(*arguments)

    return tensor_outputs(call_forward(call, ()), "module")[0]
