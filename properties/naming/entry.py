"""One planted fault, with what a report may truly say of it, and the means to write one down briefly."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from gradharness import Fault, Finding, manual

Inputs = tuple[object, ...] | Mapping[str, object]
Maker = Callable[[torch.Generator], torch.Tensor]

FACTOR = "factor"
SIGN = "sign"
TRANSPOSED = "transpose"
REDUCTION = "reduction"
MEAN = "mean for sum"
COTANGENT = "cotangent"
NOT_LINEAR = "not linear"
SWAPPED = "swapped"
REGION = "region"
SHIFT = "shift"
AXIS = "wrong axis"
PROJECTION = "projection"
FORMULA = "formula"
STALE = "stale state"
ACCUMULATED = "accumulation"
PRECISION = "precision"
LAYOUT = "layout"
CONJUGATE = "conjugate"
DUPLICATES = "duplicates"
CONTEXT = "context"
IN_PLACE = "in place"
MISSING = "missing"
SIGNATURE = "shape or dtype"
MODE = "mode"
SPECIAL = "special value"
SECOND = "second order"
CLASSES = (
    *(FACTOR, SIGN, TRANSPOSED, REDUCTION, MEAN, COTANGENT, NOT_LINEAR, SWAPPED, REGION, SHIFT, AXIS, PROJECTION),
    *(FORMULA, STALE, ACCUMULATED, PRECISION, LAYOUT, CONJUGATE, DUPLICATES, CONTEXT, IN_PLACE, MISSING, SIGNATURE),
    *(MODE, SPECIAL, SECOND),
)


class UnknownNameError(ValueError):
    """None of the names that an entry accepts is in the vocabulary, and no sentence is accepted in their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A fault.

    Attributes:
        id: Unique name.
        kind: One of ``CLASSES``.
        wrong: The subject with the fault.
        twin: The same without it.
        inputs: Specs, or example values, of which a callable makes one from a generator.
        cause: What is wrong, in one sentence.
        names: Members of ``Fault``, by name or value, that are true and lead to the line. Those that do not exist are
            passed over.
        says: What the message has to match beside the name.
        or_says: What the message may match in place of all that.
        reference: As for ``check``.
        surrogate: As for ``check``.
    """

    id: str
    kind: str
    wrong: Any
    twin: Any
    inputs: Inputs
    cause: str
    names: tuple[str, ...] = ()
    says: str = ""
    or_says: str = ""
    reference: Any = None
    surrogate: bool = False

    def examples(self) -> Inputs:
        """The inputs as ``check`` takes them, equal in each call."""
        if isinstance(self.inputs, Mapping):
            return self.inputs
        g = torch.Generator().manual_seed(len(self.id))
        return tuple(one(g) if callable(one) else one for one in self.inputs)

    def faults(self) -> frozenset[Fault]:
        """The names as members.

        Raises:
            UnknownNameError: If there is none, and no sentence that may stand in their place.
        """
        known = frozenset(
            f for f in Fault if {f.name.casefold(), f.value.casefold()} & set(map(str.casefold, self.names))
        )
        if not known and not self.or_says:
            raise UnknownNameError(f"{self.id}: none of {', '.join(self.names) or 'no names'} is a Fault")
        return known

    def named_by(self, finding: Finding) -> bool:
        """Whether a finding says what is true and leads to the line."""
        if self.or_says and re.search(self.or_says, finding.message, re.IGNORECASE):
            return True
        told = not self.says or re.search(self.says, finding.message, re.IGNORECASE)
        return finding.fault in self.faults() and bool(told)


def real(*shape: int, low: float | None = None, high: float | None = None, scale: float = 1.0) -> Maker:
    """Normal numbers, or uniform ones between two limits."""

    def make(g: torch.Generator) -> torch.Tensor:
        if low is None or high is None:
            return (scale * torch.randn(shape, generator=g, dtype=torch.float64)).requires_grad_()
        return (low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)).requires_grad_()

    return make


def complex_(*shape: int) -> Maker:
    """Normal complex numbers."""
    return lambda g: torch.randn(shape, generator=g, dtype=torch.complex128).requires_grad_()


def whole(*shape: int, below: int) -> Maker:
    """Integers from zero on."""
    return lambda g: torch.randint(below, shape, generator=g)


def values(*numbers: int | bool) -> Maker:
    """These numbers."""
    return lambda g: torch.tensor(numbers)


@cache
def function(forward: Callable[..., Any], backward: Callable[..., Any]) -> type[torch.autograd.Function]:
    """A Function of ``forward(*primals)`` and ``backward(*primals, *cotangents)``; what that leaves out is None.

    The same two functions make the same Function.
    """

    def run(ctx: Any, *primals: object) -> Any:
        ctx.save_for_backward(*(p for p in primals if isinstance(p, torch.Tensor)))
        ctx.others = [None if isinstance(p, torch.Tensor) else p for p in primals]
        ctx.tensors = [isinstance(p, torch.Tensor) for p in primals]
        return forward(*primals)

    def pull(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        primals = [next(saved) if t else other for t, other in zip(ctx.tensors, ctx.others, strict=True)]
        found = backward(*primals, *cotangents)
        found = found if isinstance(found, tuple) else (found,)
        found += (None,) * (len(primals) - len(found))
        return tuple(v if needed else None for v, needed in zip(found, ctx.needs_input_grad, strict=True))

    parameters = list(inspect.signature(forward).parameters.values())
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    name = "".join(word.capitalize() for word in forward.__name__.split("_"))
    members = {"forward": staticmethod(run), "backward": staticmethod(pull)}
    return type(name, (torch.autograd.Function,), members)


def of(
    forward: Callable[..., Any],
    right: Callable[..., Any],
    wrong: Callable[..., Any],
    *inputs: object,
    told: bool = False,
    **rest: Any,
) -> Planted:
    """A fault of a Function's backward; where it is told, the forward serves as the reference too."""
    return Planted(
        wrong=function(forward, wrong),
        twin=function(forward, right),
        inputs=inputs[0] if isinstance(inputs[0], Mapping) else inputs,
        reference=forward if told else None,
        **rest,
    )


# Beside members that are there, names that the vocabulary may come to have for these faults.
AVERAGED = ("CONSTANT_FACTOR", "LOST_MEAN", "MEAN_FOR_SUM", "WRONG_AVERAGE", "WRONG_MEAN")
AXES = ("WRONG_AXIS", "WRONG_DIM", "WRONG_DIMENSION")
LACKS_TERM = (
    *("MISSING_TERM", "MISSING_PROJECTION", "MISSING_CENTRING", "MISSING_CENTERING", "NOT_CENTRED", "LOST_PROJECTION"),
    *("MISSING_CENTRING_TERM", "MISSING_PROJECTION_TERM", "LOST_TERM"),
)
WINS = (
    "DUPLICATES",
    "NOT_ACCUMULATED",
    "DUPLICATES_LOST",
    "DUPLICATES_NOT_ACCUMULATED",
    "LOST_DUPLICATES",
    "LAST_WINS",
)
SHIFTED = ("SHIFTED", "SHIFT", "OFF_BY_ONE", "ROLLED", "MISPLACED")
SAYS_TERM = r"cent(re|er)|centring|project|missing (a |the )?term|lacks? .*(mean|sum|multiple)|(mean|sum) .*subtract"
SAYS_AXIS = r"(wrong|other|another) (axis|dim)|(along|over) .{0,30}(axis|dim)\w*.{0,30}(instead|rather|, not|but)"
SAYS_WINS = r"duplicat|more than once|same (index|row|element)|repeat|accumulat|several times|overwrit|twice|added up"
SAYS_COTANGENT = (
    r"(differs?|off|short|missing|lacks?|less|minus|plus|more|extra|added|term).*cotangent"
    r"|cotangent.*(missing|lacking|added|extra|too (little|much|often)|twice)"
)
SAYS_SHIFT = r"shift|roll|off by one|one (place|position|step|element)|moved"


class Dense:
    """A layer as courses write it; what is wrong with it comes with its gradients."""

    def __init__(self, gradients: Mapping[str, Callable[..., object]]) -> None:
        self.gradients = gradients
        self.w = torch.zeros(())
        self.b = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.x = x
        return x @ self.w + self.b

    def backward(self, g: torch.Tensor) -> None:
        self.left = {name: made(self.x, self.w, g) for name, made in self.gradients.items()}


_DENSE = {"x": lambda x, w, g: g @ w.mT, "w": lambda x, w, g: x.mT @ g, "b": lambda x, w, g: g.sum(0)}


def manual_dense(
    id: str, kind: str, cause: str, names: tuple[str, ...], says: str = "", **changed: Callable[..., object] | None
) -> Planted:
    """A ``Dense`` without autograd, of which some gradients are others (or missing)."""

    def subject(gradients: Mapping[str, Callable[..., object]]) -> Any:
        def build() -> Dense:
            return Dense(gradients)

        build.__name__ = "Dense"
        return manual(build, gradients=lambda dense: dense.left, state=("w", "b"))

    changes = {name.removeprefix("d"): made for name, made in changed.items()}
    wrong = {name: made for name, made in {**_DENSE, **changes}.items() if made is not None}
    return Planted(
        id=id,
        kind=kind,
        wrong=subject(wrong),
        twin=subject(_DENSE),
        inputs=(real(4, 3), real(3, 5), real(5)),
        cause=cause,
        names=names,
        says=says,
    )
