"""Hypothesis ``as_if``: what it names, and what it must not."""

import pytest

from gradharness.diagnosis.hypotheses import as_if
from gradharness.model.case import Case
from gradharness.model.subject import Primals
from gradharness.model.verdict import Discrepancy, Fault
from tests.diagnosis.making import Sample, evidence, randn, setting


def forward(x, mode):
    if mode in ("sum", "mean"):
        return (x * x).sum() if mode == "sum" else (x * x).mean()
    return x.sin() if mode is True else x.cumsum(mode) if mode in (0, 1) and mode is not False else x * x


def seen(values, heeded, *, right=()):
    """Evidence of a backward that takes the mode for ``heeded(mode)``."""
    where = setting(forward, lambda x, mode, g: None)
    made = [_sample(where, v, heeded(v), n) for n, v in enumerate((*values, *right))]
    return evidence(*made[: len(values)], right=made[len(values) :], where=where)


def _sample(where, value, taken, seed):
    primals = Primals(("x", "mode"), (randn(3, 4, seed=seed), value), ((0,),))
    outputs = where.subject.outputs(primals)
    w = randn(*outputs[0].shape, seed=seed + 9)
    case = Case(
        primals=primals,
        outputs=outputs,
        output_labels=("output",),
        differentiable=(0,),
        cotangents=(w,),
        other_cotangents=(w,),
        directions=(),
        recipe={},
    )
    other = Primals(primals.names, (primals.values[0], taken), primals.active)
    got, expected = (where.own.at(case, p)[0] for p in (other, primals))
    return Sample(case, Discrepancy(label="x", got=got, expected=expected, bound=1e-9))


@pytest.mark.parametrize(
    ("values", "heeded", "words"),
    [
        ((True, True), lambda v: False, "for mode = False, whatever mode is"),
        ((True, False, True), lambda v: not v, "for the opposite of mode"),
        ((0, 0), lambda v: 1, "for mode = 1, whatever mode is"),
        (("sum", "sum"), lambda v: "mean", "for mode = 'mean', whatever mode is"),
    ],
)
def test_an_argument_that_is_not_heeded_is_told_with_the_value_it_is_taken_for(values, heeded, words):
    explanation = as_if.explain(seen(values, heeded))
    assert explanation.fault is Fault.WRONG_FOR_ARGUMENT
    assert words in explanation.message
    assert explanation.holds(seen(values, heeded).samples[1])
    assert not explanation.holds(seen(values, lambda v: v).first)


def test_a_value_that_right_cases_have_and_heed_is_refuted():
    assert as_if.explain(seen((True, True), lambda v: False, right=(False,))) is not None
    found = seen((True, True), lambda v: False)
    heeding = (_sample(found.setting, value=True, taken=True, seed=5),)
    assert as_if.explain(evidence(*found.samples, right=heeding, where=found.setting)) is None


def test_a_gradient_of_no_value_is_not_named():
    found = seen((True, True), lambda v: False)
    spoilt = [
        Sample(s.case, Discrepancy(label="x", got=1.1 * s.got, expected=s.expected, bound=1e-9)) for s in found.samples
    ]
    assert as_if.explain(evidence(*spoilt, where=found.setting)) is None
