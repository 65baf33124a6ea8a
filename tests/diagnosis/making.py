"""Evidence made by hand: samples of a subject with a known fault, compared with a known truth."""

import torch

from gradharness.checks.base import Setting
from gradharness.diagnosis import Evidence, Sample
from gradharness.model.case import Case
from gradharness.model.subject import Primals
from gradharness.model.verdict import Discrepancy
from gradharness.numerics.tolerance import tolerance_for
from gradharness.oracles.autograd import Autograd
from gradharness.oracles.finite_difference import FiniteDifference
from gradharness.subjects import pair
from gradharness.subjects.function import FunctionSubject

F64 = torch.float64


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def setting(forward=lambda x: x * 1, vjp=lambda x, g: g, *, oracle=True):
    """The setting of a pair; its oracle is autograd of the forward."""
    subject = pair(forward, vjp)
    return Setting(
        subject=subject,
        reference=None,
        surrogate=False,
        tolerance=tolerance_for(F64),
        trusted=None,
        own=Autograd("autograd of the forward", FunctionSubject("truth", forward)) if oracle else None,
        differences=FiniteDifference(subject) if oracle else None,
        dtype=F64,
        device="cpu",
    )


def case(where, *leaves, names=("x", "y", "z"), seed=0):
    """A case at some leaves, with drawn cotangents."""
    primals = Primals(tuple(names[: len(leaves)]), leaves, tuple((i,) for i in range(len(leaves))))
    outputs = where.subject.outputs(primals)
    slopes = tuple(i for i, y in enumerate(outputs) if y.is_floating_point() or y.is_complex())
    drawn = [tuple(randn(*outputs[i].shape, seed=seed + k, dtype=outputs[i].dtype) for i in slopes) for k in (10, 20)]
    return Case(
        primals=primals,
        outputs=outputs,
        output_labels=tuple(f"output[{i}]" for i in range(len(outputs))),
        differentiable=slopes,
        cotangents=drawn[0],
        other_cotangents=drawn[1],
        directions=tuple(tuple(randn(*x.shape, seed=k, dtype=x.dtype) for x in leaves) for k in range(16)),
        recipe={},
    )


def sample(expected, got, *, leaf=None, label="x", bound=1e-9, **found):
    """A sample that shows this gradient where that one is right."""
    here = setting()
    leaf = randn(*expected.shape, seed=99) if leaf is None else leaf
    return Sample(case(here, leaf), Discrepancy(label=label, got=got, expected=expected, bound=bound, **found))


def evidence(*samples, right=(), passing=(), where=None):
    return Evidence(where or setting(), "vjp", tuple(samples), tuple(passing), tuple(right))


def correct(expected, **rest):
    """A sample that is right."""
    return sample(expected, expected, **rest)


def measured(where, *points, label="x"):
    """Samples of the setting's subject beside autograd of its forward."""
    found = []
    for number, leaves in enumerate(points):
        here = case(where, *leaves, seed=100 * number)
        index = here.primals.labels.index(label)
        got = where.subject.linearize(here.primals).pullback(here.cotangents)[index]
        expected = where.own.gradients(here).gradients[index]
        found.append(Sample(here, Discrepancy(label=label, got=got, expected=expected, bound=1e-9)))
    return evidence(*found, where=where)


SHAPES = ((3, 4), (5, 2), (2, 2))
TRUTHS = [randn(*s, seed=i) for i, s in enumerate(SHAPES)]
SAME = [randn(3, 4, seed=i) for i in range(4)]
ONE = [(randn(3, 4, seed=i),) for i in range(2)]


def seen(change, truths=TRUTHS, **rest):
    """Evidence of a fault that changes every gradient in the same way."""
    return evidence(*(sample(t, change(t)) for t in truths), **rest)


def exp(x):
    return x.exp()
