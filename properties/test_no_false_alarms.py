"""A short run over the whole catalogue of right gradients; the long one is ``python -m properties.false_alarms``."""

from __future__ import annotations

import pytest
import torch

from gradharness.model.verdict import Verdict
from properties.drawing import Where
from properties.false_alarms import ENTRIES, Way, examine, point_of, run

pytestmark = pytest.mark.filterwarnings("ignore")


def test_right_gradients_do_not_fail():
    tally = run(2000, seed=20)
    assert not tally.false_alarms, "\n".join(str(a) for a in tally.false_alarms)
    assert tally.share(Verdict.UNDECIDED, Where.ORDINARY) < 0.05
    assert tally.share(Verdict.PASS, Where.ORDINARY) > 0.9


def test_the_catalogue_is_as_broad_as_it_says():
    assert len({e.name for e in ENTRIES}) == len(ENTRIES) >= 150
    assert sum(e.handwritten for e in ENTRIES) >= 15


@pytest.mark.parametrize(
    ("name", "way", "where", "seed"),
    [
        ("hardtanh", Way("value", referenced=True), Where.HUGE, 2108631500),
        ("cosine_embedding", Way("linearity"), Where.TIES, 512915271),
        ("pow -2", Way("vjp", referenced=True, dtype=torch.float32), Where.HUGE, 1595696434),
        ("hand: cosine", Way("value", referenced=True), Where.TINY, 150820801),
    ],
)
def test_false_alarms_of_the_past(name, way, where, seed):
    entry = next(e for e in ENTRIES if e.name == name)
    assert examine(entry, way, point_of(entry, way, where, seed)).verdict is not Verdict.FAIL


@pytest.mark.parametrize("where", list(Where))
def test_a_seed_gives_the_same_point(where):
    entry, way = ENTRIES[0], Way("vjp", referenced=False)
    first, second = (point_of(entry, way, where, 7) for _ in range(2))
    assert torch.equal(first.primals.leaves[0], second.primals.leaves[0])
    assert examine(entry, way, first).verdict is examine(entry, way, second).verdict
