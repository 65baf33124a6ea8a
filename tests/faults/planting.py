"""A planted fault: a wrong backward, its correct twin, and what the harness has to say of it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from gradharness import Report, check, manual, pair
from gradharness.model.verdict import CheckResult, Fault, Finding


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One fault.

    Attributes:
        name: In the test's name.
        wrong: The faulty subject.
        right: The same subject without the fault.
        inputs: Makes example inputs.
        check: The check that exists for this fault.
        fault: What that check's first finding has to be called.
        says: Parts of its message.
        elements: Largest witness, in elements of all arguments together.
        reference: Given to both, where the fault shows only against one.
    """

    name: str
    wrong: object
    right: object
    inputs: Callable[[], tuple]
    check: str
    fault: Fault
    says: tuple[str, ...] = ()
    elements: int = 4
    reference: object = None

    def report(self, subject: object, checks: tuple[str, ...] | None = None, seed: int = 0) -> Report:
        """What ``check`` says of one of the two subjects."""
        return check(subject, self.inputs(), reference=self.reference, checks=checks, seed=seed)

    def result(self, report: Report) -> CheckResult:
        """That of the check that exists for this fault."""
        return next(r for r in report.results if r.check == self.check)

    def finding(self, report: Report) -> Finding:
        """The first one of that check."""
        return self.result(report).findings[0]


def randn(*shapes: tuple[int, ...], scale: float = 1.0) -> Callable[[], tuple]:
    """Makes the inputs that most people would try: double, randn, requires_grad."""

    def make() -> tuple:
        g = torch.Generator().manual_seed(1)
        drawn = (scale * torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)
        return tuple(x.requires_grad_() for x in drawn)

    return make


def function(forward: Callable, backward: Callable) -> Callable:
    """``apply`` of a torch.autograd.Function that saves all of its arguments."""

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            ctx.save_for_backward(*arguments)
            return forward(*arguments)

        @staticmethod
        def backward(ctx, *cotangents):
            return backward(*ctx.saved_tensors, *cotangents)

    Planted.forward.__signature__ = named(forward, "ctx")
    return Planted.apply


def layer(forward: Callable, backward: Callable) -> object:
    """A class without autograd, told by ``manual``."""

    class Layer:
        def forward(self, *arguments):
            self.saved = arguments
            return forward(*arguments)

        def backward(self, *cotangents):
            returned = backward(*self.saved, *cotangents)
            self.gradients = returned if isinstance(returned, tuple) else (returned,)

    Layer.forward.__signature__ = named(forward, "self")
    return manual(Layer, gradients=lambda obj: dict(enumerate(obj.gradients)))


def two_functions(forward: Callable, backward: Callable) -> object:
    """A forward and its vjp, told by ``pair``."""

    def vjp(primals, cotangents):
        return backward(*primals, *cotangents)

    return pair(forward, vjp)


def named(forward: Callable, first: str) -> inspect.Signature:
    """The signature of ``forward`` with a receiver in front."""
    names = [first, *inspect.signature(forward).parameters]
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names])


FORMS: dict[str, Callable] = {
    "function": function,
    "manual": layer,
    "pair": two_functions,
}


def planted(name: str, forward: Callable, right: Callable, wrong: Callable, *, forms: str = "function", **rest) -> list:
    """One fault in several forms, such as ``"function manual"``; the first goes by its bare name."""
    found = []
    for number, form in enumerate(forms.split()):
        make = FORMS[form]
        one = Planted(name=name, wrong=make(forward, wrong), right=make(forward, right), **rest)
        found.append(one if number == 0 else replace(one, name=f"{name}, {form}"))
    return found
