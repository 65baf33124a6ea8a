"""What lies around a call: torch's global settings, and its random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Global:
    """One global setting of torch.

    Attributes:
        name: How reports call it.
        expression: Python that reads it.
        read: The same as a function.
        write: Sets it.
    """

    name: str
    expression: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _attribute(owner: Any, name: str, words: str, expression: str) -> Global:
    return Global(words, expression, lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


_GLOBALS = (
    Global("grad mode", "torch.is_grad_enabled()", torch.is_grad_enabled, torch.set_grad_enabled),
    Global("the default dtype", "torch.get_default_dtype()", torch.get_default_dtype, torch.set_default_dtype),
    Global(
        "autocast on the CPU",
        "torch.is_autocast_enabled('cpu')",
        lambda: torch.is_autocast_enabled("cpu"),
        lambda value: torch.set_autocast_enabled("cpu", value),
    ),
    Global(
        "autocast on CUDA",
        "torch.is_autocast_enabled('cuda')",
        lambda: torch.is_autocast_enabled("cuda"),
        lambda value: torch.set_autocast_enabled("cuda", value),
    ),
    Global("the number of threads", "torch.get_num_threads()", torch.get_num_threads, torch.set_num_threads),
    Global(
        "use of deterministic algorithms",
        "torch.are_deterministic_algorithms_enabled()",
        _deterministic,
        _set_deterministic,
    ),
    Global(
        "the precision of float32 products",
        "torch.get_float32_matmul_precision()",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    Global(
        "anomaly detection",
        "torch.is_anomaly_enabled()",
        torch.is_anomaly_enabled,
        torch.autograd.set_detect_anomaly,
    ),
    _attribute(torch.backends.cudnn, "benchmark", "cudnn.benchmark", "torch.backends.cudnn.benchmark"),
    _attribute(torch.backends.cudnn, "deterministic", "cudnn.deterministic", "torch.backends.cudnn.deterministic"),
)


@contextmanager
def watched() -> Iterator[list[Global]]:
    """Fills the list, at the end of the block, with the settings that it changed; each is set back."""
    before = [(one, one.read()) for one in _GLOBALS]
    changed: list[Global] = []
    try:
        yield changed
    finally:
        for one, value in before:
            if one.read() != value:
                changed.append(one)
                one.write(value)


def reseeds(run: Callable[[], object]) -> bool:
    """Whether torch's generator stands at the same place after ``run``, wherever it stood before.

    The generator itself is left where it was.
    """
    place = torch.get_rng_state()
    after = []
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            run()
            after.append(torch.get_rng_state())
    finally:
        torch.set_rng_state(place)
    return torch.equal(*after)
