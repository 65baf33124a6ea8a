"""What a run consists of, and how much it may cost."""

import pytest
import torch

from gradharness.checks import all_checks, find_check
from gradharness.engine.plan import Item, plan
from gradharness.engine.settings import PROFILES, RunSettings
from gradharness.errors import UnknownNameError, UsageError


def test_all_checks_on_each_device_in_each_dtype():
    items = plan(None, ("cpu", "cuda:1"), ("float64", torch.float32))
    assert len(items) == len(all_checks()) * 4
    assert items[0] == Item("value", "cpu", "float64")
    assert items[-1].id == f"{all_checks()[-1].name}-cuda:1-float32"


def test_float64_is_the_default():
    assert {item.dtype for item in plan(("vjp",), ("cpu",), None)} == {"float64"}


@pytest.mark.parametrize(
    "arguments", [(("nope",), ("cpu",), None), (None, ("tpu",), None), (None, ("cpu",), ("int8",))]
)
def test_unknown_names(arguments):
    with pytest.raises(UnknownNameError):
        plan(*arguments)


def test_each_check_is_found_by_its_name_and_says_what_it_proves():
    for check in all_checks():
        assert find_check(check.name) is check
        assert check.proves.endswith(".")
        assert check.cannot.endswith(".")


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_budgets(profile):
    budget = RunSettings(profile=profile).budget
    assert budget.examples > 0
    assert budget.shrinks > 0


@pytest.mark.parametrize("limit", [0, -1.0, float("inf"), float("nan")])
def test_a_time_limit_is_positive_and_finite(limit):
    with pytest.raises(UsageError, match="time_limit"):
        RunSettings(time_limit=limit)
