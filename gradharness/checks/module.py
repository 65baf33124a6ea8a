"""Check ``module``: what a module learns is registered, has an effect, and survives saving, copying and moving."""

from __future__ import annotations

from dataclasses import replace

from gradharness.checks.base import Check, Setting
from gradharness.checks.module_behaviour import dead, modes, rows
from gradharness.checks.module_case import ModuleCase, function_of, quiet
from gradharness.checks.module_copies import cleared, copied, refreshed, saved
from gradharness.checks.module_registry import constants, unregistered
from gradharness.checks.module_steps import STRANGERS, complete
from gradharness.inputs.styles import Style
from gradharness.model.case import Case
from gradharness.model.verdict import Observation, Verdict

_PARTS = (rows, cleared, dead)
# What is not registered is not saved, copied or moved either: that is told once.
_IF_REGISTERED = (constants, saved, refreshed, copied, modes)


def examine(setting: Setting, case: Case) -> Observation:
    """Everything that can be wrong with how a module keeps and uses its tensors."""
    function = function_of(setting)
    if function is None:
        return Observation(verdict=Verdict.SKIPPED, reason=_NO_MODULE)
    at = ModuleCase(setting, case, function)
    strays = [*quiet(unregistered, at)]
    parts = _PARTS if strays else (*_IF_REGISTERED, *_PARTS)
    told = [*strays, *(one for part in parts for one in quiet(part, at))]
    count, names = len(case.primals.values) - len(function.state), [held.name for held in function.state]
    whole = [(f, replace(d, steps=complete(d.steps or STRANGERS, count, names))) for f, d in told]
    errors = [found for fatal, found in whole if fatal]
    warnings = [found for fatal, found in whole if not fatal]
    verdict = Verdict.FAIL if errors else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=tuple(errors), warnings=tuple(warnings))


_NO_MODULE = "the subject is no torch.nn.Module"


def _applies(setting: Setting) -> str | None:
    return None if function_of(setting) is not None else _NO_MODULE


CHECK = Check(
    name="module",
    proves=(
        "Every learnable tensor that forward uses is a parameter and has an effect; saving, loading, copying and "
        "zero_grad leave outputs and gradients as they are."
    ),
    cannot=(
        "A constant that should have been learned is told from one that should not by how its values look; zeros and "
        "ones look like constants."
    ),
    causes=(
        (
            "super().__init__() is not called, or after something was assigned",
            "call it in the first line of __init__",
        ),
        (
            "a weight, or a list or dict of weights or modules, is a plain attribute",
            "use torch.nn.Parameter, ParameterList, ParameterDict, ModuleList or ModuleDict",
        ),
        (
            "the result of an operation on a Parameter is assigned: self.w = nn.Parameter(w) * 0.1",
            "wrap the result, self.w = nn.Parameter(0.1 * w), or compute it in forward",
        ),
        (
            "a layer or a weight is made inside forward",
            "make it in __init__; in forward it is new in every call",
        ),
        (
            "a constant that forward needs is a plain attribute",
            "self.register_buffer(name, tensor), with persistent=False for what need not be saved",
        ),
        (
            "forward keeps what it computed from the parameters",
            "compute it anew, or in a hook that runs when a state is loaded",
        ),
        (
            "a sum, mean or reshape mixes the rows of a batch",
            "reduce over the other dimensions alone",
        ),
        (
            "F.dropout(x) without training=self.training",
            "pass it, or use torch.nn.Dropout",
        ),
    ),
    examine=examine,
    applies=_applies,
    styles=(Style.NORMAL,),
    weight=0.08,
)
