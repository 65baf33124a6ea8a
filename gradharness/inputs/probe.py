"""From example values to a domain: what may change, found by running the forward."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from gradharness.errors import UsageError
from gradharness.inputs import probe_values
from gradharness.inputs.domain import DimRule, Domain, Origin, active_paths
from gradharness.inputs.probe_sizes import Group, find_groups
from gradharness.inputs.prober import AxisId, ExampleLeaf, Prober
from gradharness.inputs.recipe import Recipe, realize
from gradharness.inputs.shapes import Axis, Broadcast
from gradharness.inputs.specs import (
    ConstantSpec,
    IndexSpec,
    LeafSpec,
    MaskSpec,
    Spec,
    TensorSpec,
    TreeSpec,
)
from gradharness.inputs.structure import near_example, observed_spec, tight_region
from gradharness.inputs.styles import ORDINARY_STYLES, Kind, Style
from gradharness.numerics import tree

DIM_NAMES = "ndkmpqrstuvwabcefghijlxyz"
SIZE_BUDGET = 110
BUDGET = 170
_TRIALS = (1, 2, 3)
# So few elements tell nothing about the sign of others.
FEW = 4


def infer_domain(
    names: Sequence[str],
    examples: Sequence[object],
    accepts: Callable[[tuple[object, ...]], bool],
    *,
    beside: bool = False,
) -> Domain:
    """The domain around some example values.

    Args:
        names: Names of the arguments.
        examples: Their values: tensors, containers of tensors, plain values.
        accepts: Runs the forward (and the reference) and says whether that is valid. It never raises, and gets
            fresh tensors each time. Called at most about 170 times.
        beside: Whether something beside the inputs is differentiated, so that none of them need be.

    Returns:
        The domain. What could not be shown to vary is fixed as in the example.

    Raises:
        UsageError: If no input is differentiable.
    """
    leaves = _leaves(names, examples)
    if not beside and not any(isinstance(leaf.spec, TensorSpec) and leaf.spec.grad for leaf in leaves):
        raise UsageError(
            f"no differentiable input among {', '.join(names) or 'no arguments at all'}: "
            "give at least one floating tensor as an example"
        )
    prober = Prober(examples, leaves, accepts, SIZE_BUDGET)
    groups = find_groups(prober)
    prober.budget = max(prober.budget, min(BUDGET, prober.calls + 80))
    domain = _assemble(prober, tuple(names), groups)
    domain = _narrowed(prober, domain)
    return _with_styles(prober, domain)


def _leaves(names: Sequence[str], examples: Sequence[object]) -> tuple[ExampleLeaf, ...]:
    found: list[tuple[tree.Path, torch.Tensor]] = [
        ((number, *path), tree.get(value, path))
        for number, value in enumerate(examples)
        for path in tree.tensor_paths(value)
    ]
    wanted = any(t.requires_grad for _, t in found)
    return tuple(
        ExampleLeaf(
            tree.label(names[int(path[0])], path[1:]),
            path,
            t.detach(),
            observed_spec(t, grad=t.requires_grad if wanted else True),
        )
        for path, t in found
    )


def _assemble(prober: Prober, names: tuple[str, ...], groups: list[Group]) -> Domain:
    dims = dict(enumerate(_dim_names(names, len(groups))))
    axes = {axis: _axis(dims[i], group, axis) for i, group in enumerate(groups) for axis in group.axes}
    plain = {
        number: probe_values.plain_argument(prober, number)
        for number, value in enumerate(prober.examples)
        if not tree.tensor_paths(value)
    }
    integers = {
        names[n]: v
        for n, v in ((n, prober.examples[n]) for n in plain)
        if isinstance(v, int) and not isinstance(v, bool)
    }
    leaves: dict[tree.Path, LeafSpec] = {}
    for number, leaf in enumerate(prober.leaves):
        spec = leaf.spec
        if isinstance(spec, IndexSpec):
            spec = probe_values.index_spec(prober, number, groups, dims, integers)
        elif isinstance(spec, MaskSpec):
            spec = probe_values.mask_spec(prober, number)
        shape = tuple(axes.get((number, a), Axis(size=s)) for a, s in enumerate(leaf.value.shape))
        leaves[leaf.path] = replace(spec, shape=shape)
    specs = tuple(_argument(prober, n, leaves, plain) for n in range(len(names)))
    return Domain(
        names=names,
        specs=specs,
        dims=tuple(_rule(dims[i], group) for i, group in enumerate(groups)),
        origin=Origin.INFERRED,
        active=active_paths(specs),
        examples=prober.examples,
        notes=tuple(_fixed_notes(prober, axes)),
    )


def _dim_names(arguments: Sequence[str], count: int) -> list[str]:
    letters = (letter for letter in DIM_NAMES if letter not in arguments)
    numbered = (f"d{i}" for i in itertools.count() if f"d{i}" not in arguments)
    return list(itertools.islice(itertools.chain(letters, numbered), count))


def _axis(name: str, group: Group, axis: AxisId) -> Axis:
    return Axis(name, broadcast=group.broadcast.get(axis, Broadcast.NEVER), factor=group.factors.get(axis, 1))


def _rule(name: str, group: Group) -> DimRule:
    return DimRule(name=name, own=group.own, minimum=group.minimum, maximum=group.maximum, step=group.step)


def _argument(prober: Prober, number: int, leaves: dict[tree.Path, LeafSpec], plain: dict[int, Spec]) -> Spec:
    if number in plain:
        return plain[number]
    if (number,) in leaves:
        return leaves[(number,)]
    inside = tuple((path[1:], leaf) for path, leaf in leaves.items() if path[0] == number)
    template = tree.map_tensors(lambda t: t.detach(), prober.examples[number])
    return TreeSpec(template, inside) if inside else ConstantSpec(prober.examples[number])


def _fixed_notes(prober: Prober, axes: dict[AxisId, Axis]) -> Iterator[str]:
    for number, leaf in enumerate(prober.leaves):
        for axis, size in enumerate(leaf.value.shape):
            if (number, axis) not in axes:
                yield f"{leaf.label}: axis {axis} is fixed at {size} (the forward rejects other sizes)"


def own_sizes(domain: Domain, **choices: object) -> Recipe:
    """A recipe with the example's sizes and broadcast axes."""
    assert domain.examples is not None
    shown = []
    for label, path, spec in domain.leaves():
        example = tree.get(domain.examples, path)
        for number, axis in enumerate(spec.shape):
            if axis.broadcast is Broadcast.DECLARED and example.shape[number] == 1:
                shown.append(f"{label}:{number}")
    sizes = tuple((rule.name, rule.own or 0) for rule in domain.dims)
    return replace(Recipe(sizes=sizes, broadcast=tuple(shown)), **choices)  # type: ignore[arg-type]


def _accepted(prober: Prober, domain: Domain, style: Style, seeds: Sequence[int] = (1,)) -> bool:
    """Whether drawn values of the example's sizes are accepted; in the example's own dtype and device."""
    floating = (leaf.value for leaf in prober.leaves if isinstance(leaf.spec, TensorSpec))
    like = next(floating, torch.zeros((), dtype=torch.float64))
    dtype = like.dtype.to_real() if like.dtype.is_complex else like.dtype
    recipes = (own_sizes(domain, style=style, seed=seed) for seed in seeds)
    return all(prober.ask(realize(domain, recipe, dtype=dtype, device=like.device).values) for recipe in recipes)


def _narrowed(prober: Prober, domain: Domain) -> Domain:
    """The domain with narrower regions, tensor by tensor, where drawn values are rejected."""
    domain = _widened(prober, domain)
    if _accepted(prober, domain, Style.NORMAL, _TRIALS):
        return domain
    everything = near = domain
    for leaf in prober.leaves:
        if isinstance(leaf.spec, TensorSpec):
            near = _replaced(near, leaf, near_example(leaf.spec, leaf.value))
    kept = near
    for leaf in prober.leaves:
        if not isinstance(leaf.spec, TensorSpec):
            continue
        for candidate in (leaf.spec, tight_region(leaf.spec, leaf.value)):
            trial = _replaced(kept, leaf, candidate) if candidate else kept
            if candidate and _accepted(prober, trial, Style.NORMAL, _TRIALS):
                kept = trial
                break
    if _accepted(prober, kept, Style.NORMAL):
        return kept
    return replace(everything, notes=(*everything.notes, "the forward rejects most drawn values; many are discarded"))


def _widened(prober: Prober, domain: Domain) -> Domain:
    """The domain with all real numbers for short tensors that are of one sign perhaps by chance; scalars stay."""
    for leaf in prober.leaves:
        spec = leaf.spec
        if not isinstance(spec, TensorSpec) or spec.kind is not Kind.PLAIN or (spec.low, spec.high) == (None, None):
            continue
        if leaf.value.dim() and 2 <= leaf.value.numel() <= FEW:
            wide = _replaced(domain, leaf, replace(spec, low=None, high=None))
            if _accepted(prober, wide, Style.NORMAL, _TRIALS):
                domain = wide
    return domain


def _replaced(domain: Domain, leaf: ExampleLeaf, spec: TensorSpec | None) -> Domain:
    """The domain with other values for one tensor; its shape stays."""
    if spec is None:
        return domain
    number = int(leaf.path[0])
    old = next(s for _, path, s in domain.leaves() if path == leaf.path)
    new = replace(spec, shape=old.shape)
    argument = domain.specs[number]
    if isinstance(argument, TreeSpec):
        inside = tuple((path, new if path == leaf.path[1:] else s) for path, s in argument.leaves)
        changed: Spec = TreeSpec(argument.template, inside)
    else:
        changed = new
    return replace(domain, specs=(*domain.specs[:number], changed, *domain.specs[number + 1 :]))


def _with_styles(prober: Prober, domain: Domain) -> Domain:
    """The domain with the styles of which an accepted draw was seen; the normal one always stays."""
    prober.budget = max(prober.budget, prober.calls + 2 * len(ORDINARY_STYLES))
    seen = tuple(
        style
        for style in ORDINARY_STYLES
        if style is Style.NORMAL or _accepted(prober, domain, style) or _accepted(prober, domain, style, (9,))
    )
    return replace(domain, styles=seen)
