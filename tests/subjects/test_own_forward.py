"""The own forward of a Function's ``apply``, differentiated where it stands, beside the way around any callable."""

import pytest
import torch

from gradharness.errors import ForwardRaised, GradharnessError, OracleUnavailable
from gradharness.model.subject import Primals
from gradharness.subjects import as_subject, own_forward

X = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
W = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
ONE = Primals(("x",), (X,), ((0,),))
TWO = Primals(("x", "w"), (X, W), ((0,), (1,)))
FIRST = Primals(("x", "w"), (X, W), ((0,),))


class Wrong(torch.autograd.Function):
    """All backwards are wrong, so that only an own forward gives what is expected."""

    @staticmethod
    def backward(ctx, *cotangents):
        raise AssertionError("the hand-written backward was asked")


class Product(Wrong):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        ctx.set_materialize_grads(False)
        ctx.scale = 3
        return ctx.scale * x * w


class ProductSetup(Wrong):
    @staticmethod
    def forward(x, w, scale=3):
        return scale * x * w

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, ctx.scale = inputs  # the default is among them
        ctx.save_for_backward(x, w, output)
        assert not output.requires_grad
        assert not torch.is_grad_enabled()
        assert len(ctx.needs_input_grad) == 3


class Several(Wrong):
    """Between the tensors there is what is none; the last one is connected to nothing."""

    @staticmethod
    def forward(ctx, x):
        return None, x * x, 3, x.argsort(), "text", x.sin(), torch.ones(2, dtype=x.dtype)


class Marked(Wrong):
    """What is marked has an infinite slope: a cotangent of zero would give NaN."""

    @staticmethod
    def forward(ctx, x):
        flat = (x - 1).abs().sqrt()
        ctx.mark_non_differentiable(flat)
        return flat, x * x


class MarkedSetup(Wrong):
    @staticmethod
    def forward(x):
        return x * x, (x - 1).abs().sqrt()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])


class Twice(Wrong):
    @staticmethod
    def forward(ctx, x):
        square = x * x
        return square, x.sin(), square


class TwiceMarked(MarkedSetup):
    """To mark a tensor is to mark it wherever it is."""

    @staticmethod
    def forward(x):
        square = x * x
        return square, square, x.sin()


class Everything(Wrong):
    @staticmethod
    def forward(ctx, x):
        y = x * x
        ctx.mark_non_differentiable(y)
        return y


class Identity(Wrong):
    @staticmethod
    def forward(ctx, x):
        return x


class View(Wrong):
    @staticmethod
    def forward(ctx, x):
        return x[:2], x.view(-1, 1)


class Needing(Wrong):
    @staticmethod
    def forward(ctx, x, w):
        assert isinstance(ctx.needs_input_grad, tuple)
        return x * w if ctx.needs_input_grad == (True, True) else x * w.exp()


class Single(Wrong):
    @staticmethod
    def forward(ctx, x):
        return (x * x,)


class Listed(Wrong):
    @staticmethod
    def forward(ctx, x):
        return x * x, [x * 2]


class Dirty(Wrong):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)


class DirtySetup(Wrong):
    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_dirty(*inputs)


class Detached(Wrong):
    @staticmethod
    def forward(ctx, x):
        return x.detach() * 2


class Discrete(Wrong):
    @staticmethod
    def forward(ctx, x):
        return x.argsort()


class Failing(Wrong):
    @staticmethod
    def forward(ctx, x):
        raise ValueError("not today")


class FailingSetup(Wrong):
    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        raise ValueError("no context today")


class Overwriting(Wrong):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        y.mul_(2)  # exp's backward needs what is lost here
        return y


class Chain(Wrong):
    @staticmethod
    def forward(ctx, x):
        return Product.apply(x, x) + x


class Sometimes(Wrong):
    """Another hand-written Function inside, for some arguments only."""

    @staticmethod
    def forward(ctx, x):
        return Product.apply(x, x) if x.sum() > 0 else x.sin()


class Contained(Wrong):
    @staticmethod
    def forward(ctx, xs, w):
        return xs[0] * w


CONTAINED = Primals(("xs", "w"), ([X], W), ((0, 0), (1,)))


class Overridden(Product):
    @classmethod
    def apply(cls, x, w):
        return super().apply(x, w) + x


def around(cls):
    """The same Function, reached by the general way."""

    def function(*arguments):
        return cls.apply(*arguments)

    return as_subject(function).own_forward()


def answers(own, primals):
    linearization = own.linearize(primals)
    weights = [torch.linspace(1, 2, t.numel(), dtype=t.dtype).view(t.shape) for t in linearization.cotangent_like]
    gradients = linearization.pullback(weights)
    return linearization, [
        torch.zeros_like(x) if g is None else g for g, x in zip(gradients, primals.leaves, strict=True)
    ]


AGREEING = [
    (Product, TWO), (Product, FIRST), (ProductSetup, TWO), (ProductSetup, FIRST), (Several, ONE), (Marked, ONE),
    (MarkedSetup, ONE), (Identity, ONE), (View, ONE), (Needing, TWO), (Needing, FIRST), (Single, ONE), (Chain, ONE),
    (Sometimes, ONE), (Contained, CONTAINED), (Overridden, TWO), (Twice, ONE), (TwiceMarked, ONE),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "primals"), AGREEING)
def test_both_ways_give_the_same_outputs_and_gradients(cls, primals):
    here, got = answers(as_subject(cls).own_forward(), primals)
    there, expected = answers(around(cls), primals)
    own = as_subject(cls).linearize(primals)
    for other in (there, own):
        assert here.labels == other.labels
        assert here.differentiable == other.differentiable
        assert all(torch.equal(a, b) for a, b in zip(here.outputs, other.outputs, strict=True))
    assert not any(t.requires_grad for t in here.outputs)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert all(g.isfinite().all() for g in got)


REFUSED = [Detached, Discrete, Everything, Failing, FailingSetup, Overwriting]


@pytest.mark.parametrize("cls", REFUSED)
def test_both_ways_refuse_the_same(cls):
    told = []
    for own in (as_subject(cls).own_forward(), around(cls)):
        with pytest.raises(GradharnessError) as caught:
            answers(own, ONE)
        told.append((caught.type, str(caught.value).split(":")[0]))
    assert told[0] == told[1]
    assert told[0][0] is (ForwardRaised if cls in (Failing, FailingSetup) else OracleUnavailable)


@pytest.mark.parametrize("cls", [Dirty, DirtySetup])
def test_a_forward_that_works_in_place_is_refused(cls):
    with pytest.raises(OracleUnavailable, match="in place"):
        as_subject(cls).own_forward().linearize(ONE)


@pytest.mark.parametrize("cls", [Product, ProductSetup])
def test_too_few_arguments_are_the_forward_s_error(cls):
    with pytest.raises(ForwardRaised, match="TypeError"):
        as_subject(cls).own_forward().linearize(ONE)


def test_the_gradients_are_those_of_the_forward():
    for cls in (Product, ProductSetup):
        _, (x, w) = answers(as_subject(cls).own_forward(), TWO)
        weights = torch.linspace(1, 2, 3, dtype=torch.float64)
        assert torch.allclose(x, 3 * W * weights)
        assert torch.allclose(w, 3 * X * weights)


@pytest.mark.parametrize("cls", [Product, ProductSetup])
@pytest.mark.parametrize("bound", [True, False])
def test_no_class_is_touched_where_the_subject_is_an_apply(cls, bound, monkeypatch):
    def refuse(*_):
        raise RuntimeError("a static method was to be replaced")

    monkeypatch.setattr(own_forward, "standing_in", refuse)
    answers(as_subject(cls.apply if bound else cls).own_forward(), TWO)
    with pytest.raises(RuntimeError, match="replaced"):
        answers(around(cls), TWO)
    with pytest.raises(RuntimeError, match="replaced"):
        answers(as_subject(Chain).own_forward(), ONE)


def test_a_function_inside_is_found_at_whichever_call_it_first_comes():
    own = as_subject(Sometimes).own_forward()
    below, above = Primals(("x",), (-X,), ((0,),)), ONE
    weights = torch.linspace(1, 2, 3, dtype=torch.float64)
    for primals in (below, above, below, above):
        (x,) = primals.values
        (gradient,) = answers(own, primals)[1]
        assert torch.allclose(gradient, weights * (6 * x if primals is above else x.cos()))


def test_without_a_differentiated_tensor_there_is_nothing_to_differentiate():
    for own in (as_subject(Product).own_forward(), around(Product)):
        with pytest.raises(OracleUnavailable, match="no hand-written node"):
            own.linearize(Primals(("x", "w"), (X, W), ()))
