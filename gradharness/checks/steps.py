"""Lines of stand-alone reproducers: values spelt out, and the comparison at the end."""

from __future__ import annotations

import torch

# Up to so many elements a value is spelt out.
LARGEST = 256


def spelled(tensor: torch.Tensor) -> str:
    """An expression that gives the tensor again, bit for bit; it needs ``torch``, ``inf`` and ``nan``."""
    values = tensor.detach().cpu().reshape(-1).tolist()
    return f"torch.tensor({values}, dtype={tensor.dtype}).reshape({tuple(tensor.shape)})"


def compared() -> tuple[str, ...]:
    """Lines that hold ``got`` against ``expected`` within ``bound``, and exit."""
    return (
        "print('expected', expected, '\\ngot     ', got, '\\nallowed ', bound)",
        "got = torch.zeros_like(expected) if got is None else got.detach()",
        "near = ((got - expected).abs() <= bound) | (got == expected) | ((got != got) & (expected != expected))",
        "sys.exit(int(not near.all()))",
    )


def expecting(expected: torch.Tensor, bound: torch.Tensor | float) -> tuple[str, ...]:
    """Lines that give ``expected`` and ``bound`` their values."""
    allowed = spelled(bound) if isinstance(bound, torch.Tensor) else repr(float(bound))
    return (f"expected = {spelled(expected)}", f"bound = {allowed}")
