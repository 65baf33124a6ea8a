"""What a pass claims to have seen is seen: a few trials; the long run is ``python -m properties.resolution``."""

from __future__ import annotations

import pytest
import torch

from properties.resolution import ENTRIES, WAYS, measure

pytestmark = pytest.mark.filterwarnings("ignore")
BY_NAME = {e.name: e for e in ENTRIES}
# In float32 finite differences of unlike scales resolve nothing, and claim nothing.
CASES = [
    *((way, "tanh", dtype) for way in WAYS for dtype in (torch.float64, torch.float32)),
    *((way, "unlike scales", torch.float64) for way in WAYS),
    ("reference", "unlike scales", torch.float32),
]


@pytest.mark.parametrize(("way", "name", "dtype"), CASES, ids=str)
def test_errors_of_four_times_the_resolution_are_seen(way, name, dtype):
    seen = measure(BY_NAME[name], way, dtype, trials=8, seed=3, elements=12)
    assert seen.single_trials > 0
    assert seen.single == seen.single_trials
    assert seen.dense >= seen.dense_trials - 1
