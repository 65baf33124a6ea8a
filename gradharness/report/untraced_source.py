"""How a script gets at hand-written code without autograd: ``manual(...)`` and ``pair(...)``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradharness.report.failure import Failure
from gradharness.scripting.definitions import Definitions, NoSourceError, lambda_node, of_torch
from gradharness.subjects import ManualSubject, PairSubject

_PACKED = (("primals", "cotangents"), ("primals", "outputs", "cotangents"))
_DETACHED = "{} = (v.detach() if isinstance(v, torch.Tensor) else v for v in arguments.values())"
_PRESENT = "[torch.zeros_like(x) if g is None else g for g, x in zip({}, leaves)]"


def _outputs_kept(failure: Failure) -> tuple[str, ...]:
    """A line that keeps what forward returned, where steps ask for it."""
    return (f"    pull.outputs = {failure.results}",) if "pull.outputs" in " ".join(failure.steps) else ()


def _one(failure: Failure) -> str:
    """The cotangents of a plain script, as arguments."""
    return "cotangent" if len(failure.cotangents) == 1 else "*cotangents"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSource:
    """See ``SubjectSource``.

    Attributes:
        forward_name: An expression that is called with the primals.
        vjp_name: One that is called with primals and cotangents.
        packed: Names of the vjp's parameters, where it takes tuples.
        places: Which of the arguments are differentiated, in the order of the gradients; empty where a part of one is.
    """

    forward_name: str
    vjp_name: str
    packed: tuple[str, ...]
    arguments: tuple[str, ...]
    definitions: tuple[str, ...] = ()
    missing: str = ""
    names: frozenset[str] = frozenset()

    @property
    def traced(self) -> bool:
        """The vjp gives the gradients."""
        return False

    def forward(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """One call."""
        return (f"output = {self.forward_name}({', '.join(arguments)})",)

    def _pulled(self, arguments: Sequence[str], cotangents: str, outputs: str) -> str:
        primals = f"({', '.join(arguments)},)"
        if self.packed == _PACKED[0]:
            return f"{self.vjp_name}({primals}, ({cotangents},))"
        if self.packed == _PACKED[1]:
            return f"{self.vjp_name}({primals}, {outputs}, ({cotangents},))"
        return f"{self.vjp_name}({', '.join(arguments)}, {cotangents})"

    def _chosen(self, label: str, failure: Failure) -> str:
        """One gradient: there is one per argument, or one per leaf if the count says so."""
        name, bracket, rest = label.partition("[")
        number, leaf = self.arguments.index(name), failure.active.index(label)
        if len(self.arguments) == len(failure.active):
            return f"returned[{number}]{bracket}{rest}"
        per_leaf = f"len(returned) == {len(failure.active)}"
        return f"returned[{leaf}] if {per_leaf} else returned[{number}]{bracket}{rest}"

    def backward(self, failure: Failure, arguments: Sequence[str], number: int) -> tuple[str, ...]:
        """One call of the vjp."""
        outputs = f"({', '.join(failure.labels)},)"
        return (
            f"returned = {self._pulled(arguments, _one(failure), outputs)}",
            "returned = returned if isinstance(returned, (tuple, list)) else (returned,)",
            f"got = {self._chosen(failure.active[number], failure)}",
        )

    def start(self, failure: Failure) -> tuple[str, ...]:
        """Forward, then a function around the vjp."""
        outputs = f"({', '.join(failure.labels)},)"
        chosen = f"[{', '.join(self._chosen(label, failure) for label in failure.active)}]"
        return (
            "def start(arguments, leaves):  # runs forward; what it returns runs backward",
            "    values = [v.detach() if isinstance(v, torch.Tensor) else v for v in arguments.values()]",
            *(f"    {line}" for line in self.forward(("*values",))),
            "    def pull(w):",
            f"        returned = {self._pulled(('*values',), '*w', outputs)}",
            "        returned = returned if isinstance(returned, (tuple, list)) else (returned,)",
            f"        return {_PRESENT.format(chosen)}",
            *_outputs_kept(failure),
            "    return pull",
        )


def pair_source(subject: PairSubject, names: Sequence[str]) -> PairSource:
    """A forward and its vjp."""
    known = Definitions()
    found, missing = {"forward": "forward", "vjp": "vjp"}, []
    for what, function in (("forward", subject.forward), ("vjp", subject.vjp)):
        try:
            found[what] = known.expression(function, what)
        except NoSourceError:
            missing.append(f"`{what}`")
    return PairSource(
        forward_name=found["forward"],
        vjp_name=found["vjp"],
        packed=tuple(inspect.signature(subject.vjp).parameters),
        arguments=tuple(names),
        definitions=known.lines,
        missing=f"{' and '.join(missing)} of the pair" if missing else "",
        names=known.names,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualSource:
    """See ``SubjectSource``. The other attributes are expressions.

    Attributes:
        build: Makes the object.
        called: Calls forward, of ``obj`` and the arguments that it takes.
        pulled: Calls backward, of ``obj``, all arguments, ``output``, and the cotangents.
        left: The gradient of a label (its position is the second argument), of ``obj`` after backward.
        loss: Calls the loss of ``output`` and all arguments; None if there is none.
        state: Attributes that are the last arguments.
    """

    build: str
    called: Callable[[Sequence[str]], str]
    pulled: Callable[[Sequence[str], str], str]
    left: Callable[[str, int], str]
    loss: Callable[[Sequence[str]], str] | None
    state: tuple[str, ...]
    arguments: tuple[str, ...]
    definitions: tuple[str, ...] = ()
    missing: str = ""
    names: frozenset[str] = frozenset()

    @property
    def traced(self) -> bool:
        """The object has the gradients."""
        return False

    def _built(self, arguments: Sequence[str]) -> tuple[str, ...]:
        values = arguments[len(arguments) - len(self.state) :]
        set_ = (f"obj.{attribute} = {value}" for attribute, value in zip(self.state, values, strict=True))
        return (f"obj = {self.build}", *set_)

    def _run(self, arguments: Sequence[str]) -> tuple[str, ...]:
        raw = "output" if self.loss is None else "raw"
        lines = (f"{raw} = {self.called(arguments)}",)
        return lines if self.loss is None else (*lines, f"output = {self.loss(arguments)}")

    def forward(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Builds an object, gives it its state, and calls it."""
        if list(arguments) == ["*arguments.values()"]:
            own = [*self.arguments]
            return (_DETACHED.format(_unpacked(own)), *self._built(own), *self._run(own))
        return (*self._built(arguments), *self._run(arguments))

    def backward(self, failure: Failure, arguments: Sequence[str], number: int) -> tuple[str, ...]:
        """Calls it, and looks what the object has."""
        label = failure.active[number]
        return (self.pulled(arguments, _one(failure)), f"got = {self._left(label)}")

    def _left(self, label: str) -> str:
        name = label.partition("[")[0]
        return self.left(label, next(i for i, own in enumerate(self.arguments) if own == name))

    def start(self, failure: Failure) -> tuple[str, ...]:
        """Takes an object that is there, where steps have one."""
        again = any("obj" in line for line in failure.steps)
        own = [*self.arguments]
        built = self._built(own)
        if again:
            built = ("if obj is None:", *(f"    {line}" for line in built))
        found = f"[{', '.join(self._left(label) for label in failure.active)}]"
        return (
            f"def start(arguments, leaves{', obj=None' if again else ''}):  # forward; what it returns runs backward",
            *(f"    {line}" for line in (_DETACHED.format(_unpacked(own)), *built, *self._run(own))),
            "    def pull(w):",
            f"        {self.pulled(own, '*w')}",
            f"        return {_PRESENT.format(found)}",
            *_outputs_kept(failure),
            *(("    pull.obj = obj",) if again else ()),
            "    return pull",
        )


def _unpacked(names: Sequence[str]) -> str:
    return f"{names[0]}," if len(names) == 1 else ", ".join(names)


def manual_source(subject: ManualSubject, names: Sequence[str], known: Definitions | None = None) -> ManualSource:
    """A class with forward and backward.

    Args:
        subject: It.
        names: Of all arguments: those of forward, then the loss's, then the state's.
        known: Gets the definitions; None for new ones.
    """
    known, missing = known or Definitions(), []

    def expression(function: Any, what: str) -> str:
        try:
            return _loss_of_torch(function) or known.expression(function, what)
        except NoSourceError:
            missing.append(what)
            return what

    build = _call(expression(subject.build, "build"))
    loss = None if subject.loss is None else expression(subject.loss, "loss")
    forward = subject.forward if isinstance(subject.forward, str) else expression(subject.forward, "run_forward")
    backward = subject.backward if isinstance(subject.backward, str) else expression(subject.backward, "run_backward")
    first, last = len(names) - len(subject.state) - len(subject.targets), len(names) - len(subject.state)

    def called(values: Sequence[str]) -> str:
        inputs = ", ".join(values[:first])
        if isinstance(subject.forward, str):
            return f"obj.{forward}({inputs})"
        return f"{forward}(obj, {inputs})"

    def pulled(values: Sequence[str], cotangents: str) -> str:
        raw = "output" if loss is None else "raw"
        if callable(subject.backward):
            outputs = f"{raw} if isinstance({raw}, tuple) else ({raw},)"
            return f"{backward}(obj, ({', '.join(values)},), {outputs}, ({cotangents},))"
        if loss is not None:
            return f"obj.{backward}({', '.join([*values[:first], raw, *values[first:last]])})"
        return f"obj.{backward}({cotangents})"

    shown = _shown(subject.gradients)
    left = None if shown is not None else expression(subject.gradients, "gradients")

    def gradient(label: str, position: int) -> str:
        if shown is not None:
            return shown.get(label) or shown.get(position) or "None"
        return f"{left}(obj).get({label!r}, {left}(obj).get({position}))"

    return ManualSource(
        build=build,
        called=called,
        pulled=pulled,
        left=gradient,
        loss=None if loss is None else lambda values: f"{loss}({', '.join(['raw', *values[first:last]])})",
        state=subject.state,
        arguments=tuple(names),
        definitions=known.lines,
        missing=f"{' and '.join(f'`{what}`' for what in missing)} of {subject.name}" if missing else "",
        names=known.names,
    )


def training_source(subject: ManualSubject, names: Sequence[str], steps: str) -> ManualSource:
    """A class, or a loop, of which the steps use ``subject_build``, ``subject_optimizer`` and so on by these names."""
    known, lines = Definitions(), []
    if subject.loop is None:
        plain = manual_source(subject, names, known)
    else:  # the steps have all there is to it
        plain = manual_source(replace(subject, forward="forward", backward="backward", gradients=dict), names)
        plain = replace(plain, definitions=(), missing="")
    missing = [plain.missing] if plain.missing else []
    for what in ("build", "loss", "forward", "optimize", "optimizer", "loop"):
        function = getattr(subject, what)
        if not callable(function) or f"subject_{what}" not in steps or f"def subject_{what}(" in steps:
            continue
        try:
            lines.append(f"subject_{what} = {_loss_of_torch(function) or known.expression(function, f'own_{what}')}")
        except NoSourceError:
            missing.append(f"`subject_{what}`")
    both = (*known.lines, *lines)
    return replace(plain, definitions=both, missing=" and ".join(missing), names=plain.names | known.names)


def _call(expression: str) -> str:
    """``Layer()``; of ``lambda: Layer(3)`` what it returns, where that names nothing else."""
    return f"({expression})()" if expression.startswith("lambda") else f"{expression}()"


def _loss_of_torch(module: object) -> str | None:
    """A loss of torch's own, such as ``torch.nn.MSELoss(reduction='sum')``."""
    if not isinstance(module, torch.nn.Module):
        return None
    name = of_torch(type(module))
    if name is None:
        raise NoSourceError(type(module).__name__)
    return f"{name}({f'reduction={module.reduction!r}' if hasattr(module, 'reduction') else ''})"


def _shown(gradients: object) -> dict[str | int, str] | None:
    """By label or position, the gradients that ``lambda obj: {"x": obj.dx}`` shows; None if it is another thing."""
    node = lambda_node(gradients)
    if node is None or not isinstance(node.body, ast.Dict) or len(node.args.args) != 1:
        return None
    own = node.args.args[0].arg
    found: dict[str | int, str] = {}
    for key, value in zip(node.body.keys, node.body.values, strict=True):
        names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
        if not isinstance(key, ast.Constant) or not isinstance(key.value, (str, int)) or names - {own, "torch"}:
            return None
        for n in ast.walk(value):
            if isinstance(n, ast.Name) and n.id == own:
                n.id = "obj"
        found[key.value] = ast.unparse(value)
    return found
