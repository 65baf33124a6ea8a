"""A module's parameters are differentiated with its inputs, its buffers are primals too, and it stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradharness import Fault, Verdict, check, gradient_test, module, tensor
from gradharness.errors import UsageError
from tests.checks import modules as m


class Product(torch.autograd.Function):
    """x @ w.T, with a gradient of w that is as many times too large."""

    @staticmethod
    def forward(ctx, x, w, factor):
        ctx.save_for_backward(x, w)
        ctx.factor = factor
        return x @ w.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.conj(), ctx.factor * (g.mT @ x.conj()), None


class Layer(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 8).reshape(2, 4))

    def forward(self, x):
        return Product.apply(x, self.weight, self.factor)


X = torch.linspace(-1, 1.3, 12, dtype=torch.float64).reshape(3, 4)
ONCE = ("vjp",)


def test_a_wrong_gradient_of_a_parameter_is_found():
    report = check(Layer(0), (X,), checks=ONCE, seed=0)
    assert report.verdict is Verdict.FAIL
    assert "weight" in report.findings[0].message


def test_a_right_one_passes_and_the_module_stays_as_it_was():
    layer = Layer(1)
    before = layer.weight.detach().clone()
    report = check(layer, (X,), checks=ONCE, seed=0)
    assert report.verdict is Verdict.PASS
    assert any("weight" in line for line in report.domain)
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is None


def test_parameters_go_by_their_names_in_the_state_dict():
    report = check(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()), (X,), checks=ONCE, seed=0)
    assert report.verdict is Verdict.PASS
    assert any(line.startswith("0.weight: float[3, 4]") for line in report.domain)


def drawn(subject, inputs=(X,), **options):
    return check(subject, inputs, checks=options.pop("checks", ONCE), seed=0, **options)


def identity():
    return nn.Identity()


@pytest.mark.parametrize("subject", [nn.Identity, nn.Identity(), module(nn.Identity), module(identity)])
def test_a_module_is_given_as_itself_as_its_class_or_by_a_factory(subject):
    assert drawn(subject).verdict is Verdict.PASS


# --- inputs -------------------------------------------------------------------------------------------------------


def test_named_dims_take_the_sizes_that_the_module_insists_on():
    report = drawn(lambda_of(nn.Linear, 4, 3), {"input": "n d"})
    assert report.verdict is Verdict.PASS
    assert any("d is 4, a size of the module's own" in line for line in report.domain)


def lambda_of(cls, *arguments, **options):
    return module(lambda: cls(*arguments, **options))


def test_a_parameter_may_have_a_spec_of_its_own():
    report = drawn(lambda_of(nn.Linear, 4, 3), {"input": "n 4", "weight": tensor("3 4", low=1.0, high=2.0)})
    assert report.verdict is Verdict.PASS
    assert any("weight: float[3, 4] between 1 and 2" in line for line in report.domain)


def test_where_no_input_is_differentiable_the_parameters_are():
    tokens = torch.tensor([[0, 3, 5], [1, 2, 4]])
    assert drawn(lambda_of(nn.Embedding, 6, 3), (tokens,)).verdict is Verdict.PASS
    with pytest.raises(UsageError, match="no differentiable input"):
        drawn(lambda_of(nn.Identity), (tokens,))


def test_buffers_and_frozen_parameters_keep_their_values_and_are_not_differentiated():
    norm = nn.BatchNorm1d(4).double().eval()
    norm.weight.requires_grad_(False)
    report = drawn(norm)
    fixed = [line.partition(":")[0] for line in report.domain if "always the given" in line]
    assert [report.verdict, fixed] == [Verdict.PASS, ["weight", "running_mean", "running_var", "num_batches_tracked"]]


@pytest.mark.parametrize("train", [True, False])
def test_a_module_in_either_mode_is_left_as_it_was(train):
    norm = nn.BatchNorm1d(4).train(not train)
    before = copy.deepcopy(norm.state_dict())
    assert drawn(module(norm, train=train), checks=("vjp", "state", "mask", "module")).verdict is Verdict.PASS
    assert norm.training is not train
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert all(p.grad is None for p in norm.parameters())


def test_an_input_with_the_name_of_a_parameter_keeps_it():
    class Weighted(nn.Linear):
        def forward(self, weight):
            return weight @ self.weight.mT

    report = drawn(lambda_of(Weighted, 4, 3, bias=False), checks=("vjp", "module"))
    assert report.verdict is Verdict.PASS
    assert any(line.startswith("self.weight: ") for line in report.domain)


def test_parameters_that_need_their_values_stay_near_them():
    class Angle(nn.Module):
        def __init__(self):
            super().__init__()
            self.cosine = nn.Parameter(torch.linspace(-0.5, 0.6, 6))

        def forward(self, x):
            return self.cosine.acos() * x.sum()

    report = drawn(Angle)
    assert report.verdict is Verdict.PASS
    assert any("cosine: float[6] near the example's values" in line for line in report.domain)


def test_lazy_parameters_are_made_by_the_example():
    assert drawn(lambda_of(nn.LazyLinear, 3), (X.float(),)).verdict is Verdict.PASS


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_module_that_cannot_be_copied_or_swapped_is_checked_as_far_as_it_can_be():
    layer = m.KeepsItsOutput()
    layer(X.float())  # what it keeps now has a graph
    assert drawn(layer).verdict is Verdict.PASS
    report = drawn(torch.jit.trace(nn.Linear(4, 3).double(), X))
    assert report.verdict is Verdict.PASS
    assert any("functional_call" in note for note in report.notes)


def test_as_a_gradient_test_the_module_is_given_with_specs():
    made = gradient_test(lambda_of(nn.Linear, 4, 3), input="n 4", checks=ONCE)
    assert made.run(seed=0).verdict is Verdict.PASS


@pytest.mark.parametrize(("factory", "words"), [(nn.Linear, "'in_features'"), (3, "give an nn.Module"), (dict, "dict")])
def test_what_makes_no_module_is_refused(factory, words):
    with pytest.raises(UsageError, match=words):
        drawn(module(factory))


# --- references ---------------------------------------------------------------------------------------------------


def swapped(input, bias, weight):
    return F.linear(input, weight, bias)


def doubled(x, weight):
    return 2 * F.linear(x, weight)


class SameKeys(nn.Linear):
    """The same parameters, registered in another order."""

    def __init__(self):
        super().__init__(4, 3)
        self._parameters = dict(reversed(self._parameters.items()))

    def forward(self, x):
        return (x[:, None] * self.weight).sum(-1) + self.bias


@pytest.mark.parametrize("reference", [F.linear, swapped, SameKeys, SameKeys(), module(SameKeys)])
def test_a_reference_that_knows_the_parameters_gets_them(reference):
    report = drawn(lambda_of(nn.Linear, 4, 3), reference=reference, checks=("value", "vjp"))
    assert [report.verdict, report.notes] == [Verdict.PASS, ()]
    wrong = drawn(lambda_of(nn.Linear, 4, 3, bias=False), reference=doubled, checks=("value",))
    assert wrong.verdict is Verdict.FAIL


def test_a_wrong_gradient_of_a_parameter_is_found_beside_such_a_reference():
    report = drawn(Layer(0), reference=lambda x, weight: x @ weight.mT)
    assert [report.verdict, report.findings[0].fault] == [Verdict.FAIL, Fault.ZERO_GRADIENT]
    assert drawn(Layer(1), reference=lambda x, weight: x @ weight.mT).verdict is Verdict.PASS


def test_a_reference_module_with_other_parameters_keeps_its_own():
    layer = nn.Linear(4, 3)
    other = nn.Sequential(copy.deepcopy(layer))
    report = drawn(layer, reference=other)
    assert report.verdict is Verdict.PASS
    assert any("another state_dict ('0.bias')" in note for note in report.notes)


def test_the_module_itself_is_no_reference():
    layer = nn.Linear(4, 3)
    assert any("proves nothing" in note for note in drawn(layer, reference=layer).notes)


def test_beside_a_reference_the_report_says_that_parameters_are_left_out():
    layer = Layer(0)
    report = check(layer, (X.float(),), reference=lambda x: x @ layer.weight.detach().to(x.dtype).mT, checks=ONCE)
    assert any("parameters are not differentiated" in note for note in report.notes)
