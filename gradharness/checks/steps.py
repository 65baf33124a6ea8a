"""Lines of stand-alone reproducers: values spelt out, and the comparison at the end."""

from __future__ import annotations

import torch

_READ = 32  # elements that somebody may want to read; more of them are given as the digits of their memory


def spelled(tensor: torch.Tensor) -> str:
    """An expression that gives the tensor again, bit for bit; it needs ``torch``, ``inf`` and ``nan``."""
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    there = "" if tensor.device.type == "cpu" else f".to({str(tensor.device)!r})"
    if not values.numel():
        return f"torch.zeros({tuple(tensor.shape)}, dtype={tensor.dtype}){there}"
    # Python has no literal for a complex number with a nan or an infinity in it.
    if values.numel() <= _READ and (not values.is_complex() or bool(values.isfinite().all())):
        return f"torch.tensor({values.tolist()}, dtype={tensor.dtype}){there}"
    digits = bytes(values.reshape(-1).view(torch.uint8).tolist()).hex()
    made = f"torch.frombuffer(bytearray.fromhex({digits!r}), dtype={tensor.dtype})"
    return made + there if values.dim() == 1 else f"{made}.reshape({tuple(tensor.shape)}){there}"


def compared() -> tuple[str, ...]:
    """Lines that hold ``got`` against ``expected`` within ``bound``, and exit."""
    return (
        "print('expected', expected, '\\ngot     ', got)",
        "near = ((got - expected).abs() <= bound) | (got == expected) | ((got != got) & (expected != expected))",
        "sys.exit(int(got.shape != expected.shape or not near.all()))",
    )


def judged(expected: torch.Tensor, bound: torch.Tensor | float) -> tuple[str, ...]:
    """Lines that hold ``got`` against ``expected``, in as few as can be, and exit.

    Args:
        expected: What is right, whose values the script has already.
        bound: Allowed absolute error.
    """
    given = allowing(bound)
    one = given.removeprefix("bound = ")
    if "torch" in given or not bool(expected.isfinite().all()):
        return (given, *compared())
    return (
        "print('expected', expected, '\\ngot     ', got)",
        f"sys.exit(int(got.shape != expected.shape or not ((got - expected).abs() <= {one}).all()))",
    )


def expecting(expected: torch.Tensor, bound: torch.Tensor | float) -> tuple[str, ...]:
    """Lines that give ``expected`` and ``bound`` their values."""
    return (f"expected = {spelled(expected)}", allowing(bound))


def allowing(bound: torch.Tensor | float) -> str:
    """A line that gives ``bound`` its value; one number where all elements have the same."""
    if isinstance(bound, torch.Tensor):
        first = bound.reshape(-1)[:1]
        if not first.numel() or not bool((bound == first).all()):
            return f"bound = {spelled(bound)}"
        bound = first.item()
    return f"bound = {float(bound)!r}"
