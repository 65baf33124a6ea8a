"""A forward to probe, and what was found of it."""

from collections.abc import Callable
from typing import Any

import torch

from gradharness.inputs.probe import infer_domain
from gradharness.inputs.shapes import shape_text


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 17 * len(shape)), dtype=torch.float64)


class Forward:
    """The caller's part: runs the function, and says no where it raises or gives no numbers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, arguments: tuple[object, ...]) -> bool:
        self.calls += 1
        try:
            outputs = self.function(*arguments)
        except Exception:
            return False
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return all(bool(torch.isfinite(torch.abs(t)).all()) for t in outputs)


def infer(function, **examples):
    forward = Forward(function)
    domain = infer_domain(tuple(examples), tuple(examples.values()), forward)
    assert forward.calls <= 200
    return domain


def shapes(domain):
    return {label: shape_text(spec.shape) for label, _, spec in domain.leaves()}


def leaf(domain, label):
    return next(spec for name, _, spec in domain.leaves() if name == label)


def mean_pool(x, lengths):
    valid = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.dtype)[..., None]
    return (x * valid).sum(1) / lengths[:, None]


def segment_max(x, index, n):
    return torch.stack([x[index == s].amax() for s in range(n)])
