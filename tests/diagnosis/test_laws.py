"""Laws: what a number equals, and when it equals nothing."""

import math

import pytest

from gradharness.diagnosis import laws
from tests.diagnosis.making import randn, sample

SAMPLES = [sample(randn(*s), randn(*s)) for s in ((3, 4), (5, 2), (7, 6))]


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (lambda n, d: 2.5, "5/2"),
        (lambda n, d: -math.pi, "-π"),
        (lambda n, d: 1 / n, "1/the batch size (0.3333 here)"),
        (lambda n, d: math.sqrt(d), "sqrt of the size of x in dimension 1 (2 here)"),
        (lambda n, d: n / (n - 1), "n/(n-1), n being the batch size (1.5 here),"),
        (lambda n, d: n * d, "the number of elements of x (12 here)"),
    ],
)
def test_a_law_is_told_and_followed(law, words):
    values = [law(*s.expected.shape) for s in SAMPLES]
    found = laws.number(SAMPLES, values)
    assert found.words(SAMPLES[0]) == words
    other = sample(randn(9, 8), randn(9, 8))
    assert found.at(other) == pytest.approx(law(9, 8))


@pytest.mark.parametrize("values", [(1.0, 1.1, 1.2), (1 / 3, 1 / 5, 1 / 8), (1.0, -1.0, 1.0)])
def test_what_follows_no_law_is_nothing(values):
    assert laws.number(SAMPLES, values) is None


def test_a_constant_may_also_be_a_size():
    assert laws.also_equals(SAMPLES[:1], 4.0) == "the size of x in dimension 1"
    assert laws.also_equals(SAMPLES, 4.0) == ""


@pytest.mark.parametrize(
    ("number", "words"), [(0.5, "1/2"), (math.sqrt(2), "sqrt 2"), (1.0001, "1.0001"), (-2 / 3, "-2/3")]
)
def test_a_constant_by_its_name(number, words):
    assert laws.in_words(number) == words
