"""Hypothesis profiles, and the skipping of CUDA tests where there is no device. Fixtures live beside their tests."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# How long one example takes depends on the machine, so neither deadlines nor slowness decide a test.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", COMMON, max_examples=25)
settings.register_profile("ci", COMMON, max_examples=100, derandomize=True, database=None, print_blob=True)
settings.register_profile("deep", COMMON, max_examples=2000, print_blob=True)

in_ci = os.environ.get("CI", "").lower() == "true"
settings.load_profile(os.environ.get("GRADHARNESS_PROFILE") or ("ci" if in_ci else "dev"))

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and torch sees none")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)
