"""A few of the correct subjects through the whole catalogue; all of them with ``python -m properties.silence``."""

from __future__ import annotations

import pytest

from properties import correct_functions, correct_handwritten
from properties.silence import HANDWRITTEN, SUBJECTS, chosen, listen

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("one", chosen(4, 1, subjects=HANDWRITTEN), ids=lambda one: one.name)
def test_a_correct_backward_gives_no_alarm(one):
    assert listen(one, seed=0).alarms == []


@pytest.mark.parametrize("one", chosen(6, 2), ids=lambda one: one.name)
def test_a_correct_function_gives_no_alarm(one):
    assert listen(one, seed=0).alarms == []


def test_there_are_as_many_subjects_as_promised():
    assert len(correct_functions.SUBJECTS) >= 150
    assert len(correct_handwritten.SUBJECTS) >= 30
    assert len({one.name for one in SUBJECTS}) == len(SUBJECTS)
