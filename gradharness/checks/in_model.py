"""A model with hand-written backwards in it, beside its parts: each may be right alone, and wrong where it stands."""

from __future__ import annotations

from gradharness.checks.base import Setting
from gradharness.errors import OracleUnavailable, RuleError, UsageError
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy
from gradharness.programs.models import Model, from_module
from gradharness.programs.placed import misplaced
from gradharness.subjects.custom_nodes import custom_nodes, graph_nodes
from gradharness.subjects.module_function import ModuleFunction
from gradharness.subjects.reverse import attached
from gradharness.subjects.transformed import bare_function, is_random

_NODES = 400  # a larger graph is no model that somebody checks a backward with


def in_model(setting: Setting, case: Case) -> tuple[Discrepancy, str] | None:
    """What is wrong, and where the call stands; None where nothing is, or torch.fx cannot follow the model."""
    function = bare_function(setting.subject)
    if function is None or is_random(setting.subject) or not _holds_custom_nodes(setting, case):
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
    made = Discrepancy(label=label, got=found.got, expected=found.expected, excess=found.excess)
    return made, f"{found.name or 'one of its calls'} stands in this model"


def _holds_custom_nodes(setting: Setting, case: Case) -> bool:
    """Whether there is a hand-written backward in the graph, and something else beside it."""
    outputs = setting.subject.traced(case.primals, attached([x.clone() for x in case.primals.leaves]))
    if outputs is None:
        return False
    nodes = [n for n in graph_nodes(outputs) if n.next_functions]
    return bool(custom_nodes(outputs)) and 1 < len(nodes) <= _NODES
