"""A few modules of torch.nn through the whole catalogue; all of them with ``python -m properties.torch_modules``."""

from __future__ import annotations

import pytest

from properties.silence import listen
from properties.torch_modules import PINS, SUBJECTS, alarms

pytestmark = pytest.mark.filterwarnings("ignore")

SAMPLE = ("Linear with specs", "Embedding", "Softmax", "AdaptiveAvgPool1d", "BatchNorm1d in eval mode")
# The slow ones meet the check that is about modules alone.
SLOW = ("LSTM", "MultiheadAttention", "TransformerEncoderLayer with dropout", "orthogonal", "Conv2d in groups")


@pytest.mark.parametrize("one", [one for one in SUBJECTS if one.name in SAMPLE], ids=lambda one: one.name)
def test_a_module_gives_no_alarm(one):
    assert alarms(listen(one, seed=0)) == []


@pytest.mark.parametrize("one", [one for one in SUBJECTS if one.name in SLOW], ids=lambda one: one.name)
def test_how_it_keeps_its_tensors_gives_no_alarm_and_no_warning(one):
    heard = listen(one, seed=0, checks=("module",))
    assert [alarms(heard), heard.warnings] == [[], []]


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.reason)
def test_a_pinned_alarm_is_a_defect_that_is_still_there(pin):
    assert pin.shown()


def test_there_are_as_many_modules_as_promised():
    assert len({one.name for one in SUBJECTS}) == len(SUBJECTS) >= 40
