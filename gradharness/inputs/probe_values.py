"""Which values an example's integers, masks and plain arguments may take: found by trying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from gradharness.inputs.probe_sizes import Group
from gradharness.inputs.prober import Prober
from gradharness.inputs.specs import ChoiceSpec, ConstantSpec, IndexSpec, MaskSpec, Spec
from gradharness.numerics import tree


def plain_argument(prober: Prober, number: int) -> Spec:
    """The values of a plain argument that the forward accepts; the example's own first."""
    own = prober.examples[number]
    accepted = [own]
    for candidate in _candidates(own, _ranks(prober)):
        arguments = list(prober.with_leaves({}))
        arguments[number] = candidate
        if not any(_same(candidate, value) for value in accepted) and prober.ask(tuple(arguments)):
            accepted.append(candidate)
    return ChoiceSpec(tuple(accepted)) if len(accepted) > 1 else ConstantSpec(own)


def index_spec(
    prober: Prober, number: int, groups: Sequence[Group], names: dict[int, str], integers: dict[str, int]
) -> IndexSpec:
    """Range and structure of an integer tensor.

    Args:
        prober: Asks the forward.
        number: Which leaf.
        groups: Axes that change together.
        names: Name of the dim of every group, by its place in ``groups``.
        integers: Plain integer arguments, by name.
    """
    leaf = prober.leaves[number]
    spec = leaf.spec
    assert isinstance(spec, IndexSpec)
    if not leaf.value.numel():
        return spec
    spec = _structured(prober, number, _linked(prober, number, spec, groups, names, integers))
    if spec.cover:
        for group in groups:
            if any(owner == number for owner, _ in group.axes):
                group.minimum = 0 if isinstance(spec.below, str) else min(group.minimum, spec.below - spec.low)
    return spec


def mask_spec(prober: Prober, number: int) -> MaskSpec:
    """Whether a mask may be false everywhere."""
    leaf = prober.leaves[number]
    spec = leaf.spec
    assert isinstance(spec, MaskSpec)
    t = leaf.value
    if not t.dim() or not t.numel() or not bool(t.any(-1).all()):
        return spec
    return replace(spec, nonempty=not prober.ask(prober.with_leaves({number: torch.zeros_like(t)})))


def _linked(
    prober: Prober,
    number: int,
    spec: IndexSpec,
    groups: Sequence[Group],
    names: dict[int, str],
    integers: dict[str, int],
) -> IndexSpec:
    """The spec with its upper end tied to the dim, or the argument, that bounds it."""
    t = prober.leaves[number].value.long()
    high = int(t.max())
    regular = t[t >= 0]
    special = tuple(sorted({int(v) for v in t[t < 0]})) if regular.numel() else ()
    free = replace(spec, low=0, special=special)
    if high >= 0 and len(special) <= 1:
        for place, group in sorted(enumerate(groups), key=lambda item: item[1].own):
            if group.own > high > 0 and _bounds(prober, number, group, high):
                return replace(free, below=names[place], sorted=spec.sorted and not special)
    if spec.low >= 0:
        for name, value in integers.items():
            if value == high + 1:
                return replace(free, below=name)
        elsewhere = [i for i, g in enumerate(groups) if g.own == high and all(leaf != number for leaf, _ in g.axes)]
        if elsewhere and (spec.low >= 1 or spec.sorted):
            return replace(spec, below=names[elsewhere[0]], low=min(spec.low, 1), inclusive=True)
    return spec


def _bounds(prober: Prober, number: int, group: Group, high: int) -> bool:
    """Whether the group's size must exceed the integers: shrunk to ``high`` it rejects them, but not smaller ones."""
    if group.step > 1:
        return False
    new = prober.resized(group.at(high))
    t = new.get(number, prober.leaves[number].value)
    if number in new and int(t.max()) < high:
        t = t.clone()
        t.reshape(-1)[0] = high
    outside = prober.ask(prober.with_leaves({**new, number: t}))
    if outside or not prober.ask(prober.with_leaves({**new, number: t.clamp(max=high - 1)})):
        return False
    # What kept the size up was the example's integers, and these follow it from now on.
    new = prober.resized(group.at(1))
    t = new.get(number, t)
    if prober.ask(prober.with_leaves({**new, number: t.clamp(max=0)})):
        group.minimum = 0
    return True


def _structured(prober: Prober, number: int, spec: IndexSpec) -> IndexSpec:
    """The spec with what the forward insists on: no value twice, or every value of the range present."""
    t = prober.leaves[number].value
    flat = t.reshape(-1)
    count = len(flat)
    distinct = len(set(flat.tolist()))
    if count < 2 or distinct < 2:
        return spec
    if distinct == count:
        repeated = flat.clone()
        repeated[1] = repeated[0]
        if not prober.ask(prober.with_leaves({number: repeated.reshape(t.shape)})):
            return replace(spec, unique=True)
        return spec
    if distinct == int(flat.max()) - int(flat.min()) + 1:
        missing = torch.where(flat == flat.max(), flat.min(), flat)
        missing = missing.sort().values if spec.sorted else missing
        return replace(spec, cover=not prober.ask(prober.with_leaves({number: missing.reshape(t.shape)})))
    return spec


def _ranks(prober: Prober) -> set[int]:
    return {leaf.value.dim() for leaf in prober.leaves if leaf.value.dim() > 0}


def _candidates(value: object, ranks: set[int]) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        if value >= 0:  # a count or a padding may be accepted below zero, but nobody has claimed it
            yield from (v for v in (value + 1, value - 1, 0, 1, 2) if v >= 0)
        else:  # a dim from the end, most likely
            yield from (value + 1, value - 1, 0, 1, -1, 2, *(value + rank for rank in sorted(ranks)))
    elif isinstance(value, float) and value and abs(value) < float("inf"):
        yield value / 2
        yield value * 2 if not 0 < value < 1 or value * 2 < 1 else (1 + value) / 2
    elif isinstance(value, (tuple, list)) and not tree.tensor_paths(value):
        yield from ()


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b
