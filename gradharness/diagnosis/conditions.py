"""Conditions that other arguments and the outputs put on the elements of a gradient: masks, lengths, labels, order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch

from gradharness.diagnosis.evidence import Sample
from gradharness.numerics import tree

Predicate: TypeAlias = Callable[[Sample], torch.Tensor]
Wide: TypeAlias = Callable[[Sample], torch.Tensor | None]

_MOST_LABELS = 8


def conditions(first: Sample) -> Iterator[tuple[str, Predicate]]:
    """Each in words, with where it holds; nowhere, where it makes no sense for a sample."""
    label = first.found.label
    for path, name, tensor in _plain_tensors(first):
        for leading in (False, True):
            wide = _widened(path, leading=leading)
            if wide(first) is None:
                continue
            yield from _of_plain(name, tensor, wide)
        if tensor.dtype is torch.int64 and tensor.dim() < first.expected.dim():
            words = f"the index of {label} in dimension {tensor.dim()} is {name} or beyond"
            yield words, _beyond_length(path)
    yield from _of_order(first)
    for number in first.case.differentiable:
        if first.case.outputs[number].shape == first.expected.shape:
            y = _output(number)
            name = first.case.output_labels[number] if len(first.case.outputs) > 1 else "the output"
            yield f"{name} is 0", _where(y, lambda t: t == 0)
            yield f"{name} is negative", _where(y, lambda t: t < 0)
            yield f"{name} is positive", _where(y, lambda t: t > 0)
    yield "the true gradient is 0: what does not count there gets one", lambda s: s.expected == 0


def _plain_tensors(sample: Sample) -> Iterator[tuple[tree.Path, str, torch.Tensor]]:
    """Tensors that are not differentiated, and leaves beside the one in question are not among them."""
    primals = sample.case.primals
    for number, value in enumerate(primals.values):
        for path, leaf in tree.leaves(value):
            if isinstance(leaf, torch.Tensor) and (number, *path) not in primals.active and leaf.numel():
                yield (number, *path), tree.label(primals.names[number], path), leaf


def _of_plain(name: str, tensor: torch.Tensor, wide: Wide) -> Iterator[tuple[str, Predicate]]:
    if tensor.dtype is torch.bool:
        yield f"{name} is False", _where(wide, torch.logical_not)
        yield f"{name} is True", _where(wide, torch.clone)
    elif tensor.is_floating_point():
        yield f"{name} is 0", _where(wide, lambda t: t == 0)
        yield f"{name} is not 0", _where(wide, lambda t: t != 0)
    else:
        for value in sorted(set(tensor.reshape(-1).tolist()))[:_MOST_LABELS]:
            yield f"{name} is {value}", _where(wide, partial(torch.eq, other=value))


def _widened(path: tree.Path, *, leading: bool) -> Wide:
    """The tensor in the gradient's shape, by its last axes or by its first ones."""

    def wide(sample: Sample) -> torch.Tensor | None:
        tensor = tree.get(sample.case.primals.values, path)
        shape = sample.expected.shape
        if not isinstance(tensor, torch.Tensor) or tensor.dim() > len(shape):
            return None
        if leading:
            tensor = tensor.reshape(*tensor.shape, *[1] * (len(shape) - tensor.dim()))
        try:
            return tensor.detach().expand(shape)
        except RuntimeError:
            return None

    return wide


def _beyond_length(path: tree.Path) -> Predicate:
    def beyond(sample: Sample) -> torch.Tensor:
        lengths = tree.get(sample.case.primals.values, path)
        shape = sample.expected.shape
        if (
            not isinstance(lengths, torch.Tensor)
            or lengths.shape != shape[: lengths.dim()]
            or lengths.dim() == len(shape)
        ):
            return torch.zeros(shape, dtype=torch.bool)
        axis = lengths.dim()
        index = torch.arange(shape[axis]).reshape([-1 if d == axis else 1 for d in range(len(shape))])
        return (index >= lengths.reshape(*lengths.shape, *[1] * (len(shape) - axis))).expand(shape)

    return beyond


def _of_order(first: Sample) -> Iterator[tuple[str, Predicate]]:
    """Which of two arguments is the larger."""
    if first.leaf is None or first.leaf.is_complex():
        return
    primals, own = first.case.primals, first.found.label
    others = [(p, tree.label(primals.names[int(p[0])], p[1:])) for p in primals.active]
    others += [(p, n) for p, n, t in _plain_tensors(first) if t.is_floating_point()]
    for path, name in others:
        wide = _widened(path, leading=False)
        if name == own or wide(first) is None:
            continue
        yield f"{own} < {name}", partial(_compared, wide=wide, how=torch.lt)
        yield f"{own} > {name}", partial(_compared, wide=wide, how=torch.gt)
        yield f"{own} = {name}", partial(_compared, wide=wide, how=torch.eq)


def _compared(sample: Sample, wide: Wide, how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    leaf = sample.leaf
    if leaf is None:
        return _nowhere(sample)
    return _or_nowhere(sample, wide(sample), lambda t: how(leaf.detach(), t))


def _output(number: int) -> Wide:
    def output(sample: Sample) -> torch.Tensor | None:
        y = sample.case.outputs[number]
        return y if y.shape == sample.expected.shape else None

    return output


def _where(wide: Wide, condition: Callable[[torch.Tensor], torch.Tensor]) -> Predicate:
    return lambda s: _or_nowhere(s, wide(s), condition)


def _or_nowhere(
    sample: Sample, tensor: torch.Tensor | None, condition: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    return _nowhere(sample) if tensor is None or tensor.is_complex() else condition(tensor)


def _nowhere(sample: Sample) -> torch.Tensor:
    return torch.zeros(sample.expected.shape, dtype=torch.bool)
