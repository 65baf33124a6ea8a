"""What a pass claims to have seen is seen: a few trials; the long run is ``python -m properties.resolution``."""

from __future__ import annotations

import pytest
import torch

from properties.resolution import ENTRIES, WAYS, measure

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("way", WAYS)
def test_errors_of_four_times_the_resolution_are_seen(way):
    seen = measure(ENTRIES[0], way, torch.float64, trials=4, seed=3)
    assert seen.single_trials > 0
    assert seen.single == seen.single_trials
    assert seen.dense >= seen.dense_trials - 1
