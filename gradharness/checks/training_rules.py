"""Optimisers written out, with the mistakes that are made in writing them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

Options: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[torch.Tensor, torch.Tensor, Options], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Variant:
    """One mistake.

    Attributes:
        says: What it is, in words.
        options: Of the rule, in place of the optimiser's.
    """

    says: str
    options: Options


def sgd(before: torch.Tensor, gradients: torch.Tensor, options: Options) -> torch.Tensor:
    """Values after every step, of SGD with momentum; ``gradients`` and ``before`` are stacked by step."""
    lr, momentum, dampening = (float(options[name]) for name in ("lr", "momentum", "dampening"))
    buffer, after = None, []
    for x, gradient in zip(before, gradients, strict=True):
        g = _decayed(x, -gradient if options.get("maximize") else gradient, options)
        if momentum:
            first = (1 - dampening) * g if options.get("dampens_first") else g
            buffer = first if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if options["nesterov"] else buffer
        after.append(_shrunk(x, options) - lr * g)
    return torch.stack(after)


def adam(before: torch.Tensor, gradients: torch.Tensor, options: Options) -> torch.Tensor:
    """The same of Adam and AdamW."""
    lr, eps = float(options["lr"]), float(options["eps"])
    beta1, beta2 = map(float, options["betas"])
    m = v = torch.zeros_like(before[0])
    after = []
    for step, (x, gradient) in enumerate(zip(before, gradients, strict=True), 1):
        g = _decayed(x, -gradient if options.get("maximize") else gradient, options)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        first = m / (1 - beta1**step) if options.get("corrects_first", True) else m
        second = v / (1 - beta2**step) if options.get("corrects_second", True) else v
        after.append(_shrunk(x, options) - lr * first / _root(second, eps, options))
    return torch.stack(after)


def rmsprop(before: torch.Tensor, gradients: torch.Tensor, options: Options) -> torch.Tensor:
    """The same of RMSprop."""
    lr, eps, alpha, momentum = (float(options[name]) for name in ("lr", "eps", "alpha", "momentum"))
    v = mean = buffer = torch.zeros_like(before[0])
    after = []
    for x, gradient in zip(before, gradients, strict=True):
        g = _decayed(x, -gradient if options.get("maximize") else gradient, options)
        v, mean = alpha * v + (1 - alpha) * g * g, alpha * mean + (1 - alpha) * g
        spread = v - mean * mean if options["centered"] else v
        scaled = g / _root(spread, eps, options)
        buffer = momentum * buffer + scaled
        after.append(_shrunk(x, options) - lr * (buffer if momentum else scaled))
    return torch.stack(after)


def _decayed(x: torch.Tensor, g: torch.Tensor, options: Options) -> torch.Tensor:
    """The gradient with the weight decay in it, where that is coupled."""
    decay = float(options["weight_decay"])
    return g if not decay or options.get("decoupled") else g + decay * x


def _shrunk(x: torch.Tensor, options: Options) -> torch.Tensor:
    """The weight with the decay in it, where that is decoupled."""
    decay = float(options["weight_decay"])
    if not decay or not options.get("decoupled"):
        return x
    return x * (1 - decay * (1.0 if options.get("decays_fully") else float(options["lr"])))


def _root(v: torch.Tensor, eps: float, options: Options) -> torch.Tensor:
    if options.get("no_root"):
        return v + eps
    return (v + eps).sqrt() if options.get("eps_inside") else v.sqrt() + eps


def rule_of(optimizer: object) -> tuple[Rule, Options] | None:
    """The rule of an optimiser, and options that its groups do not hold; None if it is none of these."""
    if isinstance(optimizer, torch.optim.AdamW):
        return adam, {"decoupled": True}
    if isinstance(optimizer, torch.optim.Adam):
        return adam, {"decoupled": bool(optimizer.defaults.get("decoupled_weight_decay"))}
    if isinstance(optimizer, torch.optim.SGD):
        return sgd, {}
    if isinstance(optimizer, torch.optim.RMSprop):
        return rmsprop, {}
    return None


def variants(rule: Rule, options: Options) -> Iterator[Variant]:
    """The mistakes that can be made with these options."""
    own: dict[Rule, Callable[[Options], Iterator[Variant]]] = {sgd: _of_sgd, adam: _of_adam, rmsprop: _of_rmsprop}
    yield from own[rule](options)
    decay = float(options["weight_decay"])
    if decay:
        yield Variant("the weight decay is missing", {"weight_decay": 0.0})
        yield Variant("the weight decay has the wrong sign: the weights grow", {"weight_decay": -decay})
        if options.get("decoupled"):
            yield Variant(
                "the weight decay is coupled (added to the gradient, as Adam does) where the optimiser decouples it",
                {"decoupled": False},
            )
            yield Variant(
                "the decoupled weight decay is not multiplied by the learning rate",
                {"decays_fully": True},
            )
        elif rule is not sgd or float(options["momentum"]):  # else it is the same
            yield Variant(
                "the weight decay is decoupled (taken from the weight, as AdamW does) where the optimiser adds it to "
                "the gradient",
                {"decoupled": True},
            )


def _of_sgd(options: Options) -> Iterator[Variant]:
    momentum = float(options["momentum"])
    if not momentum:
        return
    yield Variant(
        f"the momentum buffer is not kept: every update is that of momentum 0, not {momentum:g}", {"momentum": 0.0}
    )
    dampened = f"the momentum is dampened: the buffer takes {1 - momentum:g} times the gradient, not all of it"
    yield Variant(dampened, {"dampening": momentum, "dampens_first": True, "nesterov": options["nesterov"]})
    yield Variant(dampened, {"dampening": momentum})
    if float(options["dampening"]):
        yield Variant("the dampening of the momentum is missing", {"dampening": 0.0})
        yield Variant("the first gradient is dampened as well, which torch leaves whole", {"dampens_first": True})
    nesterov = bool(options["nesterov"])
    says = "Nesterov's look ahead is missing" if nesterov else "the update looks ahead as Nesterov's does"
    yield Variant(says, {"nesterov": not nesterov})


def _of_adam(options: Options) -> Iterator[Variant]:
    beta1, beta2 = options["betas"]
    off = {"corrects_first": False, "corrects_second": False}
    yield Variant("the bias correction is missing", off)
    yield Variant("the bias correction of the first moment is missing", {"corrects_first": False})
    yield Variant("the bias correction of the second moment is missing", {"corrects_second": False})
    yield Variant("eps is inside the square root", {"eps_inside": True})
    yield Variant("eps is inside the square root, and the bias correction is missing", {"eps_inside": True, **off})
    yield Variant("the square root of the second moment is missing", {"no_root": True})
    yield Variant("the first moment is not kept", {"betas": (0.0, beta2)})
    yield Variant("the second moment is not kept", {"betas": (beta1, 0.0)})
    yield Variant("the two betas are swapped", {"betas": (beta2, beta1)})


def _of_rmsprop(options: Options) -> Iterator[Variant]:
    yield Variant("eps is inside the square root", {"eps_inside": True})
    yield Variant("the square root of the mean square is missing", {"no_root": True})
    yield Variant("alpha and 1 - alpha are swapped", {"alpha": 1 - float(options["alpha"])})
    yield Variant("the mean square is not kept", {"alpha": 0.0})
    if float(options["momentum"]):
        yield Variant("the momentum buffer is not kept", {"momentum": 0.0})
    centered = bool(options["centered"])
    says = "the mean is not taken out of the mean square" if centered else "the mean is taken out of the mean square"
    yield Variant(says, {"centered": not centered})
