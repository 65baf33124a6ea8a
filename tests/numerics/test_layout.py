"""Layouts keep values; copies keep layouts."""

import pytest
import torch

from gradharness.numerics import layout

X = torch.arange(24.0).reshape(2, 3, 4)
IMAGE = torch.arange(120.0).reshape(2, 3, 4, 5)
LAYOUTS = {
    "reverse": layout.reverse,
    "narrow": layout.narrow,
    "slice": layout.slice_,
    "offset": layout.offset,
    "permuted": layout.permuted(1, 0, 2),
    "from the end": layout.permuted(0, -1, -2),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_keeps_values_and_is_not_compact(name):
    laid = LAYOUTS[name](X)
    assert torch.equal(laid, X)
    assert not layout.is_compact(laid)
    assert not layout.overlaps(laid)
    assert layout.is_compact(layout.contiguous(laid))


def test_channels_last_and_scalars():
    assert layout.channels_last(IMAGE).is_contiguous(memory_format=torch.channels_last)
    assert layout.takes_channels_last(IMAGE)
    assert not layout.takes_channels_last(X)
    one = torch.tensor(2.0)
    assert layout.narrow(one).storage_offset() == layout.slice_(one).storage_offset() == 1


def test_expansion_repeats_the_first_element_or_slice():
    assert layout.expand(X).stride() == (0, 0, 0)
    along = layout.expand(X, 1)
    assert along.stride()[1] == 0
    assert torch.equal(along, X[:, :1].repeat(1, 3, 1))
    assert layout.overlaps(along)


def test_parts_of_one_buffer():
    a, b = layout.side_by_side((X, X + 1))
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    assert torch.equal(b, X + 1)


def test_the_strides_of_another_tensor():
    like = layout.reverse(X)
    laid = layout.as_laid(X, like)
    assert torch.equal(laid, X)
    assert laid.stride() == like.stride()


def test_copies_keep_strides_offsets_and_shared_memory():
    buffer = torch.arange(24.0).reshape(4, 6)
    given = (
        buffer[:, :3],
        buffer[:, 3:],
        layout.expand(X),
        layout.offset(X),
        torch.zeros(0, 2),
        torch.ones(3),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.eye(2).to_sparse(),
    )
    copies = layout.copied(given)
    for t, copy in zip(given[:6], copies, strict=False):
        assert torch.equal(t, copy)
        assert (t.stride(), t.storage_offset()) == (copy.stride(), copy.storage_offset())
        assert t.numel() == 0 or t.untyped_storage().data_ptr() != copy.untyped_storage().data_ptr()
    assert copies[0].untyped_storage().data_ptr() == copies[1].untyped_storage().data_ptr()
    assert torch.equal(copies[6], given[6])
    assert torch.equal(copies[7].to_dense(), torch.eye(2))


def test_a_sparse_tensor_is_left_alone():
    sparse = torch.eye(2).to_sparse()
    assert layout.contiguous(sparse) is sparse
    assert layout.is_compact(sparse)
