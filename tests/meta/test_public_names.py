"""The public names are a promise: one is added or removed here, on purpose, or not at all."""

import tomllib
from pathlib import Path

import pytest

import gradharness

PUBLIC_NAMES = [
    "CheckResult",
    "Fault",
    "Finding",
    "GradientError",
    "ProgramFinding",
    "Report",
    "Severity",
    "UndecidedWarning",
    "Verdict",
    "VjpRule",
    "Witness",
    "assert_gradients",
    "check",
    "gradcheck",
    "gradgradcheck",
    "gradient_test",
    "index",
    "manual",
    "mask",
    "module",
    "pair",
    "tensor",
    "training",
    "vjp_of",
]


def test_the_public_names_are_these():
    assert sorted(gradharness.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_resolves_to_the_object_of_that_name(name):
    assert getattr(gradharness, name).__name__ == name
    assert name in dir(gradharness)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="module 'gradharness' has no attribute 'gradchek'"):
        _ = gradharness.gradchek


def test_the_version_is_the_one_of_the_project():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"] == gradharness.__version__
