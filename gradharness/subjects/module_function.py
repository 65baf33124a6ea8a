"""A module as a function of its inputs and of all that it holds: its parameters and buffers are primals too."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from gradharness.errors import BuildRaised, UsageError
from gradharness.numerics import tree
from gradharness.subjects.function import FunctionSubject

Source: TypeAlias = nn.Module | Callable[[], object]


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor of a module's registry.

    Attributes:
        name: As in its ``state_dict``; of a shared tensor the first name.
        tensor: The module's own.
        learnable: Whether it is differentiated: a parameter that requires grad.
    """

    name: str
    tensor: torch.Tensor
    learnable: bool


class ModuleFunction:
    """``module(*inputs)`` as a function of ``(*inputs, *state)``, the state in the order of ``state``.

    The module that it was made of is never changed: calls run on copies of it, one for each dtype and device, since
    a module may keep what it makes on first use.

    Args:
        source: A module, or what makes one.
        train: Mode of its calls; None for the one that it comes in.
        independent_rows: Whether its rows are claimed not to depend on each other.
    """

    def __init__(self, source: Source, *, train: bool | None = None, independent_rows: bool = False) -> None:
        self.source = source
        self.train = train
        self.independent_rows = independent_rows
        self._module: nn.Module | None = None
        self._state: tuple[Held, ...] | None = None
        self._copies: dict[object, nn.Module] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleFunction) and self.source is other.source and self.train == other.train

    def __hash__(self) -> int:
        return hash((id(self.source), self.train))

    @property
    def can_build(self) -> bool:
        """Whether there is a factory that makes further modules of this kind."""
        return not isinstance(self.source, nn.Module)

    @property
    def module(self) -> nn.Module:
        """The module itself; nobody is to call or change it.

        Raises:
            BuildRaised: If it cannot be built.
        """
        if self._module is None:
            self._module = self.fresh()
        return self._module

    @property
    def state(self) -> tuple[Held, ...]:
        """Its parameters, then its buffers; each shared tensor once."""
        if self._state is None:
            parameters = self.module.named_parameters()
            learnt = [Held(name, p, p.requires_grad) for name, p in parameters]
            self._state = (*learnt, *(Held(name, b, learnable=False) for name, b in self.module.named_buffers()))
        return self._state

    def fresh(self, seed: int = 0) -> nn.Module:
        """A module that is nobody else's: built anew from this seed, or a copy; where neither can be, the given one.

        Raises:
            BuildRaised: If building raises.
        """
        if not isinstance(self.source, nn.Module):
            return self._in_mode(_built(self.source, seed))
        _check_initialised(self.source)
        try:
            return self._in_mode(copy.deepcopy(self.source))
        except Exception:  # a tensor with a graph on it, a lock, a handle
            return self._in_mode(self.source)

    def materialize(self, inputs: Sequence[object]) -> None:
        """Lets a module with lazy parameters make them, by one call without grad."""
        if any(is_lazy(p) for p in self.module.parameters()):
            with torch.no_grad():
                self.module(*tree.map_tensors(torch.clone, tuple(inputs)))
            self._state = None

    def split(self, arguments: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, torch.Tensor]]:
        """The inputs, and the state by name."""
        count = len(arguments) - len(self.state)
        names = (held.name for held in self.state)
        return tuple(arguments[:count]), dict(zip(names, arguments[count:], strict=True))

    def __call__(self, *arguments: object) -> object:
        """The module's outputs with this state for its own; buffers are copied, since forward may write into them."""
        inputs, given = self.split(arguments)
        held = {h.name: given[h.name] if h.learnable else given[h.name].clone() for h in self.state}
        return functional_call(self.copy_for(arguments), held, inputs)

    def own_state(self, like: Sequence[object]) -> dict[str, torch.Tensor]:
        """Copies of its tensors in the dtype and on the device of the first floating tensor among ``like``."""
        first = _first_floating(like)
        found = {}
        for held in self.state:
            value = held.tensor.detach().clone()
            if first is not None:
                value = converted(value, first.dtype.to_real(), first.device)
            found[held.name] = value.requires_grad_(held.learnable)
        return found

    def copy_for(self, arguments: Sequence[object]) -> nn.Module:
        """The copy that runs with arguments of such a dtype, on such a device. It shares the registered tensors."""
        like = _first_floating(arguments)
        key = None if like is None else (like.dtype, like.device)
        if key not in self._copies:
            module = self.module
            shared: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
            try:
                self._copies[key] = copy.deepcopy(module, shared)
            except Exception:  # as in ``fresh``
                self._copies[key] = module
        return self._copies[key]

    def twin(self, state: Mapping[str, torch.Tensor], *, seed: int = 0) -> nn.Module | None:
        """A module of its own that holds copies of these tensors, under the names of ``state``; None if there is none.

        Raises:
            BuildRaised: If building raises.
        """
        module = self.fresh(seed)
        if module is self.source:
            return None
        parameters = dict(module.named_parameters(remove_duplicate=False))
        buffers = dict(module.named_buffers(remove_duplicate=False))
        for name, value in state.items():
            if name in parameters:
                parameters[name].data = value.detach().clone()
            elif name in buffers:
                owner, _, last = name.rpartition(".")
                module.get_submodule(owner)._buffers[last] = value.detach().clone()
        return module

    def _in_mode(self, module: nn.Module) -> nn.Module:
        return module if self.train is None else module.train(self.train)


class AlteredState:
    """Some other callable with the arguments of a ``ModuleFunction``, made of what it takes of them.

    Args:
        function: What is called.
        names: Names of the state, in order.
        taken: The parameter of ``function`` that each of these names goes to; without any, it takes the inputs alone.
    """

    def __init__(self, function: Callable[..., object], names: Sequence[str], taken: Mapping[str, str]) -> None:
        self.function = function
        self.names = tuple(names)
        self.taken = dict(taken)

    def __call__(self, *arguments: object) -> object:
        """What the callable gives for what it takes of them."""
        count = len(arguments) - len(self.names)
        state = dict(zip(self.names, arguments[count:], strict=True))
        return self.function(*arguments[:count], **{self.taken[n]: state[n] for n in self.names if n in self.taken})


class Closed:
    """A function of inputs and state as a function of the inputs alone, with a module's own state in their dtype.

    Args:
        function: The module.
        whole: What is called; the module itself by default.
    """

    def __init__(self, function: ModuleFunction, whole: Callable[..., object] | None = None) -> None:
        self._function = function
        self._whole = whole or function
        with suppress(TypeError, ValueError):  # compiled code has none
            self.__signature__ = inspect.signature(function.module.forward)

    def __call__(self, *inputs: object) -> object:
        """What the module gives with its own state."""
        return self._whole(*inputs, *self._function.own_state(inputs).values())


def module_subject(
    source: Source, *, train: bool | None = None, independent_rows: bool = False, name: str = ""
) -> FunctionSubject:
    """The subject of a module, a module's class or a factory."""
    function = ModuleFunction(source, train=train, independent_rows=independent_rows)
    return FunctionSubject(name or _name(function), function)


def _name(function: ModuleFunction) -> str:
    """The class's or factory's name; that of what it makes, if a lambda has none."""
    source = function.source
    own = type(source).__name__ if isinstance(source, nn.Module) else str(getattr(source, "__name__", "<unknown>"))
    if "<" not in own:
        return own
    try:
        return type(function.module).__name__
    except (BuildRaised, UsageError):  # told when it is asked for
        return "module"


def module(
    factory: nn.Module | type[nn.Module] | Callable[[], nn.Module],
    *,
    train: bool | None = None,
    independent_rows: bool = False,
    name: str = "",
) -> FunctionSubject:
    """An ``nn.Module`` as a subject: every parameter is differentiated beside the inputs, every buffer is a primal too.

    They go by their names in ``state_dict`` (``layers.0.weight``); a tensor that several places share is one primal.
    Parameters are drawn in their own sizes, buffers and frozen parameters keep their values. ``check`` makes the same
    of a bare module, or of a module's class.

    A ``reference`` is called with the same parameters if it is a module with the same names in its ``state_dict``, or
    a function with arguments of these names (a dot is written ``_``), as ``torch.nn.functional.linear`` is for
    ``Linear``. Any other reference is a function of the inputs alone: the module then keeps its own parameters, they
    are not differentiated, and the report says so.

    Args:
        factory: A class or function without arguments that makes the module, or the module itself. With a factory more
            can be told: whether a second module that loads the state of the first one computes the same.
        train: True for train mode, False for eval mode; None for the mode that it comes in.
        independent_rows: Claims that no row (first dimension) of an output depends on another row of the inputs.
        name: How reports call it; the class's or function's name by default.

    Returns:
        A subject for ``check``, ``assert_gradients`` or ``gradient_test``.

    Raises:
        UsageError: If ``factory`` is no module and not callable without arguments.
    """
    if not isinstance(factory, nn.Module) and not callable(factory):
        raise UsageError(f"module({factory!r}): give an nn.Module, its class, or a function without arguments")
    missing = [] if isinstance(factory, nn.Module) else _required(factory)
    if missing:
        shown = getattr(factory, "__name__", repr(factory))
        raise UsageError(
            f"module({shown}): it cannot be built without {missing[0]!r}; give a factory, such as "
            f"lambda: {shown}({missing[0]}=…)"
        )
    return module_subject(factory, train=train, independent_rows=independent_rows, name=name)


def as_module(value: object) -> FunctionSubject | None:
    """The subject of a bare module or of a module's class; None for anything else."""
    if isinstance(value, nn.Module) or (isinstance(value, type) and issubclass(value, nn.Module)):
        return module(value)
    return None


def module_function(subject: object) -> ModuleFunction | None:
    """The module inside a subject; None for any other subject."""
    function = getattr(subject, "function", None)
    return function if isinstance(function, ModuleFunction) else None


def converted(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """The tensor on the device; in the dtype (complex: the matching one) if it is floating."""
    if tensor.is_complex():
        return tensor.to(device, dtype.to_complex())
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def _first_floating(values: Sequence[object]) -> torch.Tensor | None:
    return next((t for t in tree.tensors(tuple(values)) if t.is_floating_point() or t.is_complex()), None)


def _required(function: Callable[..., object]) -> list[str]:
    """Arguments without which it cannot be called."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def _built(make: Callable[[], object], seed: int) -> nn.Module:
    with _seeded(seed):
        try:
            made = make()
        except (Exception, SystemExit) as error:
            raise BuildRaised(error) from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"the factory of the module returned {type(made).__name__}: return an nn.Module")
    _check_initialised(made)
    return made


def _check_initialised(module: nn.Module) -> None:
    """A module whose ``__init__`` has not called that of ``nn.Module`` breaks on whatever is done with it."""
    for one in () if isinstance(module, torch.jit.ScriptModule) else _with_parts(module):
        if "_parameters" not in vars(one):
            raise BuildRaised(AttributeError(f"{type(one).__name__}.__init__ does not call super().__init__()"))


def _with_parts(module: nn.Module) -> Iterator[nn.Module]:
    yield module
    for part in vars(module).get("_modules", {}).values():
        if part is not None:
            yield from _with_parts(part)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """So that a module is built with the same values each time; the caller's generator is left where it was."""
    place = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(place)
