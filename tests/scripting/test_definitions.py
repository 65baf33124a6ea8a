"""How a script gets at a function or class: by import, else by its source with all that it refers to."""

import functools
from pathlib import Path

import pytest
import torch

from gradharness.report import show
from gradharness.scripting.definitions import Definitions, NoSourceError, lambda_node

GLOBAL = 3


class Module(torch.nn.Module):
    def forward(self, x):
        return x


def made(factor):
    class Local(torch.autograd.Function):
        """Says nothing."""

        @staticmethod
        def forward(ctx, x):
            # Nothing is saved.
            return x * factor

        @staticmethod
        def backward(ctx, g):
            return g * factor + GLOBAL * helper(g)

    return Local


def helper(x):
    return 0 * x


def counting():
    count = 0

    def function(x):
        nonlocal count
        count += 1
        return x

    return function


def adding(big):
    return lambda x: x + big


def defined(value):
    """(expression, lines) of a value."""
    known = Definitions()
    return known.expression(value, "subject"), known.lines


def evaluated(value):
    expression, lines = defined(value)
    names = {"torch": torch}
    exec("\n".join(["import sys", *lines]), names)
    return eval(expression, names)


def test_what_a_module_holds_is_imported_from_its_folder():
    root = Path(show.__file__).parents[2]
    lines = (f"sys.path.insert(0, {str(root)!r})", "from gradharness.report.show import tensor")
    assert defined(show.tensor) == ("tensor", lines)


@pytest.mark.parametrize("value", [torch.sin, torch.nn.functional.silu, torch.nn.Linear])
def test_what_is_torchs_needs_no_import(value):
    expression, lines = defined(value)
    assert lines == ()
    assert eval(expression, {"torch": torch}) is value


def test_a_local_class_is_written_with_what_it_refers_to():
    expression, lines = defined(made(2.5).apply)
    assert expression == "Local.apply"
    text = "\n".join(lines)
    assert "factor = 2.5" in text
    assert "import GLOBAL" in text or "GLOBAL = 3" in text
    assert "import helper" in text
    assert "Says nothing" not in text
    assert "Nothing is saved" not in text
    x = torch.ones(2, requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(evaluated(made(2.5).apply)(x).sum(), x)[0], torch.full((2,), 2.5))


def test_lambdas_that_share_a_line_are_told_apart():
    first, second = (lambda x: x + 1, lambda x: sorted(x, key=lambda y: -y))
    assert evaluated(first)(1) == 2
    assert evaluated(second)([1, 2]) == [2, 1]
    assert lambda_node(len) is None


def test_a_lambda_that_wraps_a_local_class():
    local = made(2.0)
    x = torch.ones(2)
    assert torch.equal(evaluated(lambda x: local.apply(x) + 1)(x), torch.full((2,), 3.0))


@pytest.mark.parametrize("value", [counting(), Module(), functools.partial(helper), adding(torch.ones(1000))])
def test_what_cannot_be_written_has_no_source(value):
    with pytest.raises(NoSourceError):
        defined(value)


def test_two_values_of_one_name_have_no_source():
    known = Definitions()
    known.expression(made(1.0), "subject")
    with pytest.raises(NoSourceError):
        known.expression(made(2.0), "subject")
