"""How a script gets at what goes through autograd: a function, a Function, a custom op, a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gradharness.report.failure import Failure
from gradharness.report.reproduction import identifier
from gradharness.scripting.definitions import Definitions, NoSourceError
from gradharness.subjects.module_function import ModuleFunction

START = (
    "def start(arguments, leaves):  # runs forward; what it returns runs backward",
    "    outputs = outputs_of(arguments)",
    "    return lambda w: torch.autograd.grad(outputs, leaves, w, retain_graph=True, materialize_grads=True)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedSource:
    """See ``SubjectSource``.

    Attributes:
        called: An expression that is called with the arguments.
    """

    called: str
    definitions: tuple[str, ...] = ()
    missing: str = ""
    names: frozenset[str] = frozenset()

    @property
    def traced(self) -> bool:
        """Autograd gives the gradients."""
        return True

    def forward(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """One call."""
        return (f"output = {self.called}({', '.join(arguments)})",)

    def backward(self, failure: Failure, arguments: Sequence[str], number: int) -> tuple[str, ...]:
        """One call of ``torch.autograd.grad``."""
        outputs = failure.labels[0] if len(failure.cotangents) == 1 else failure.results
        weights = "cotangent" if len(failure.cotangents) == 1 else "cotangents"
        leaf = failure.alone
        leaves = arguments[leaf] if leaf is not None else "leaves"
        return (f"got = torch.autograd.grad({outputs}, {leaves}, {weights}, materialize_grads=True)[{number}]",)

    def start(self, failure: Failure) -> tuple[str, ...]:
        """By ``outputs_of``."""
        del failure
        return START


def traced_source(function: object) -> TracedSource:
    """Of a callable that is no module."""
    known = Definitions()
    try:
        called = known.expression(function, "subject")
    except NoSourceError:
        return TracedSource(called="subject", missing=f"`subject`, which is {_described(function)}")
    called = f"({called})" if called.startswith("lambda") else called
    return TracedSource(called=called, definitions=known.lines, names=known.names)


def module_source(function: ModuleFunction, names: Sequence[str]) -> TracedSource:
    """A module that is built anew, called with the arguments' inputs and, in place of its own state, theirs.

    The script has ``build_module()``. Where the module came built, somebody has to say how.

    Args:
        function: The module as a function.
        names: Of all arguments; those after the inputs are its state.
    """
    known, missing = Definitions(), ""
    try:
        if isinstance(function.source, nn.Module):
            raise NoSourceError(type(function.source).__name__)
        built = known.expression(function.source, "build_module")
    except NoSourceError:
        known, built = Definitions(), "build_module"
        missing = _missing(function.source, known)
    mode = "" if function.train is None else f".train({function.train})"
    define = [] if built == "build_module" and not mode else [f"def build_module():\n    return {built}(){mode}"]
    if define and built == "build_module":
        define = [f"make_module = build_module\ndef build_module():\n    return make_module(){mode}"]
    count = len(names) - len(function.state)
    own = [identifier(name) for name in names]
    pairs = zip((held.name for held in function.state), own[count:], strict=True)
    state = ", ".join(f"{held!r}: {name}" for held, name in pairs)
    inputs = f"({own[0]},)" if count == 1 else f"({', '.join(own[:count])})"
    text = (
        *define,
        "module = build_module()",
        f"def subject({', '.join(own)}):",
        f"    return torch.func.functional_call(module, {{{state}}}, {inputs})",
    )
    lines = tuple(line for part in text for line in part.splitlines())
    return TracedSource(
        called="subject",
        definitions=(*known.lines, *lines),
        missing=missing,
        names=known.names | {"module", "subject", "build_module"},
    )


def _missing(source: object, known: Definitions) -> str:
    """What to fill in so that ``build_module()`` makes a module; its class is imported if it can be."""
    if not isinstance(source, nn.Module):
        return f"`build_module`, a function that makes {_described(source)} anew"
    # As it came, nobody knows of which arguments it was made.
    kind = type(source)
    try:
        name = known.expression(kind, kind.__name__)
    except NoSourceError:
        name = kind.__qualname__
    return f"`build_module = lambda: {name}(…)`, with the constructor's arguments"


def _described(value: object) -> str:
    name = getattr(value, "__qualname__", None) or f"{type(value).__name__}(…)"
    return f"`{name}`"
