"""The tensors of an object that trains: where they are kept, who shares them, and how a start is put into them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gradharness.model.subject import TensorMeta
from gradharness.model.training import Happening, Incident
from gradharness.numerics.bits import same_bits
from gradharness.subjects.calls import call_forward
from gradharness.subjects.manual_class import set_state

_DEEPEST = 4  # containers within containers
_PLAIN = ("_parameters.", "_buffers.")  # where a Module keeps what users call by its own name


@contextmanager
def made_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """While it is entered, new floating tensors are of this dtype, on this device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        if device.type == "cpu":
            yield
        else:
            with device:
                yield
    finally:
        torch.set_default_dtype(before)


def built(build: Callable[[], object], like: torch.Tensor) -> Any:
    """A fresh object in the dtype and on the device of a tensor.

    Raises:
        ForwardRaised: If it cannot be built.
    """
    obj = call_forward(build, ())
    return obj.to(like.device, like.dtype) if isinstance(obj, torch.nn.Module) else obj


def held(obj: object, path: str) -> Any:
    """What stands at a dotted path."""
    for name in path.split("."):
        obj = getattr(obj, name)
    return obj


def place(obj: object, path: str, value: torch.Tensor) -> None:
    """Gives a tensor of the object other values: the same tensor object, so that whatever else holds it sees them."""
    tensor = held(obj, path)
    if not isinstance(tensor, torch.Tensor):
        set_state(obj, path, value.clone())
        return
    try:
        if tensor.shape == value.shape and tensor.dtype is value.dtype and tensor.device == value.device:
            tensor.detach().copy_(value)  # its views see it too
        else:
            tensor.data = value.clone()
    except RuntimeError:  # an expanded tensor, or one of another kind
        set_state(obj, path, value.clone())


def tensors_of(obj: object) -> dict[str, torch.Tensor]:
    """Every tensor that the object or its class keeps under a name, in containers too."""
    found: dict[str, torch.Tensor] = {}
    for owner in reversed(type(obj).__mro__[:-1]):
        if not owner.__module__.startswith("torch"):
            found |= dict(_walk({k: v for k, v in vars(owner).items() if not k.startswith("__")}, "", 0))
    return found | dict(_walk(getattr(obj, "__dict__", {}), "", 0))


def _walk(value: object, path: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        for prefix in _PLAIN:
            path = path.replace(prefix, "")
        yield path.replace("_modules.", ""), value
        return
    if isinstance(value, torch.nn.Module):
        value = value.__dict__
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _walk(item, f"{path}[{number}]", depth + 1)


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.numel() and tensor.layout is torch.strided else id(tensor)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of an object, as they stand there now, and who else holds them.

    Attributes:
        obj: The object.
        paths: Where each parameter is kept.
        tensors: The tensors at the start.
        aliases: For each parameter, the other places where its memory is held.
        like: What the tensors looked like at the start.
    """

    obj: object
    paths: Sequence[str]
    tensors: tuple[torch.Tensor, ...]
    aliases: tuple[dict[str, torch.Tensor], ...]
    like: tuple[TensorMeta, ...]

    @classmethod
    def of(cls, obj: object, paths: Sequence[str]) -> Parameters:
        """Those of an object that has not trained yet."""
        tensors = tuple(held(obj, path) for path in paths)
        everything = {path: t for path, t in tensors_of(obj).items() if path not in paths}
        aliases = tuple({p: t for p, t in everything.items() if _memory(t) == _memory(x)} for x in tensors)
        return cls(obj, paths, tensors, aliases, tuple(map(TensorMeta.of, tensors)))

    def now(self) -> tuple[Any, ...]:
        """What stands there now."""
        return tuple(held(self.obj, path) for path in self.paths)

    def disturbed(self) -> bool:
        """Whether there may be an incident: cheap, for every step."""
        if any(self.aliases):
            return True
        pairs = zip(self.now(), self.tensors, self.like, strict=True)
        return any(new is not old or new.shape != x.shape or new.dtype is not x.dtype for new, old, x in pairs)

    def incidents(self, step: int) -> list[Incident]:
        """What has happened to the tensors themselves since the start."""
        found = []
        for path, old, like, aliases in zip(self.paths, self.tensors, self.like, self.aliases, strict=True):
            new = held(self.obj, path)
            if not isinstance(new, torch.Tensor):
                text = f"{path} is no tensor any more but {type(new).__name__}"
                found.append(Incident(kind=Happening.RESHAPED, step=step, label=path, text=text))
            elif new.shape != like.shape or new.dtype is not like.dtype:
                found.append(Incident(kind=Happening.RESHAPED, step=step, label=path, text=_reshaped(path, like, new)))
            else:
                found += _replaced(step, path, (old, new), aliases)
        return found


def _reshaped(path: str, old: TensorMeta, new: torch.Tensor) -> str:
    if new.shape != old.shape:
        return (
            f"the update changes the shape of {path} from {old.shape} to {tuple(new.shape)}: its gradient was "
            "broadcast and not summed, and the weight grew to fit"
        )
    return f"the update changes the dtype of {path} from {_name(old.dtype)} to {_name(new.dtype)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _replaced(
    step: int, path: str, pair: tuple[torch.Tensor, torch.Tensor], aliases: dict[str, torch.Tensor]
) -> list[Incident]:
    old, new = pair
    stale = [p for p, t in aliases.items() if _memory(t) != _memory(new)]
    if new is old and not stale:
        return []
    if stale:
        kind, text = Happening.LEFT_BEHIND, f"{stale[0]} still holds the old tensor, with the values from before"
    elif isinstance(old, torch.nn.Parameter):
        kind = Happening.UNREGISTERED
        text = "it is a registered parameter: an optimiser, or whoever asked for parameters(), still holds the old one"
    else:
        kind, text = Happening.REPLACED, "nothing else was seen to hold the old one"
    says = f"the update puts another tensor in the place of {path} instead of changing it in place; {text}"
    return [Incident(kind=kind, step=step, label=path, text=says)]


@dataclass(frozen=True, slots=True)
class Bystander:
    """A second object that does nothing while another one trains: what changes in it is shared.

    Attributes:
        obj: The object.
        tensors: What it held.
        values: Copies.
    """

    obj: object
    tensors: dict[str, torch.Tensor]
    values: dict[str, torch.Tensor]

    @classmethod
    def of(cls, obj: object) -> Bystander:
        """An object as it is now."""
        tensors = tensors_of(obj)
        return cls(obj, tensors, {path: t.detach().clone() for path, t in tensors.items()})

    def incidents(self) -> list[Incident]:
        """What has changed."""
        now = tensors_of(self.obj)
        changed = [p for p, v in self.values.items() if p in now and not same_bits(now[p].detach(), v)]
        return [
            Incident(kind=Happening.SHARED, step=0, label=path, text=self._text(path, now[path])) for path in changed
        ]

    def _text(self, path: str, tensor: torch.Tensor) -> str:
        name = type(self.obj).__name__
        kept = self.tensors.get(path, tensor)
        top = path.partition(".")[0].partition("[")[0]
        where = "both hold the same memory"
        for owner in type(self.obj).__mro__[:-1]:
            if owner.__module__.startswith("torch"):
                continue
            if any(_contains(d, kept) for d in _defaults(vars(owner).get("__init__"))):
                where = f"it is a mutable default argument of {owner.__name__}.__init__, made once for all objects"
                break
            if top in vars(owner):
                where = f"it is an attribute of the class {owner.__name__}"
                break
        return f"training one {name} changes {path} of another one that does nothing: {where}"

    def holds(self, other: Bystander) -> bool:
        """Whether another object held the same."""
        if self.values.keys() != other.values.keys():
            return False
        return all(same_bits(value, other.values[path]) for path, value in self.values.items())

    def restore(self) -> None:
        """Gives what was changed its values back, so that the next object starts as this one did."""
        for path, tensor in self.tensors.items():
            value = self.values[path]
            if not same_bits(tensor.detach(), value):
                tensor.data = value.clone()


def _defaults(function: object) -> list[object]:
    if not callable(function):
        return []
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.default for p in parameters if p.default is not p.empty]


def _contains(default: object, tensor: torch.Tensor) -> bool:
    return any(t is tensor for _, t in _walk(default, "", 0)) or default is tensor
