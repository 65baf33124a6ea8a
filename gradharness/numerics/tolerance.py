"""How much disagreement is allowed, per dtype, and where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Allowed relative error, on top of the oracles' own error bounds.

    Attributes:
        rtol: Relative to an element's own size, and never below ``floor`` times the tensor's size.
        floor: Share of a tensor's root mean square below which an element is not resolved further.
    """

    rtol: float
    floor: float = 1e-3

    def allowed(self, expected: torch.Tensor) -> torch.Tensor:
        """Allowed absolute error per element of ``expected``, in its units; zero where it is all zero."""
        size = expected.abs()
        rms = size.square().mean().sqrt() if size.numel() else size.sum()
        return self.rtol * torch.maximum(size, self.floor * rms)


# float64: correct formulas of PyTorch itself are off by up to 3e-8 (hardsigmoid's backward holds a float32 1/6), and
# by more near cancellation; 1e-6 leaves a margin of ten over 172,000 elementwise checks in which 1e-7 gave no alarm.
# float32: differences resolve about 1e-4 of a derivative at best; a float64 reference resolves more, see the judge.
_RTOL = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}
# Stricter than torch's own formulas hold; it finds hardsigmoid's float32 constant.
_STRICT_RTOL = {torch.float64: 1e-9, torch.float32: 1e-4}


def tolerance_for(dtype: torch.dtype, *, strict: bool = False) -> Tolerance:
    """The tolerance for a real floating dtype (a complex one counts as its real part's)."""
    real = dtype.to_real() if dtype.is_complex else dtype
    table = {**_RTOL, **_STRICT_RTOL} if strict else _RTOL
    return Tolerance(rtol=table[real])
