"""Alarms that a run of ``properties.silence`` may raise: PyTorch itself is wrong there, which every pin can show.

A pin excuses one kind of alarm on the subjects that it names, and nothing else that is said of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gradharness.model.verdict import Finding, Witness
from properties import known_defects
from properties.false_alarms import ENTRIES

_F64 = torch.float64


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One defect of PyTorch, and the alarm that finds it.

    Attributes:
        subjects: Names in the suite.
        check: Name of the check that finds it; empty if whichever meets the input first does.
        says: Part of the alarm.
        reason: What is wrong in PyTorch.
        shown: Whether this PyTorch still does it, by closed forms and without this package.
    """

    subjects: tuple[str, ...]
    check: str = ""
    says: str = ""
    reason: str
    shown: Callable[[], bool]

    def excuses(self, subject: str, finding: Finding) -> bool:
        """Whether the alarm is this one."""
        return subject in self.subjects and self.check in ("", finding.check) and self.says in finding.message


def _tensor(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=_F64, requires_grad=True)


def _mixed_slope_of_pow() -> bool:
    """∂²xʸ/∂x∂y = xʸ⁻¹(1 + y log x), which is 1/x at y = 0."""
    x, y = _tensor([3.0]), _tensor([0.0])
    (slope,) = torch.autograd.grad(x.pow(y).sum(), x, create_graph=True)
    (mixed,) = torch.autograd.grad(slope.sum(), y)
    return not torch.allclose(mixed, 1 / x)


def _second_slope_of_renorm() -> bool:
    """Rows shorter than the limit are left alone: the second derivative is zero, in a row of zeros too."""
    x = _tensor([0.0, 0.0], [0.0, 0.2])
    (slope,) = torch.autograd.grad(torch.renorm(x, 2, 0, 1.0).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    return bool(second[0].isnan().all()) and not bool(second[1].any())


def _raises(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, says: str) -> bool:
    """Whether the function takes x, and its backward raises."""
    output = function(x)
    try:
        output.sum().backward()
    except RuntimeError as error:
        return says in str(error)
    return False


def _view_at_an_odd_offset() -> bool:
    """The same numbers as cotangent, first in a buffer of their own and then one element into a wider one."""
    z = torch.zeros(1, dtype=torch.complex128, requires_grad=True)
    output = torch.view_as_real(z)
    output.backward(torch.ones(1, 2, dtype=_F64), retain_graph=True)
    try:
        output.backward(torch.ones(1, 3, dtype=_F64)[:, 1:])
    except RuntimeError as error:
        return "divisible by 2" in str(error)
    return False


def _empty(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=_F64, requires_grad=True)


def _shuffles_of_nothing() -> bool:
    down = _raises(lambda x: F.pixel_unshuffle(x, 2), _empty(0, 1, 2, 2), "divisible by")
    return down and _raises(lambda x: F.pixel_shuffle(x, 2), _empty(0, 4, 1, 1), "invalid gradient")


def _pooling_of_no_channels() -> bool:
    return _raises(lambda x: F.adaptive_avg_pool2d(x, 3), _empty(1, 0, 4, 4), "non-zero size")


def _clamp_to_wider_bounds() -> bool:
    """One number between two pairs of bounds: both outputs are it, and its slope is two."""
    bounds = _tensor([-1.0], [-2.0]), _tensor([1.0])
    return _raises(lambda x: torch.clamp(x, *bounds), _tensor([0.0]), "broadcast shape")


def _bias_of_layer_norm() -> bool:
    """The slope along the bias is the sum of the cotangents; a thousand ones are added up in bfloat16."""
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    bias = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    F.layer_norm(x, (2,), torch.ones(2, dtype=torch.bfloat16), bias).sum().backward()
    assert bias.grad is not None
    return bool((bias.grad < 900).all())


def _slopes_of_rrelu() -> bool:
    """Left of zero the function is a line through zero, with the slope y / x, wherever saved tensors are kept."""
    x = torch.arange(-50.0, 0.0, dtype=_F64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = F.rrelu(x, training=True)
    y.sum().backward()
    assert x.grad is not None
    return not torch.allclose(x.grad, (y / x).detach())


PINS = (
    Pin(
        subjects=("pow",),
        check="double_backward",
        says="second derivative",
        reason="where the exponent is zero, its derivative by base and exponent is taken for zero (1 / base is right)",
        shown=_mixed_slope_of_pow,
    ),
    Pin(
        subjects=("renorm",),
        check="double_backward",
        says="second derivative by x",
        reason="the second derivative of renorm is NaN in rows of zeros, where it is the identity",
        shown=_second_slope_of_renorm,
    ),
    Pin(
        subjects=("view_as_real",),
        check="layout",
        says="storage_offset divisible by 2",
        reason="its backward takes cotangents at even offsets only, though autograd hands it views at odd ones",
        shown=_view_at_an_odd_offset,
    ),
    Pin(
        subjects=("pixel_unshuffle", "pixel_shuffle"),
        check="shape",
        says="backward raises RuntimeError",
        reason="the forward takes tensors without elements, and the backward raises",
        shown=_shuffles_of_nothing,
    ),
    Pin(
        subjects=("adaptive_avg_pool2d", "area"),
        check="shape",
        says="non-zero size for non-batch dimensions",
        reason="the forward takes tensors without channels, and the backward raises",
        shown=_pooling_of_no_channels,
    ),
    Pin(
        subjects=("clamp by tensors",),
        says="doesn't match the broadcast shape",
        reason="clamp's backward raises where a bound has more elements than the input",
        shown=_clamp_to_wider_bounds,
    ),
    Pin(
        subjects=("rrelu",),
        check="transforms",
        says="where saved tensors are copied away and back",
        reason="rrelu saves the memory of its slopes before it draws them: a hook that copies gets what was there",
        shown=_slopes_of_rrelu,
    ),
    Pin(
        subjects=("layer_norm", "layer_norm wide"),
        check="precision",
        says="loses precision in bfloat16",
        reason="layer_norm's backward adds the gradient of its parameters up in bfloat16 on the CPU",
        shown=_bias_of_layer_norm,
    ),
)
_ENTRIES = {entry.name: entry for entry in ENTRIES}


def reason(subject: str, finding: Finding) -> str:
    """What is wrong in PyTorch where this was found; empty if the finding is news."""
    pinned = [pin.reason for pin in PINS if pin.excuses(subject, finding)]
    return pinned[0] if pinned else _first_derivative(subject, finding.witness)


def _first_derivative(subject: str, witness: Witness | None) -> str:
    """A known defect, if PyTorch's gradient is wrong at the very point of the witness."""
    if witness is None or not witness.cotangents:
        return ""
    inputs = tuple(value for _, value in witness.arguments)
    for defect in known_defects.DEFECTS:
        named = defect.name == subject and all(isinstance(x, torch.Tensor) for x in inputs)
        if named and known_defects.contradicted(defect, _ENTRIES[subject], inputs, witness.cotangents[0]):
            return defect.reason
    return ""
