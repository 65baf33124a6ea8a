"""Every pinned alarm is PyTorch's fault, as closed forms show; when it is mended, its test fails and the pin goes."""

from __future__ import annotations

import pytest

from gradharness import Severity
from gradharness.model.verdict import Fault, Finding
from properties import known_defects
from properties.pinned_alarms import PINS, reason
from properties.silence import SUBJECTS, Heard, listen

pytestmark = pytest.mark.filterwarnings("ignore")
BY_NAME = {one.name: one for one in SUBJECTS}


def alarm(check, message):
    return Finding(check=check, fault=Fault.UNKNOWN, severity=Severity.ERROR, message=message)


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.subjects[0])
def test_pytorch_is_wrong_by_closed_forms(pin):
    assert pin.shown()


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.subjects[0])
def test_a_pin_excuses_its_own_alarm_on_its_own_subjects_alone(pin):
    assert set(pin.subjects) <= set(BY_NAME)
    name = pin.subjects[0]
    assert reason(name, alarm(pin.check or "vjp", f"something {pin.says} here")) == pin.reason
    assert not reason(name, alarm(pin.check or "vjp", "gradient of x is 2 times too large"))
    assert not reason("sin", alarm(pin.check or "vjp", pin.says))


def test_every_defect_of_a_first_derivative_is_a_subject():
    assert {defect.name for defect in known_defects.DEFECTS} <= set(BY_NAME)


def test_an_alarm_without_a_point_is_not_excused_by_a_defect_at_some_points():
    assert not reason("det", alarm("vjp", "gradient of a is zero"))


def test_a_defect_is_told_apart_from_news_at_the_point_where_it_is():
    heard = listen(BY_NAME["scatter_amax alone"], seed=0, checks=("vjp",))
    assert heard.pinned
    assert not heard.alarms


def test_a_call_that_raises_is_an_alarm():
    assert Heard("sin", None, 0.0, "ValueError: no").alarms == ["ValueError: no"]
