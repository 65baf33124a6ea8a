"""The optimisers written out are torch's, and every mistake in them is another one."""

import pytest
import torch

from gradharness.checks.training_rules import rule_of, variants

MADE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "climbing": lambda p: torch.optim.SGD(p, lr=0.1, maximize=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adam with decay": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
    "rmsprop centered": lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.9, weight_decay=0.1),
}
G = torch.Generator().manual_seed(1)
BEFORE, GRADIENTS = (torch.randn(5, 3, generator=G, dtype=torch.float64) for _ in range(2))


def by_torch(make):
    parameter = torch.nn.Parameter(BEFORE[0].clone())
    optimizer = make([parameter])
    after = []
    for x, g in zip(BEFORE, GRADIENTS, strict=True):
        parameter.data, parameter.grad = x.clone(), g.clone()
        optimizer.step()
        after.append(parameter.data)
    return optimizer, torch.stack(after)


@pytest.mark.parametrize("name", MADE)
def test_a_rule_is_torchs_and_no_variant_is(name):
    optimizer, expected = by_torch(MADE[name])
    rule, extra = rule_of(optimizer)
    options = {**optimizer.param_groups[0], **extra}
    torch.testing.assert_close(rule(BEFORE, GRADIENTS, options), expected, rtol=1e-12, atol=1e-12)
    for variant in variants(rule, options):
        other = rule(BEFORE, GRADIENTS, {**options, **variant.options})
        assert not torch.allclose(other, expected, rtol=1e-9, atol=1e-12), variant.says


def test_other_optimisers_have_no_rule():
    assert rule_of(torch.optim.Adagrad([torch.nn.Parameter(BEFORE[0])])) is None
