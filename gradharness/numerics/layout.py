"""Where tensors lie in memory: the same values in other strides, and copies that leave strides as they are.

Source of the kinds: what autograd hands to a backward. ``sum`` expands, ``cat`` and ``split`` hand out parts of a
wider buffer, ``mT`` and ``permute`` hand out transposed ones, convolutions channels-last ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import torch

Layout: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

_FILL = 77.0  # in the gaps between the elements: like none of them, and exact in every floating dtype
_CHANNELS = {4: torch.channels_last, 5: torch.channels_last_3d}


def copied(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Copies with the sizes, strides and offsets of the tensors; tensors that share memory share it afterwards.

    What has no strided memory of its own (sparse tensors, lazily conjugated ones) is cloned.
    """
    if _lie_plainly(tensors):  # nearly always, and every call of a subject comes through here
        return tuple(t.clone() for t in tensors)
    apart = _memories(tensors) if len(tensors) > 1 else {}
    shared = {place for place, numbers in apart.items() if len(numbers) > 1}
    copies: dict[tuple[int, torch.dtype], torch.Tensor] = {}
    found = []
    for number, t in enumerate(tensors):
        place = next((p for p in shared if number in apart[p]), None)
        if place is not None:
            if place not in copies:
                copies[place] = _memory([tensors[i] for i in apart[place]]).clone()
            found.append(copies[place].as_strided(t.shape, t.stride(), t.storage_offset()))
        else:
            found.append(t.clone() if _is_plain(t) else _memory([t]).clone().as_strided(*_place(t)))
    return tuple(found)


def contiguous(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in memory of their own, without gaps, the last dim fastest."""
    if tensor.layout is not torch.strided:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def is_compact(tensor: torch.Tensor) -> bool:
    """Whether it is contiguous from the start of its memory, which holds nothing else."""
    if tensor.layout is not torch.strided:
        return True
    own = tensor.numel() * tensor.element_size()
    return tensor.is_contiguous() and not tensor.storage_offset() and tensor.untyped_storage().nbytes() <= own


def permuted(*order: int) -> Layout:
    """In memory the dims come in this order, as after ``permute``; negative ones count from the end."""

    def lay(t: torch.Tensor) -> torch.Tensor:
        dims = [d % t.dim() for d in order]
        back = sorted(range(t.dim()), key=lambda i: dims[i])
        return t.permute(dims).contiguous().permute(back)

    return lay


def reverse(tensor: torch.Tensor) -> torch.Tensor:
    """The first dim fastest, as after ``.mT`` of a matrix."""
    return permuted(*reversed(range(tensor.dim())))(tensor)


def narrow(tensor: torch.Tensor) -> torch.Tensor:
    """Part of a buffer with wider rows, as ``cat`` and ``split`` hand it out; the last stride stays one."""
    if not tensor.dim():
        return offset(tensor)
    size = tensor.shape[-1]
    wide = _filled(tensor, (*tensor.shape[:-1], size + 2))
    return wide.narrow(-1, 1, size).copy_(tensor)


def slice_(tensor: torch.Tensor) -> torch.Tensor:
    """Every second element of a larger buffer."""
    if not tensor.dim():
        return offset(tensor)
    wide = _filled(tensor, (*tensor.shape[:-1], 2 * tensor.shape[-1]))
    return wide[..., ::2].copy_(tensor)


def offset(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous, but not from the start of the memory."""
    memory = _filled(tensor, (tensor.numel() + 1,))
    return memory[1:].view(tensor.shape).copy_(tensor)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """The second dim fastest, as convolutions like it; only with four or five dims."""
    return tensor.contiguous(memory_format=_CHANNELS[tensor.dim()])


def takes_channels_last(tensor: torch.Tensor) -> bool:
    """Whether it has as many dims as that needs."""
    return tensor.dim() in _CHANNELS


def expand(tensor: torch.Tensor, axis: int | None = None) -> torch.Tensor:
    """The first element everywhere, or the first slice along an axis, with stride 0; other values than before."""
    if axis is None:
        return contiguous(tensor.reshape(-1)[:1]).reshape(()).expand(tensor.shape)
    return contiguous(tensor.narrow(axis, 0, 1)).expand(tensor.shape)


def side_by_side(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Parts of one buffer along the last dim, as ``chunk`` of a packed projection hands them out."""
    sizes = [t.shape[-1] for t in tensors]
    return tuple(torch.split(torch.cat(list(tensors), -1), sizes, -1))


def as_laid(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The same values with the strides of another tensor of that shape, which must not overlap."""
    memory = _filled(tensor, (_extent(like) - int(like.storage_offset()),))
    return memory.as_strided(like.shape, like.stride()).copy_(tensor)


def overlaps(tensor: torch.Tensor) -> bool:
    """Whether several elements may lie in one place."""
    reach = 0
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda pair: pair[1]):
        if size > 1:
            if stride <= reach:
                return True
            reach += (size - 1) * stride
    return False


def _filled(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    # An index that is read from a gap must still be a valid one.
    fill = _FILL if like.is_floating_point() or like.is_complex() else 0
    return torch.full(tuple(shape), fill, dtype=like.dtype, device=like.device)


def _lie_plainly(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether each fills memory of its own from its start, without gaps."""
    if not all(t.layout is torch.strided and t.is_contiguous() and not t.storage_offset() for t in tensors):
        return False
    try:
        return len(tensors) < 2 or len({t.data_ptr() for t in tensors}) == len(tensors)
    except RuntimeError:  # a tensor within vmap has no memory to be asked for
        return False


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether ``clone`` leaves it as it is, or nothing else can be done."""
    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg() or not tensor.numel():
        return True
    return bool(tensor.is_contiguous() and not tensor.storage_offset())


def _memories(tensors: Sequence[torch.Tensor]) -> dict[tuple[int, torch.dtype], list[int]]:
    """Numbers of the tensors in each memory."""
    found: dict[tuple[int, torch.dtype], list[int]] = {}
    for number, t in enumerate(tensors):
        if t.layout is torch.strided and t.numel() and not t.is_conj() and not t.is_neg():
            with suppress(RuntimeError):  # a tensor within vmap has no memory to be asked for
                found.setdefault((t.untyped_storage().data_ptr(), t.dtype), []).append(number)
    return found


def _memory(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All elements from the start of the memory to the last one that any of the tensors has."""
    return tensors[0].as_strided((max(_extent(t) for t in tensors),), (1,), 0)


def _extent(tensor: torch.Tensor) -> int:
    steps = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + steps + 1)


def _place(tensor: torch.Tensor) -> tuple[torch.Size, tuple[int, ...], int]:
    return tensor.shape, tensor.stride(), int(tensor.storage_offset())
