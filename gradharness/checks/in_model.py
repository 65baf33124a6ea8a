"""A model with hand-written backwards in it, beside its parts: each may be right alone, and wrong where it stands."""

from __future__ import annotations

from gradharness.checks.base import Setting
from gradharness.checks.drawn import drawing, named
from gradharness.errors import OracleUnavailable, RuleError, UsageError
from gradharness.model.case import Case
from gradharness.model.subject import Tensors
from gradharness.model.verdict import Discrepancy
from gradharness.programs.models import Model, from_module
from gradharness.programs.placed import misplaced
from gradharness.subjects.custom_nodes import custom_nodes, graph_nodes
from gradharness.subjects.module_function import ModuleFunction
from gradharness.subjects.transformed import bare_function, is_random

_NODES = 400  # a larger graph is no model that somebody checks a backward with


def in_model(setting: Setting, case: Case, outputs: Tensors) -> tuple[Discrepancy, str] | None:
    """What is wrong, and where the call stands; None where nothing is, or torch.fx cannot follow the model.

    Args:
        setting: Whose subject is the model.
        case: The point.
        outputs: The model's there, with their graph.
    """
    function = bare_function(setting.subject)
    if function is None or is_random(setting.subject) or not _holds_custom_nodes(outputs):
        return None
    values = case.primals.arguments(case.primals.leaves)
    model: Model = function
    if isinstance(function, ModuleFunction):
        values, given = function.split(values)
        twin = function.twin(given)
        if twin is None:
            return None
        model = twin
    try:
        trace = from_module(model, tuple(values))
        weights = [case.cotangents[k % len(case.cotangents)] for k in range(len(trace.outputs))]
        if [w.shape for w in weights] != [trace.values[i].shape for i in trace.outputs]:
            return None
        found = misplaced(trace, weights)
    except (UsageError, OracleUnavailable, RuleError):
        return None  # other checks name who raises
    if found is None:
        return None
    label = case.primals.labels[found.leaf] if found.leaf < len(case.primals.labels) else "a parameter"
    why = f"{found.name or 'one of its calls'} stands in this model"
    drawn = drawing(outputs, named(outputs, case.primals), guilty=found.name.partition(".")[0], why=why)
    made = Discrepancy(label=label, got=found.got, expected=found.expected, excess=found.excess, drawing=drawn)
    return made, why


def _holds_custom_nodes(outputs: Tensors) -> bool:
    """Whether there is a hand-written backward in the graph, and something else beside it."""
    nodes = [n for n in graph_nodes(outputs) if n.next_functions]
    return bool(custom_nodes(outputs)) and 1 < len(nodes) <= _NODES
