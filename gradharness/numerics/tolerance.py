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
        coarsest: A pass that could have seen no smaller relative error than this is no pass.
    """

    rtol: float
    floor: float = 1e-3
    coarsest: float = 1e-3

    def allowed(self, expected: torch.Tensor, rms: float | None = None) -> torch.Tensor:
        """Allowed absolute error per element of ``expected``, in its units; zero where it is all zero.

        Args:
            expected: Any shape, real or complex.
            rms: Its root mean square, if that is known.
        """
        size = expected.abs()
        if rms is None:
            # What is not finite is nobody's to compare, and leaves the others' tolerance alone.
            size = torch.nan_to_num(size, nan=0.0, posinf=0.0)
            rms = float(size.square().mean().sqrt()) if size.numel() else 0.0
        return size.clamp_(min=self.floor * rms).mul_(self.rtol)


# float64: correct formulas of PyTorch itself are off by up to 3e-8 (hardsigmoid's backward holds a float32 1/6), and
# by more near cancellation; 1e-6 leaves a margin of ten over 172,000 elementwise checks in which 1e-7 gave no alarm.
# Lower precisions: an element that cancels has no relative accuracy at all, hence a floor of the whole rms. They are a
# few hundred units in the last place in float32, and a few in the half precisions, where plain torch itself is off by
# that much.
# The coarsest claim of float64 is gradcheck's blind spot of one per mille; beyond it nothing is claimed.
_TOLERANCES = {
    torch.float64: Tolerance(rtol=1e-6, floor=1e-3, coarsest=1e-3),
    torch.float32: Tolerance(rtol=1e-4, floor=1.0, coarsest=1e-2),
    torch.float16: Tolerance(rtol=2e-2, floor=1.0, coarsest=0.25),
    torch.bfloat16: Tolerance(rtol=6e-2, floor=1.0, coarsest=0.5),
}
# Stricter than some of torch's own formulas hold: it finds hardsigmoid's float32 constant.
_STRICT = {
    torch.float64: Tolerance(rtol=1e-9, floor=1e-3, coarsest=1e-3),
    torch.float32: Tolerance(rtol=1e-5, floor=1.0, coarsest=1e-2),
}


def tolerance_for(dtype: torch.dtype, *, strict: bool = False) -> Tolerance:
    """The tolerance for a real floating dtype (a complex one counts as its real part's)."""
    real = dtype.to_real() if dtype.is_complex else dtype
    return ({**_TOLERANCES, **_STRICT} if strict else _TOLERANCES)[real]
