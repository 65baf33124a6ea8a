"""Tensors that a module holds outside of its registry: as plain attributes, in lists, in modules in lists."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn

_INTERNAL = frozenset(vars(nn.Module())) | {"_is_full_backward_hook", "_flat_weights", "_flat_weight_refs"}
_DEEPEST = 4  # containers within containers
_MOST = 2000  # entries of one container; a data set kept on a module is none of our business


class Keeping(Enum):
    """How a tensor is kept. The value is the remedy that registers it."""

    ATTRIBUTE = "assign it as torch.nn.Parameter(…)"
    LIST = "keep it in a torch.nn.ParameterList"
    DICT = "keep it in a torch.nn.ParameterDict"
    MODULE_ATTRIBUTE = "assign the module that holds it as an attribute of its own"
    MODULE_LIST = "keep the modules in a torch.nn.ModuleList"
    MODULE_DICT = "keep the modules in a torch.nn.ModuleDict"


@dataclass(frozen=True, slots=True)
class Loose:
    """A tensor outside of the registry.

    Attributes:
        label: As Python writes it: ``weights[0]``, ``layers[0].weight``.
        tensor: The tensor itself.
        keeping: How it is kept.
        owner: The container that it sits in.
        key: Its place there.
    """

    label: str
    tensor: torch.Tensor
    keeping: Keeping
    owner: Any
    key: Any

    @property
    def name(self) -> str:
        """As a ``state_dict`` would have it."""
        return re.sub(r"\[(['\"]?)([^\]]*?)\1\]", r".\2", self.label)

    def put(self, tensor: torch.Tensor) -> bool:
        """Puts another tensor in its place; False where the container cannot be changed."""
        if isinstance(self.owner, (tuple, set, frozenset)):
            return False
        self.owner[self.key] = tensor
        return True


def loose_tensors(module: nn.Module) -> tuple[Loose, ...]:
    """All of them, each once."""
    walk = _Walk(module)
    found = []
    for prefix, part in module.named_modules():
        walk.seen.add(id(part))
        found += list(walk.attributes(part, f"{_written(prefix)}." if prefix else ""))
    return tuple(found)


def _written(path: str) -> str:
    """``layers.0`` as ``layers[0]``."""
    return re.sub(r"\.?\b(\d+)\b", r"[\1]", path)


class _Walk:
    def __init__(self, module: nn.Module) -> None:
        registered = (*module.parameters(), *module.buffers())
        self.storages = {_storage(t) for t in registered}
        self.registered = {id(t) for t in registered}
        self.modules = {id(part) for part in module.modules()}
        self.seen: set[int] = set()

    def attributes(self, part: nn.Module, prefix: str) -> Iterator[Loose]:
        for name, value in vars(part).copy().items():
            if name not in _INTERNAL:
                yield from self.inside(value, f"{prefix}{name}", Keeping.ATTRIBUTE, vars(part), name)

    def inside(self, value: Any, label: str, keeping: Keeping, owner: Any, key: Any) -> Iterator[Loose]:
        if isinstance(value, torch.Tensor):
            if id(value) not in self.registered and id(value) not in self.seen and _storage(value) not in self.storages:
                self.seen.add(id(value))
                yield Loose(label, value, keeping, owner, key)
            return
        if label.count("[") > _DEEPEST or id(value) in self.seen:
            return
        if isinstance(value, nn.Module):
            if id(value) not in self.modules:
                yield from self.module(value, label, keeping)
        elif isinstance(value, Mapping):
            self.seen.add(id(value))
            for k, v in _first(value.items()):
                yield from self.inside(v, f"{label}[{k!r}]", Keeping.DICT, value, k)
        elif isinstance(value, (list, tuple, deque)):
            self.seen.add(id(value))
            for k, v in _first(enumerate(value)):
                yield from self.inside(v, f"{label}[{k}]", Keeping.LIST, value, k)

    def module(self, module: nn.Module, label: str, keeping: Keeping) -> Iterator[Loose]:
        """What an unregistered module holds, in its own registry and outside of it."""
        how = {Keeping.LIST: Keeping.MODULE_LIST, Keeping.DICT: Keeping.MODULE_DICT}.get(
            keeping, Keeping.MODULE_ATTRIBUTE
        )
        for prefix, part in module.named_modules():
            if id(part) in self.seen or id(part) in self.modules:
                continue
            self.seen.add(id(part))
            place = f"{label}.{_written(prefix)}." if prefix else f"{label}."
            for store in (part._parameters, part._buffers):
                for name, tensor in store.items():
                    if tensor is not None:
                        yield from self.inside(tensor, place + name, how, store, name)
            yield from self.attributes(part, place)


def _first(entries: Any) -> Iterator[tuple[Any, Any]]:
    for number, entry in enumerate(list(entries)):
        if number >= _MOST:
            return
        yield entry


def _storage(tensor: torch.Tensor) -> object:
    """What memory it uses; views of one memory are one tensor here."""
    try:
        place = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return id(tensor)
    return place or id(tensor)
