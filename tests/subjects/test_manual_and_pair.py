"""Subjects without autograd: a class told by ``manual``, two functions told by ``pair``."""

import pytest
import torch

from gradharness.errors import BackwardRaised, ForwardRaised, UsageError
from gradharness.model.subject import Primals
from gradharness.subjects import as_subject, manual, pair

F64 = torch.float64
X = torch.tensor([1.0, -2.0], dtype=F64)
W = torch.tensor([0.5, 4.0], dtype=F64)
G = torch.tensor([1.0, 10.0], dtype=F64)
XW = Primals(("x", "w"), (X, W), ((0,), (1,)))


class Scale:
    """Weights on the object."""

    def __init__(self):
        self.w = torch.ones(2, dtype=F64)
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x * self.w

    def backward(self, g):
        self.grads = {"x": g * self.w, 1: g * self.x}


class Owner:
    def __init__(self):
        self.layer = torch.nn.Linear(2, 1, bias=False, dtype=F64)

    def forward(self, x):
        self.x = x
        return x @ self.layer.weight.T

    def backward(self, g):
        self.grads = {"x": g @ self.layer.weight, "layer.weight": g[:, None] * self.x[None, :]}


class Fit:
    """Backward starts from the loss."""

    def __init__(self):
        self.w = torch.ones(2, dtype=F64)

    def forward(self, x):
        return x * self.w

    def backward(self, x, y, t):
        self.dw = 2 * (y - t) * x


def squared(y, t, weight=1.0):
    return weight * (y - t).square().sum()


def scale(**rest):
    return manual(Scale, gradients=lambda obj: obj.grads, state=("w",), **rest)


def test_a_manual_class_gives_its_outputs_and_the_gradients_that_it_leaves():
    subject = as_subject(scale())
    linearization = subject.linearize(XW)
    assert subject.name == "Scale"
    assert not subject.fixed_cotangent
    assert torch.equal(subject.outputs(XW)[0], X * W)
    x, w = linearization.pullback((G,))
    assert torch.equal(x, G * W)
    assert torch.equal(w, G * X)


def test_forward_and_backward_may_be_callables():
    def backward(obj, primals, outputs, cotangents):
        obj.grads = {"x": cotangents[0] * primals[1], "w": cotangents[0] * outputs[0] / primals[1]}

    subject = scale(forward=lambda obj, x: (obj.forward(x),), backward=backward)
    x, w = subject.linearize(XW).pullback((G,))
    assert torch.equal(x, G * W)
    assert torch.equal(w, G * X)


def test_the_own_forward_of_a_manual_class_is_differentiated_by_autograd():
    x, w = scale().own_forward().linearize(XW).pullback((G,))
    assert torch.equal(x, G * W)
    assert torch.equal(w, G * X)


def test_a_registered_parameter_at_a_dotted_name_is_a_primal():
    subject = manual(Owner, gradients=lambda obj: obj.grads, state=("layer.weight",))
    primals = Primals(("x", "layer.weight"), (X, W[None, :]), ((0,), (1,)))
    g = torch.ones(1, dtype=F64)
    for one in (subject, subject.own_forward()):
        x, w = one.linearize(primals).pullback((g,))
        assert torch.equal(x, W)
        assert torch.equal(w, X[None, :])


def test_with_a_loss_backward_gets_input_output_and_targets():
    subject = manual(Fit, gradients=lambda obj: {"w": obj.dw}, state=("w",), loss=squared)
    primals = Primals(("x", "t", "w"), (X, G, W), ((2,),))
    assert subject.fixed_cotangent
    assert subject.targets == ("t",)
    assert torch.equal(subject.outputs(primals)[0], squared(X * W, G))
    assert torch.equal(subject.linearize(primals).pullback(())[0], 2 * (X * W - G) * X)


def test_raw_returns_of_a_manual_class_are_what_it_left():
    (returned,) = scale().raw_returns(XW, (G,))
    assert returned.place == "Scale.backward"
    assert not returned.coerced
    assert [i.label for i in returned.inputs] == ["x", "w"]
    assert torch.equal(returned.returned[1], G * X)


def test_a_primal_without_a_place_is_not_claimed():
    subject = manual(Scale, gradients=lambda obj: {"x": None}, state=("w",))
    assert subject.claimed(XW, (G,)) == (True, False)
    assert subject.linearize(XW).pullback((G,)) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: manual("Scale", gradients=dict), "must be callable"),
        (lambda: manual(Scale, gradients={}), "must be callable"),
        (lambda: manual(Scale, gradients=dict, state="w"), "give a tuple of names"),
        (lambda: pair(1, abs), "pair\\(forward=1\\)"),
        (lambda: pair(abs, None), "pair\\(vjp=None\\)"),
        (lambda: scale(forward="run").outputs(XW), "no method 'run'"),
        (lambda: manual(Scale, gradients=dict, state=("b",)).outputs(XW), "no attribute 'b'"),
    ],
)
def test_a_wrong_description_is_told(wrong, message):
    with pytest.raises(UsageError, match=message):
        wrong()


def test_exceptions_of_a_manual_class_say_their_phase():
    def broken(*_arguments):
        raise ValueError("broken")

    with pytest.raises(ForwardRaised):
        manual(broken, gradients=dict).outputs(XW)
    with pytest.raises(BackwardRaised):
        scale(backward=broken).linearize(XW).pullback((G,))
    with pytest.raises(BackwardRaised, match="return a mapping"):
        manual(Scale, gradients=lambda obj: [1], state=("w",)).linearize(XW).pullback((G,))


def product(x, w):
    return x * w


def flat(x, w, g):
    return g * w, g * x


def packed(primals, cotangents):
    x, w = primals
    return [cotangents[0] * w, cotangents[0] * x]


def with_outputs(primals, outputs, cotangents):
    x, w = primals
    return cotangents[0] * outputs[0] / x, cotangents[0] * outputs[0] / w


@pytest.mark.parametrize("vjp", [flat, packed, with_outputs])
def test_a_pair_is_called_in_the_style_that_its_parameters_name(vjp):
    subject = as_subject(pair(product, vjp))
    x, w = subject.linearize(XW).pullback((G,))
    assert torch.equal(x, G * W)
    assert torch.equal(w, G * X)
    assert subject.name == "product"
    assert not subject.fixed_cotangent
    assert torch.equal(subject.outputs(XW)[0], X * W)
    (returned,) = subject.raw_returns(XW, (G,))
    assert [i.needed for i in returned.inputs] == [True, True]
    assert torch.equal(subject.own_forward().linearize(XW).pullback((G,))[0], G * W)


def test_a_pair_with_one_primal_may_return_a_bare_tensor():
    subject = pair(lambda x: x * 2, lambda x, g: 2 * g)
    (x,) = subject.linearize(Primals(("x",), (X,), ((0,),))).pullback((G,))
    assert torch.equal(x, 2 * G)
    assert subject.name == "lambda"


def test_a_pair_may_return_gradients_of_the_differentiated_primals_only():
    primals = Primals(("n", "x"), (3, X), ((1,),))
    subject = pair(lambda n, x: n * x, lambda n, x, g: (n * g,))
    (x,) = subject.linearize(primals).pullback((G,))
    assert torch.equal(x, 3 * G)
    short = pair(lambda n, x, w: n * x, lambda n, x, w, g: (None,))
    three = Primals(("n", "x", "w"), (3, X, W), ((1,), (2,)))
    assert short.linearize(three).pullback((G,)) == (None, None)
    full = pair(lambda n, x: n * x, lambda n, x, g: (None, n * g))
    assert torch.equal(full.linearize(primals).pullback((G,))[0], 3 * G)
