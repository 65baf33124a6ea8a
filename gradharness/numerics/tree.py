"""Tensors inside tuples, lists and dicts: find them, name them, replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch

Key: TypeAlias = int | str
Path: TypeAlias = tuple[Key, ...]


def tensor_paths(value: object) -> tuple[Path, ...]:
    """Paths of all tensors in ``value``, depth first; ``()`` if it is a tensor itself."""
    return tuple(path for path, leaf in leaves(value) if isinstance(leaf, torch.Tensor))


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """All leaves with their paths. Tuples, lists and dicts are inner nodes, all else is a leaf."""
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def tensors(value: object) -> tuple[torch.Tensor, ...]:
    """All tensors in ``value``, depth first."""
    return tuple(leaf for _, leaf in leaves(value) if isinstance(leaf, torch.Tensor))


def get(value: Any, path: Path) -> Any:
    """The node of ``value`` at ``path``."""
    for key in path:
        value = value[key]
    return value


def replace(value: Any, path: Path, new: object) -> Any:
    """A copy of ``value`` with the node at ``path`` replaced; the original is left alone."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {**value, key: replace(value[key], rest, new)}
    number = int(key)
    items = [*value[:number], replace(value[number], rest, new), *value[number + 1 :]]
    if isinstance(value, list):
        return items
    # A namedtuple is built from its fields, torch's named results (of max) and a plain tuple from one iterable.
    if hasattr(value, "_fields"):
        return type(value)(*items)
    return type(value)(items) if hasattr(value, "n_fields") else tuple(items)


def map_tensors(function: Callable[[torch.Tensor], object], value: Any) -> Any:
    """A copy of ``value`` with ``function`` applied to every tensor in it."""
    for path in tensor_paths(value):
        value = replace(value, path, function(get(value, path)))
    return value


def label(name: str, path: Path) -> str:
    """How a leaf is called in reports: ``xs[0]['weight']``."""
    return name + "".join(f"[{key!r}]" for key in path)


def flatten(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """All elements of some tensors in one vector."""
    return torch.cat([t.reshape(-1) for t in parts])
