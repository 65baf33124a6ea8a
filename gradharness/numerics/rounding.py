"""How far round-off can move a result: the same computation again, with every operation's result moved by an ulp.

Known as Monte Carlo arithmetic (Parker 1997). It finds what no move of the inputs does: terms that were absorbed
(1 + exp(-40)) and terms that cancel exactly (1 - tanh²).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_MULTIPLIER = 2654435769
# Operations that round nothing: they choose, move or copy numbers, or change their sign. Moving their results would
# break ties, and with them the choice among equals that the gradient rests on.
_NAMES = """
    _index_put_impl _to_copy abs amax amin arange argmax argsort as_strided_scatter cat ceil clamp clamp_max
    clamp_min clone complex constant_pad_nd copy copysign cummax cummin diag_embed diagonal_scatter embedding
    embedding_dense_backward empty empty_like empty_strided eye fill flip floor full full_like gather hardtanh
    heaviside index index_copy index_fill index_put index_select kthvalue lift_fresh masked_fill masked_scatter
    masked_select max max_pool2d_with_indices max_pool2d_with_indices_backward maximum median min minimum mode
    nan_to_num neg new_empty new_full new_ones new_zeros ones ones_like relu repeat roll round scalar_tensor
    scatter select_backward select_scatter sgn sign slice_backward slice_scatter sort stack threshold
    threshold_backward topk tril triu trunc unfold_backward value_selecting_reduction_backward where zero zeros
    zeros_like
"""
_EXACT = frozenset(_NAMES.split())


class Rounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, every operation that rounds gives a result moved by up to a unit in the last place.

    What is no elementwise operation (sums, products of matrices, factorisations) has its inputs moved too, since its
    error is that of its terms and not of its result.

    Args:
        pattern: Which moves: other ones for each number, the same ones for the same number.
    """

    def __init__(self, pattern: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pattern = pattern
        self._count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled in here, and skipping Dynamo would import it, which takes two seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``func``, and moves what it rounds."""
        kwargs = kwargs or {}
        returns = func._schema.returns
        viewing = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        name = func.overloadpacket.__name__.removesuffix("_")
        if viewing or name in _EXACT:
            return func(*args, **kwargs)
        in_place = any(r.alias_info is not None for r in returns)
        if torch.Tag.pointwise not in func.tags and not in_place:
            args = tree_map(self._moved, args)
        result = func(*args, **kwargs)
        return tree_map(self._moved_in_place if in_place else self._moved, result)

    def _moved(self, value: object) -> object:
        if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
            return value
        if value._is_zerotensor():  # has no memory, and does not survive that its bits are looked at
            return value
        self._count += 1
        return moved_by_value(value, 8191 * self._pattern + self._count, step=0.5)

    def _moved_in_place(self, value: object) -> object:
        moved = self._moved(value)
        return value.copy_(moved) if isinstance(value, torch.Tensor) and isinstance(moved, torch.Tensor) else value


def moved_by_value(tensor: torch.Tensor, pattern: int, *, step: float = 1.0) -> torch.Tensor:
    """The tensor with every number moved by one or two steps, equal numbers by equal ones, zeros not at all.

    Ties, zeros and repeated rows stay what they are: at them the gradient is a choice, and no round-off.

    Args:
        tensor: Floating or complex.
        pattern: Which numbers go up and which down.
        step: In units of the dtype's spacing at one.
    """
    if tensor.is_complex():
        real = torch.view_as_real(tensor.resolve_conj())
        return torch.view_as_complex(moved_by_value(real, pattern, step=step).contiguous())
    if not tensor.numel():
        return tensor
    bits = tensor.abs().to(torch.float64).contiguous().view(torch.int64)
    mixed = (bits.bitwise_xor(bits >> 32) + 7919 * (pattern + 1)) * _MULTIPLIER
    mixed = mixed.bitwise_xor_(mixed >> 15).mul_(2246822519).bitwise_right_shift_(29).bitwise_and_(3)
    steps = tensor.new_tensor((-2.0, -1.0, 1.0, 2.0))[mixed]
    return torch.addcmul(tensor, steps, tensor, value=step * torch.finfo(tensor.dtype).eps)
