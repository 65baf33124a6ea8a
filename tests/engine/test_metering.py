"""What a subject is given lies in memory as it was drawn, in copies of its own."""

import torch

from gradharness.engine.metering import Meter, Metered
from gradharness.model.subject import Primals
from gradharness.numerics.layout import expand, narrow, side_by_side
from gradharness.subjects import pair
from tests.diagnosis.making import randn


def test_copies_keep_the_layout_of_primals_and_cotangents():
    seen = []

    def forward(x, y):
        seen.append((x, y))
        return x * y

    def vjp(x, y, g):
        seen.append(g)
        return g * y, g * x

    x, y = side_by_side((randn(2, 3), randn(2, 3, seed=1)))
    subject = Metered(pair(forward, vjp), Meter())
    linearization = subject.linearize(Primals(("x", "y"), (x, y), ((0,), (1,))))
    for given in (expand(randn(2, 3)), narrow(randn(2, 3))):
        linearization.pullback((given,))
        assert seen[-1].stride() == given.stride()
        assert seen[-1].data_ptr() != given.data_ptr()
    one, other = seen[0]
    assert (one.stride(), other.storage_offset()) == (x.stride(), y.storage_offset())
    assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert torch.equal(one, x)
    assert torch.equal(other, y)
