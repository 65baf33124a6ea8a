"""``training(...)`` and ``manual(optimizer=...)``: what they refuse, and what they hold."""

import re

import pytest
import torch

from gradharness import manual, training
from gradharness.errors import UsageError


def loop(model, batches):
    """Does nothing."""


def sgd(params):
    return torch.optim.SGD(params, lr=0.01)


GIVEN = {"model": lambda: torch.nn.Linear(2, 1), "loss": torch.nn.MSELoss(), "optimizer": sgd}
REFUSED = {
    "a loop that is none": ((3,), {}, "training(loop=3): must be callable"),
    "a module for a model": ((loop,), {"model": torch.nn.Linear(2, 1)}, "give a function that makes a fresh one"),
    "a model that is none": ((loop,), {"model": dict}, "makes dict: make a torch.nn.Module"),
    "a model that raises": ((loop,), {"model": torch.nn.Linear}, "raises TypeError"),
    "a model without parameters": ((loop,), {"model": torch.nn.ReLU}, "ReLU has no parameter"),
    "an optimiser in place of its factory": ((loop,), {"optimizer": "SGD"}, "lambda params: torch.optim.SGD"),
    "no steps": ((loop,), {"steps": 0}, "must be a whole number from 1 on"),
    "half a batch": ((loop,), {"accumulate": 0.5}, "must be a whole number from 1 on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_call_that_cannot_be_is_refused(name):
    arguments, changed, text = REFUSED[name]
    with pytest.raises(UsageError, match=re.escape(text)):
        training(*arguments, **{**GIVEN, **changed})


def test_a_class_with_an_update_needs_a_state_and_a_factory():
    with pytest.raises(UsageError, match="without state="):
        manual(dict, gradients=dict, optimizer=sgd)
    with pytest.raises(UsageError, match=re.escape("manual(optimizer=3)")):
        manual(dict, gradients=dict, state=("w",), optimizer=3)
    with pytest.raises(UsageError, match="whole number"):
        manual(dict, gradients=dict, state=("w",), optimizer=sgd).for_steps(0)


def test_the_parameters_are_those_that_require_grad():
    def frozen():
        model = torch.nn.Linear(2, 1)
        model.bias.requires_grad_(False)
        return model

    subject = training(loop, **{**GIVEN, "model": frozen}, steps=3)
    assert subject.state == ("weight",)
    assert subject.steps == 3
    assert subject.targets == ("target",)
    assert manual(dict, gradients=dict, state=("w",), optimizer=sgd).for_steps(1000).steps == 1000


def test_making_one_draws_nothing_from_the_callers_random_numbers():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    training(loop, **GIVEN)
    assert torch.equal(torch.rand(2), expected)
