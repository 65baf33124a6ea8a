"""Check ``purity``: what a subject is given, and what lies around it, stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from gradharness.checks.base import Check, Setting
from gradharness.checks.repeats import Call, called, copied, copied_gradients, differing, helpers
from gradharness.checks.surroundings import Global, reseeds, watched
from gradharness.errors import BackwardRaised
from gradharness.model.case import Case
from gradharness.model.subject import Primals, Tensors
from gradharness.model.verdict import Discrepancy, Fault, Observation, Verdict
from gradharness.numerics import tree
from gradharness.numerics.bits import same_bits
from gradharness.subjects.custom_nodes import custom_nodes, function_class
from gradharness.subjects.reverse import attached, vector_jacobian

_EDIT = -0.5  # what a caller multiplies a tensor by, in place: another value, and of another sign
_OTHERS = "which others may hold as well"
_GRAPH = (
    "outputs = outputs_of(arguments)",
    "given = [*leaves, *cotangents, *outputs]",
    "before = kept(given)",
    "torch.autograd.grad(outputs, leaves, cotangents, materialize_grads=True)",
    "sys.exit(int(differ(given, before)))",
)
_FORWARD = (
    "given = [v for v in [*leaves, *arguments.values()] if isinstance(v, torch.Tensor)]",
    "before = kept(given)",
    "outputs_of(arguments)",
    "sys.exit(int(differ(given, before)))",
)
_PLAIN = (
    "given = [*leaves, *cotangents]",
    "before = kept(given)",
    "start(arguments, leaves)(cotangents)",
    "sys.exit(int(differ(given, before)))",
)
_AGAIN = (
    "pull = start(arguments, leaves)",
    "first = kept(pull(cotangents))",
    "try:",
    "    second = pull(cotangents)",
    "except RuntimeError as error:",
    "    sys.exit(f'{error}')",
    "sys.exit(int(differ(second, first)))",
)


@dataclass(frozen=True, slots=True)
class _Held:
    """A tensor that a subject may read and not write, and what it held before."""

    label: str
    tensor: torch.Tensor
    before: torch.Tensor

    @property
    def written(self) -> bool:
        return not same_bits(self.tensor.detach(), self.before)

    def restore(self) -> None:
        """Arguments that are no leaves are the case's own."""
        if self.written:
            self.tensor.detach().copy_(self.before)


def examine(setting: Setting, case: Case) -> Observation:
    """Everything given to forward and backward, and all that is global, bit for bit beside what it was."""
    with watched() as changed:
        leaves = attached(copied(case.primals.leaves))
        arguments = _arguments(case.primals, leaves)
        first = called(setting, case.primals, case.cotangents)
        outputs = setting.subject.traced(case.primals, leaves)
        if outputs is None:
            errors, warnings = _by_hand(setting, case)
        else:
            errors, warnings = _in_graph(setting, case, (outputs, leaves), arguments)
            errors = errors or _unnoticed(setting, case, first)
    for held in arguments:
        held.restore()
    errors += [_global(setting, one) for one in changed]
    # A random subject is seeded before every call; one that seeds itself is not random.
    if getattr(setting.subject, "seed", None) is None and reseeds(lambda: setting.subject.outputs(case.primals)):
        warnings.append(_seeds(setting))
    verdict = Verdict.FAIL if errors else Verdict.PASS
    return Observation(verdict=verdict, discrepancies=tuple(errors), warnings=tuple(warnings))


def _by_hand(setting: Setting, case: Case) -> tuple[list[Discrepancy], list[Discrepancy]]:
    """Of code without autograd: its inputs may be its own, so that writing into them is a warning."""
    found = [
        _writes(returned.place.partition(".")[0], label, _PLAIN)
        for returned in setting.subject.raw_returns(case.primals, case.cotangents)
        for label in returned.written
    ]
    return [], found


def _writes(place: str, label: str, steps: tuple[str, ...]) -> Discrepancy:
    detail = f"{place} writes into {label}, {_OTHERS}"
    return Discrepancy(label=label, fault=Fault.WRITES_INPUT, detail=detail, steps=(*helpers(0.0), *steps))


# --- through autograd ------------------------------------------------------------------------------------------------


def _arguments(primals: Primals, leaves: Tensors) -> list[_Held]:
    """Every tensor among the arguments, the leaves replaced; all with their values."""
    found = []
    for name, value in zip(primals.names, primals.arguments(leaves), strict=True):
        for path, t in tree.leaves(value):
            if isinstance(t, torch.Tensor):
                found.append(_held(tree.label(name, path), t))
    return found


def _held(label: str, tensor: torch.Tensor) -> _Held:
    return _Held(label, tensor, tensor.detach().clone())


def _in_graph(
    setting: Setting, case: Case, graph: tuple[Tensors, Tensors], arguments: list[_Held]
) -> tuple[list[Discrepancy], list[Discrepancy]]:
    """(errors, warnings): a forward that writes into arguments, a backward that writes into anything it can reach."""
    outputs, leaves = graph
    nodes = custom_nodes(outputs)
    place = function_class(nodes[0]).__name__ if nodes else setting.subject.name
    wrong = [_writes(f"{place}: forward", held.label, _FORWARD) for held in arguments if held.written]
    if wrong or [y.shape for y in outputs] != [w.shape for w in case.cotangents]:
        return wrong, []
    labels = [case.output_labels[i] for i in case.differentiable]
    public = [*arguments, *(_held(label, y) for label, y in zip(labels, outputs, strict=True))]
    private = _saved(nodes, public)
    for number, weights in enumerate((copied(case.cotangents), _repeated(case.cotangents))):
        given = [_held(f"cotangent {i}", w) for i, w in enumerate(weights)]
        try:
            vector_jacobian(outputs, leaves, weights, retain=True)
        except BackwardRaised:
            if number == 0 and not any(held.written for held in (*public, *private)):
                raise
        wrong += [_writes(f"{place}: backward", h.label, _GRAPH) for h in (*public, *given) if h.written]
        if wrong:
            break
    return wrong, [_spoils(place, held) for held in private if held.written]


def _repeated(cotangents: Tensors) -> Tensors:
    """Cotangents as a sum's backward gives them: one number, with stride 0."""
    return tuple(w.reshape(-1)[:1].clone().expand(w.numel()).view(w.shape) if w.numel() else w for w in cotangents)


def _saved(nodes: Sequence[object], public: Sequence[_Held]) -> list[_Held]:
    """What Functions have saved and nobody else holds."""
    shared = {held.tensor.untyped_storage().data_ptr() for held in public}
    found = []
    for node in nodes:
        try:
            tensors = node.saved_tensors  # type: ignore[attr-defined]
        except RuntimeError:  # given back early
            continue
        for i, t in enumerate(tensors):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in shared:
                found.append(_held(f"saved tensor {i}", t))
    return found


def _spoils(place: str, held: _Held) -> Discrepancy:
    detail = f"{place}: backward writes into its {held.label}: a second backward of the graph would read that"
    steps = (*helpers(0.0), *_AGAIN)
    return Discrepancy(label=held.label, fault=Fault.WRITES_INPUT, detail=detail, steps=steps)


def _unnoticed(setting: Setting, case: Case, first: Call) -> list[Discrepancy]:
    """An argument or an output that its owner changes in place between forward and backward.

    Either autograd raises, or the gradient is that of the values that forward saw.
    """
    for kind, number in _editable(case):
        leaves = attached(copied(case.primals.leaves))
        outputs = setting.subject.traced(case.primals, leaves)
        if not outputs or not custom_nodes(outputs):
            return []
        if [y.shape for y in outputs] != [w.shape for w in case.cotangents]:
            return []
        edited = (leaves if kind == "leaves" else outputs)[number]
        try:
            edited.detach().mul_(_EDIT)
        except RuntimeError:  # elements that share memory: nobody can change them in place
            continue
        try:
            got = vector_jacobian(outputs, leaves, copied(case.cotangents))
        except BackwardRaised:
            continue
        wrong = differing(setting, case.primals.labels, copied_gradients(got), first.gradients, first)
        if wrong:
            return [_edit(setting, case, wrong[0], (kind, number))]
    return []


def _editable(case: Case) -> Iterator[tuple[str, int]]:
    yield from (("leaves", i) for i, x in enumerate(case.primals.leaves) if x.numel())
    yield from (("outputs", i) for i, w in enumerate(case.cotangents) if w.numel())


def _edit(setting: Setting, case: Case, found: Discrepancy, place: tuple[str, int]) -> Discrepancy:
    kind, number = place
    labels = case.primals.labels if kind == "leaves" else [case.output_labels[i] for i in case.differentiable]
    detail = (
        f"an in-place change of {labels[number]} between forward and backward goes unnoticed, and the gradient of "
        f"{found.label} is wrong: keep tensors by ctx.save_for_backward, not as attributes"
    )
    steps = (
        *helpers(setting.tolerance.rtol),
        "expected = kept(start(arguments, leaves)(cotangents))",
        "outputs = outputs_of(arguments)",
        f"{kind}[{number}].detach().mul_({_EDIT})",
        "try:",
        "    got = torch.autograd.grad(outputs, leaves, cotangents, materialize_grads=True)",
        "except RuntimeError as error:",
        "    print('noticed, which is right:', error)",
        "    sys.exit(0)",
        "sys.exit(int(differ(got, expected)))",
    )
    return replace(found, fault=Fault.UNNOTICED_EDIT, detail=detail, steps=steps)


# --- what is global --------------------------------------------------------------------------------------------------


def _global(setting: Setting, one: Global) -> Discrepancy:
    detail = f"{setting.subject.name} changes {one.name} for the whole process"
    steps = (
        f"before = {one.expression}",
        "start(arguments, leaves)(cotangents)",
        f"print(before, {one.expression})",
        f"sys.exit(int(before != {one.expression}))",
    )
    return Discrepancy(label=one.name, fault=Fault.GLOBAL_STATE, detail=detail, steps=steps)


def _seeds(setting: Setting) -> Discrepancy:
    detail = f"{setting.subject.name} seeds torch's global generator: all that draws numbers after it draws the same"
    steps = (
        "states = []",
        "for seed in (1, 2):",
        "    torch.manual_seed(seed)",
        "    outputs_of(arguments)",
        "    states.append(torch.get_rng_state())",
        "sys.exit(int(torch.equal(*states)))",
    )
    return Discrepancy(label="seed", fault=Fault.GLOBAL_STATE, detail=detail, steps=steps)


CHECK = Check(
    name="purity",
    proves="Arguments, cotangents, outputs, saved tensors and global settings are what they were; edits are noticed.",
    cannot="Grad mode that a Function's forward leaves changed is hidden by autograd, which sets it back.",
    causes=(
        (
            "backward works in place on grad_output to save memory",
            "write into a buffer of its own",
        ),
        (
            "forward keeps its input as ctx.x = x",
            "use ctx.save_for_backward, which notices a later change in place",
        ),
    ),
    examine=examine,
    weight=0.2,
)
