"""One object of a manual class, used several times; there is none behind autograd and in a pair."""

import torch

from gradharness import manual, pair
from gradharness.model.subject import Primals
from gradharness.subjects import as_subject


class Scale:
    def __init__(self):
        self.a = torch.ones(())
        self.dx = self.da = 0
        self.calls = []

    def forward(self, x):
        self.calls.append((x,))
        return self.a * x

    def backward(self, w):
        (x,) = self.calls.pop()
        self.dx, self.da = self.dx + self.a * w, self.da + (w * x).sum()

    def zero_grad(self):
        self.dx = self.da = 0


POINT = Primals(("x", "a"), (torch.tensor([1.0, 2.0]), torch.tensor(3.0)), ((0,), (1,)))
ELSEWHERE = Primals(("x", "a"), (torch.tensor([5.0, 5.0]), torch.tensor(7.0)), ((0,), (1,)))
ONES = (torch.ones(2),)


def scale():
    return manual(Scale, gradients=lambda o: {"x": o.dx, "a": o.da}, state=("a",))


def test_one_object_keeps_its_state_and_adds_up():
    session = scale().session(POINT)
    assert session.fixed == (1,)
    session.linearize(POINT).pullback(ONES)
    linearization = session.linearize(ELSEWHERE)
    assert linearization.outputs[0].tolist() == [15.0, 15.0]  # with the state that it was made with
    dx, da = linearization.pullback(ONES)
    assert dx.tolist() == [6.0, 6.0]
    assert float(da) == 13.0
    assert session.clear()
    dx, _ = session.linearize(POINT).pullback(ONES)
    assert dx.tolist() == [3.0, 3.0]


def test_a_list_of_calls_is_seen():
    class Alone(Scale):
        def forward(self, x):
            self.calls = (x,), None
            return self.a * x

    assert scale().session(POINT).lists_calls(POINT)
    alone = manual(Alone, gradients=lambda o: {"x": o.dx}, state=("a",))
    assert not alone.session(POINT).lists_calls(POINT)


def test_a_module_that_inherits_zero_grad_has_none_of_its_own():
    class Module(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    assert not manual(Module, gradients=lambda o: {}).session(POINT).clear()


def test_no_object_is_kept_elsewhere():
    assert as_subject(torch.sin).session(POINT) is None
    assert pair(torch.sin, lambda x, w: w * x.cos()).session(POINT) is None
