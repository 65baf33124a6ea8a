"""A search without a run: one check on one subject, with a given budget."""

import time
from contextlib import suppress

import torch

from gradharness.checks import find_check
from gradharness.checks.base import Setting
from gradharness.engine.looking import Looker
from gradharness.engine.search import Search
from gradharness.engine.settings import Profile
from gradharness.errors import SubjectError
from gradharness.inputs.domain import declared_domain
from gradharness.inputs.plain import plain_recipe
from gradharness.inputs.probe import infer_domain
from gradharness.inputs.specs import as_spec
from gradharness.model.subject import Primals
from gradharness.subjects import as_subject

F64 = torch.float64


def looker(subject, check="vjp", *, reference=None, examples=None, **specs):
    """Looks with one check at a subject; inputs are declared, or inferred from examples."""
    subject = as_subject(subject)
    reference = None if reference is None else as_subject(reference)
    setting = Setting.of(subject, reference, own=subject.own_forward())
    if examples is not None:
        names = tuple("xyz"[: len(examples)])

        def accepts(arguments):
            with suppress(SubjectError):
                return bool(subject.outputs(Primals(names, arguments, ())))
            return False

        domain = infer_domain(names, examples, accepts)
    else:
        domain = declared_domain({name: as_spec(spec, name) for name, spec in (specs or {"x": "n d"}).items()})
    return Looker(setting, find_check(check), domain)


def search(at, *, seed=0, examples=20, shrinks=100, seconds=30.0, deadline=float("inf"), progress=lambda _n: None):
    """A search with this budget."""
    return Search(
        looker=at,
        budget=Profile(examples=examples, shrinks=shrinks, shrink_seconds=seconds),
        seed=seed,
        broadcast=False,
        deadline=time.monotonic() + deadline,
        progress=progress,
    )


def look(at, **choices):
    """One look at an ordinary recipe."""
    from dataclasses import replace

    return at.look(replace(plain_recipe(at.domain, own=False), **choices))
