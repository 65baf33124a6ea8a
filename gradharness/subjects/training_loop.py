"""A plain training function, as a subject."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradharness.errors import UsageError, first_line
from gradharness.model.subject import Tensors
from gradharness.model.training import OptimizerFactory
from gradharness.subjects.manual_class import OPTIMIZER_REMEDY, STEPS, ManualSubject, counted

_LEFT = "_gradharness_left"


def training(
    loop: Callable[[Any, Any], object],
    *,
    model: Callable[[], torch.nn.Module],
    loss: Callable[..., torch.Tensor],
    optimizer: OptimizerFactory,
    steps: int = STEPS,
    accumulate: int = 1,
) -> ManualSubject:
    """A function that trains a model, as a subject: the check ``training`` follows it step for step.

    The function gets a fresh model and an iterable of batches, and makes one update for each batch. A batch is a tuple
    of the model's arguments and then of the loss's targets. When the function asks for the next batch, its step is
    taken to be done, so it must not read ahead.

    Args:
        loop: ``(model, batches)``, trains the model in place.
        model: Makes a fresh model; its parameters are given other starts.
        loss: ``(output, *targets) -> scalar`` that the function minimises: a function, or a module such as
            ``torch.nn.MSELoss()``.
        optimizer: Makes the optimiser that the function has to agree with, of a list of parameters:
            ``lambda params: torch.optim.SGD(params, lr=0.01)``.
        steps: How many steps are followed.
        accumulate: How many batches the function takes for one update. It has to be the update for all of these as one
            batch, joined along the first axis.

    Returns:
        A subject for ``check``, ``assert_gradients`` or ``gradient_test``; its inputs are those of a batch.

    Raises:
        UsageError: If an argument is of the wrong kind.
    """
    for what, value in (("loop", loop), ("model", model), ("loss", loss)):
        if not callable(value):
            raise UsageError(f"training({what}={value!r}): must be callable")
    if isinstance(model, torch.nn.Module):
        raise UsageError("training(model=…) is a module: give a function that makes a fresh one, such as lambda: Net()")
    if not callable(optimizer):
        raise UsageError(f"training(optimizer={optimizer!r}): {OPTIMIZER_REMEDY}")
    names = _parameter_names(model)
    return ManualSubject(
        name=getattr(loop, "__name__", "loop").strip("<>"),
        build=model,
        forward="forward",
        backward=_backward(names, loss),
        gradients=_left,
        state=names,
        loss=loss,
        optimizer=optimizer,
        loop=loop,
        steps=counted("training(steps", steps),
        accumulate=counted("training(accumulate", accumulate),
    )


def _parameter_names(model: Callable[[], torch.nn.Module]) -> tuple[str, ...]:
    try:
        with torch.random.fork_rng(devices=[]):
            made = model()
    except Exception as error:
        raise UsageError(f"training(model=…) raises {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"training(model=…) makes {type(made).__name__}: make a torch.nn.Module")
    names = tuple(name for name, p in made.named_parameters() if p.requires_grad)
    if not names:
        raise UsageError(
            f"training(model=…): {type(made).__name__} has no parameter that requires grad; make its weights "
            "torch.nn.Parameter"
        )
    return names


def _backward(
    names: tuple[str, ...], loss: Callable[..., torch.Tensor]
) -> Callable[[torch.nn.Module, tuple[object, ...], Tensors, Tensors], None]:
    """Autograd of the model and the loss, which is nobody's claim."""

    def backward(model: torch.nn.Module, primals: tuple[object, ...], _outputs: Tensors, cotangents: Tensors) -> None:
        given = dict(model.named_parameters())
        leaves = {name: given[name].detach().requires_grad_() for name in names}
        taken = len(primals) - len(names) - _targets(loss)
        arguments, targets = primals[:taken], primals[taken : len(primals) - len(names)]
        with torch.enable_grad():
            value = loss(torch.func.functional_call(model, leaves, arguments), *targets)
            found = torch.autograd.grad(value, list(leaves.values()), cotangents[0], allow_unused=True)
        object.__setattr__(model, _LEFT, dict(zip(names, found, strict=True)))

    return backward


def _targets(loss: Callable[..., torch.Tensor]) -> int:
    blank = ManualSubject(name="", build=object, forward="", backward="", gradients=_left, loss=loss)
    return len(blank.targets)


def _left(model: Any) -> Mapping[int | str, object]:
    left: Mapping[int | str, object] = getattr(model, _LEFT)
    return left
