"""Which hand-written backwards a question reaches: its subject is called once, and its pullback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gradharness.checks.surroundings import watched
from gradharness.engine.plan import DTYPES, Item
from gradharness.engine.question import Question
from gradharness.engine.runner import device_reason, random_state_kept
from gradharness.errors import SubjectError, UsageError
from gradharness.inputs.domain import Domain
from gradharness.inputs.plain import plain_recipe, trial_recipes
from gradharness.inputs.recipe import Recipe, realize
from gradharness.model.reach import Reached
from gradharness.model.subject import Primals
from gradharness.numerics.layout import copied
from gradharness.subjects.backwards import watching
from gradharness.subjects.training_steps import training_of


def reach(question: Question, items: Sequence[Item]) -> tuple[Reached, ...]:
    """Calls the subject at its example or at a plain point, then its pullback with ones; what that reaches.

    Args:
        question: Of a gradient test.
        items: Where it runs; the first device that is there is taken.

    Raises:
        UsageError: None of the devices is there.
        SubjectError: The subject cannot be built, or raises at every plain point, or its backward raises.
    """
    if question.broken is not None:
        raise question.broken
    with random_state_kept(), watched():
        primals = _point(question, items)
        with watching() as seen:
            _called(question, primals)
    return seen.reached


def _point(question: Question, items: Sequence[Item]) -> Primals:
    there = [item for item in items if not device_reason(item.device)]
    if not there:
        raise UsageError(device_reason(items[0].device) if items else "it has no check to run")
    recipes = (*trial_recipes(question.domain), *_smallest(question.domain))
    places = dict.fromkeys((*((i.device, DTYPES[i.dtype]) for i in there), (there[0].device, torch.float32)))
    points = (realize(question.domain, r, dtype=dtype, device=device) for device, dtype in places for r in recipes)
    raised: list[SubjectError] = []
    for primals in points:
        try:
            question.subject.linearize(primals.at(copied(primals.leaves)))
        except SubjectError as error:
            raised.append(error)
        else:
            return primals
    raise raised[0]


def _smallest(domain: Domain) -> tuple[Recipe, ...]:
    """All sizes one, which is all that some subjects take."""
    if domain.examples is not None:
        return ()
    plain = plain_recipe(domain, own=True)
    least = {rule.name: 1 for rule in domain.dims if rule.allows(1)}
    return (replace(plain, sizes=tuple((name, least.get(name, size)) for name, size in plain.sizes)),)


def _called(question: Question, primals: Primals) -> None:
    linearization = question.subject.linearize(primals.at(copied(primals.leaves)))
    ones = [torch.ones_like(y) for y in linearization.cotangent_like]
    linearization.pullback(ones)
    training = training_of(question.subject)
    if training is None or training.subject.loop is None:
        return
    # What a loop calls by itself is reached by one step of it.
    values = dict(zip(primals.names, primals.values, strict=True))
    start = tuple(v.detach() for n in training.parameters if isinstance(v := values[n], torch.Tensor))
    course = training.follow([primals] * training.subject.accumulate, (), start)
    if course.raised is not None:
        raise course.raised
