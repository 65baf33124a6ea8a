"""A module's own tensors as primals: beside the domain of its inputs, and beside a reference."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradharness.errors import GradharnessError, SubjectError, UsageError
from gradharness.inputs.domain import DimRule, Domain, Origin, active_paths
from gradharness.inputs.plain import plain_recipe, trial_recipes
from gradharness.inputs.probe import FEW
from gradharness.inputs.recipe import realize
from gradharness.inputs.specs import ExampleSpec, Spec, TensorSpec, as_spec
from gradharness.inputs.structure import near_example, observed_spec
from gradharness.inputs.styles import Kind
from gradharness.model.subject import Primals, Subject
from gradharness.numerics import tree
from gradharness.subjects import FunctionSubject, as_subject
from gradharness.subjects.module_function import AlteredState, Closed, ModuleFunction, converted, module_function

_OWN_STATE = "the module's parameters are not differentiated: {}"
_SIZES_TRIED = 64  # forwards that may be spent on finding the sizes that a module insists on
_SEEDS = (1, 2, 3)
_DTYPES = (torch.float64, torch.float32)  # the second where a module does not run in the first


@dataclass(frozen=True, slots=True)
class Companion:
    """A reference beside a module.

    Attributes:
        closed: As a function of the inputs alone.
        whole: As a function of inputs and state.
        shares: Whether it is called with the module's parameters.
        note: What the report has to say of it.
    """

    closed: Subject
    whole: Subject
    shares: bool
    note: str = ""


def companion(reference: object, function: ModuleFunction) -> Companion:
    """The reference, called with the module's own state where it can be.

    A module with the same names in its ``state_dict`` gets the same state; a function with arguments of these names
    (a dot is written ``_``) gets these. Any other is a function of the inputs alone.
    """
    adapted = as_subject(reference)  # type: ignore[arg-type]
    names = [held.name for held in function.state]
    other = module_function(adapted)
    if other is not None:
        return _module_companion(adapted, other, function)
    if not isinstance(adapted, FunctionSubject):
        raise UsageError(f"reference={adapted.name}: give a function or another module as the reference of a module")
    taken = _taken(adapted.function, names)
    whole = FunctionSubject(adapted.name, AlteredState(adapted.function, names, taken))
    if not taken:
        learnable = any(held.learnable for held in function.state)
        return Companion(
            adapted, whole, shares=False, note=_OWN_STATE.format("a reference takes the inputs alone") * learnable
        )

    def closed(*inputs: object) -> object:
        return whole.function(*inputs, *function.own_state(inputs).values())

    return Companion(FunctionSubject(adapted.name, closed), whole, shares=True)


def _module_companion(adapted: Any, other: ModuleFunction, function: ModuleFunction) -> Companion:
    ours = {held.name: held.tensor.shape for held in function.state}
    theirs = {held.name: held.tensor.shape for held in other.state}
    closed = replace(adapted, function=Closed(other))
    if set(ours) != set(theirs) or any(ours[name] != theirs[name] for name in ours):
        differing = sorted(set(ours.items()) ^ set(theirs.items()))
        whole = replace(adapted, function=AlteredState(closed.function, list(ours), {}))
        words = f"the reference module has another state_dict ({differing[0][0]!r}), and keeps its own parameters"
        return Companion(closed, whole, shares=False, note=_OWN_STATE.format(words) * bool(ours))
    order = [list(ours).index(name) for name in theirs]

    def shared(*arguments: object) -> object:
        count = len(arguments) - len(order)
        return other(*arguments[:count], *(arguments[count + i] for i in order))

    closed = replace(adapted, function=Closed(function, shared))
    return Companion(closed, replace(adapted, function=shared), shares=True)


def _taken(function: Callable[..., object], names: Sequence[str]) -> dict[str, str]:
    """Which of the state's names the function has as an argument, and how it writes them."""
    known = _argument_names(function)
    written = {name: name.replace(".", "_") for name in names}
    # ``0.weight`` is no name of an argument without something in front.
    return {name: w for name, short in written.items() for w in (short, f"_{short}") if w in known}


def _argument_names(function: Callable[..., object]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        # torch's own in C have no signature, and a docstring that begins with one.
        head = re.match(r"\s*\w+\(([^)]*)\)", function.__doc__ or "")
        return set(re.findall(r"\w+(?=\s*[,=]|\s*$)", head.group(1))) if head else set()


def in_own_dtype(subject: Subject, function: ModuleFunction, inputs: Any) -> Any:
    """Example inputs in the module's dtype, where it does not run in theirs."""
    examples = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
    dtypes = [h.tensor.dtype.to_real() for h in function.state if h.tensor.is_floating_point()]
    if not isinstance(examples, (tuple, list)) or not dtypes or runs(subject, examples):
        return inputs
    other = tree.map_tensors(
        lambda t: converted(t.detach(), dtypes[0], t.device).requires_grad_(t.requires_grad), tuple(examples)
    )
    return other if runs(subject, other) else inputs


def swaps(closed: Subject, function: ModuleFunction, values: Sequence[object]) -> bool:
    """Whether the module runs with other tensors in place of its own; compiled code holds on to its own."""
    return runs(closed, values) and not isinstance(function.module, torch.jit.ScriptModule)


def runs(subject: Subject, values: Sequence[object]) -> bool:
    """Whether the forward takes these values."""
    names = tuple(f"argument {i}" for i in range(len(values)))
    try:
        subject.outputs(Primals(names, tree.map_tensors(torch.clone, tuple(values)), ()))
    except GradharnessError:
        return False
    return True


def fitted(domain: Domain, subject: Subject, function: ModuleFunction) -> Domain:
    """A declared domain whose named dims have the sizes that the module insists on: those of its own tensors."""
    free = [rule for rule in domain.dims if not rule.variadic]
    if domain.origin is not Origin.DECLARED or not free or _takes(subject, domain):
        return domain
    sizes = sorted({size for held in function.state for size in held.tensor.shape})
    for number in range(1, len(free) + 1):
        for chosen in itertools.combinations(free, number):
            for values in itertools.islice(itertools.product(sizes, repeat=number), _SIZES_TRIED):
                trial = _pinned(domain, {r.name: v for r, v in zip(chosen, values, strict=True)})
                if _takes(subject, trial):
                    return trial
    return domain


def _pinned(domain: Domain, sizes: Mapping[str, int]) -> Domain:
    dims = tuple(
        DimRule(name=r.name, own=sizes[r.name], minimum=sizes[r.name], maximum=sizes[r.name]) if r.name in sizes else r
        for r in domain.dims
    )
    notes = (f"{name} is {size}, a size of the module's own (it rejects others)" for name, size in sizes.items())
    return replace(domain, dims=dims, notes=(*domain.notes, *notes))


def _takes(subject: Subject, domain: Domain) -> bool:
    """Whether unlike sizes are accepted, and small ones: the first may be the module's own by chance."""
    return any(all(_took(subject, domain, own, dtype) for own in (False, True)) for dtype in _DTYPES)


def _took(subject: Subject, domain: Domain, own: bool, dtype: torch.dtype) -> bool:  # noqa: FBT001
    try:
        subject.outputs(realize(domain, plain_recipe(domain, own=own), dtype=dtype))
    except SubjectError:
        return False
    return True


def with_state(
    domain: Domain, subject: Subject, function: ModuleFunction, given: Mapping[str, object], *, differentiated: bool
) -> Domain:
    """The domain of inputs and state.

    Args:
        domain: Of the inputs.
        subject: Takes inputs and state.
        function: The module.
        given: What the caller says of some of the state, by name.
        differentiated: Whether parameters are; otherwise they keep their values.

    Raises:
        UsageError: If nothing is differentiable.
    """
    state = function.state
    names = list(_distinct([held.name for held in state], domain.names))
    fixed: dict[str, Spec] = {h.name: ExampleSpec(h.tensor.detach()) for h in state}
    drawn = {h.name: _parameter(h.tensor) for h in state if h.learnable and differentiated}
    said = {name: as_spec(value, f"inputs[{name!r}]") for name, value in given.items()}

    def made(specs: Mapping[str, Spec]) -> Domain:
        everything = (*domain.specs, *specs.values())
        values = function.own_state(domain.examples or ())
        examples = None if domain.examples is None else (*domain.examples, *(v.detach() for v in values.values()))
        active = (*domain.active, *((int(p[0]) + len(domain.specs), *p[1:]) for p in active_paths([*specs.values()])))
        return replace(domain, names=(*domain.names, *names), specs=everything, examples=examples, active=active)

    own = {h.name: h.tensor for h in state}
    near = {name: near_example(spec, own[name]) or spec for name, spec in drawn.items()}
    whole = made({**fixed, **drawn, **said})
    if drawn and not _accepts(subject, whole):
        whole = made({**fixed, **near, **said})
    if not whole.active:
        raise UsageError(
            f"no differentiable input among {', '.join(domain.names) or 'no arguments at all'}, and no parameter that "
            "is differentiated: give at least one floating tensor"
        )
    return whole


def _distinct(names: Sequence[str], taken: Sequence[str]) -> Iterator[str]:
    """Names of the state, those that an input has too with ``self.`` in front."""
    for name in names:
        yield f"self.{name}" if name in taken else name


def _parameter(tensor: torch.Tensor) -> TensorSpec:
    """A parameter may become whatever an optimizer makes of it: a structure that its first values have is no claim."""
    spec = observed_spec(tensor.detach(), grad=True)
    assert isinstance(spec, TensorSpec)
    spec = replace(spec, scale=_own_scale(tensor))
    few = 2 <= tensor.numel() <= FEW and bool((tensor != tensor.reshape(-1)[0]).any())  # of one sign perhaps by chance
    return TensorSpec(shape=spec.shape, scale=spec.scale) if few or spec.kind is not Kind.PLAIN else spec


def _own_scale(tensor: torch.Tensor) -> float:
    """Magnitude of the values as a power of two: layers are scaled so that what they feed is not saturated."""
    rms = float(tensor.detach().abs().double().square().mean().sqrt()) if tensor.numel() else 0.0
    return 2.0 ** round(math.log2(rms)) if 0 < rms < math.inf else 1.0


def _accepts(subject: Subject, domain: Domain) -> bool:
    """Whether drawn parameters give finite outputs where the module's own do."""
    runs_in = next((d for d in _DTYPES if _finite(subject, realize(domain, trial_recipes(domain)[0], dtype=d))), None)
    if runs_in is None:
        return True
    recipes = (plain_recipe(domain, own=True, seed=seed) for seed in _SEEDS)
    return all(_finite(subject, realize(domain, recipe, dtype=runs_in)) for recipe in recipes)


def _finite(subject: Subject, primals: Primals) -> bool:
    try:
        return all(bool(y.isfinite().all()) for y in subject.outputs(primals))
    except GradharnessError:
        return False
