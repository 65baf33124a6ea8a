"""Hypothesis ``duplicates``: what it names, and what it must not."""

import torch

from gradharness.diagnosis import Evidence, Sample
from gradharness.diagnosis.hypotheses import duplicates
from gradharness.model.case import Case
from gradharness.model.subject import Primals
from gradharness.model.verdict import Discrepancy, Fault
from tests.diagnosis.making import evidence, randn, setting


def seen(backward, *indices):
    """Evidence of a selection of rows with this backward."""
    samples = []
    for number, index in enumerate(indices):
        x, g = randn(6, 3, seed=number), randn(len(index), 3, seed=number + 9)
        primals = Primals(("x", "index"), (x, index), ((0,),))
        case = Case(
            primals=primals,
            outputs=(x[index],),
            output_labels=("output",),
            differentiable=(0,),
            cotangents=(g,),
            other_cotangents=(g,),
            directions=((x,),),
            recipe={},
        )
        due = torch.zeros_like(x).index_add(0, index, g)
        samples.append(Sample(case, Discrepancy(label="x", got=backward(x, index, g), expected=due, bound=1e-9)))
    return evidence(*samples, where=setting(lambda x, y: x[y], oracle=False))


REPEATED = torch.tensor([1, 4, 1, 0, 4]), torch.tensor([2, 2, 3, 5, 0])


def last(x, index, g):
    return torch.zeros_like(x).index_copy(0, index, g)


def test_copies_that_are_not_added_up_are_told_by_their_index():
    found = seen(last, *REPEATED)
    assert isinstance(found, Evidence)
    explanation = duplicates.explain(found)
    assert explanation.fault is Fault.DUPLICATES
    assert "where index holds an index more than once" in explanation.message
    assert all(explanation.holds(s) for s in found.samples)


def test_what_is_wrong_for_single_ones_too_is_no_matter_of_copies():
    assert duplicates.explain(seen(lambda x, i, g: 2 * last(x, i, g), *REPEATED)) is None
    right = lambda x, i, g: torch.zeros_like(x).index_add(0, i, g)  # noqa: E731
    assert duplicates.explain(seen(right, *REPEATED)) is None
    assert duplicates.explain(seen(lambda x, i, g: last(x, i, g) * (x > 0), *REPEATED)) is None
