"""What a diagnosis has to go on: failing samples, passing cases, and the right to call the subject again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from gradharness.checks.base import Setting
from gradharness.errors import SubjectError
from gradharness.model.case import Case
from gradharness.model.verdict import Discrepancy, Fault

# Agreement of a hypothesis with the measurement, relative to the tensor's largest element.
_EXPLAINED = 1e-5


@dataclass(frozen=True, slots=True)
class Sample:
    """One failing case and its worst discrepancy for the gradient in question."""

    case: Case
    found: Discrepancy

    @property
    def got(self) -> torch.Tensor:
        """The subject's gradient; zero where it gave none."""
        assert self.found.expected is not None
        return torch.zeros_like(self.found.expected) if self.found.got is None else self.found.got

    @property
    def expected(self) -> torch.Tensor:
        """The oracle's gradient."""
        assert self.found.expected is not None
        return self.found.expected

    @property
    def elementwise(self) -> bool:
        """Whether there is a gradient to look at, element by element."""
        expected, got = self.found.expected, self.found.got
        return expected is not None and (got is None or got.shape == expected.shape) and expected.numel() > 0

    @property
    def wrong(self) -> torch.Tensor:
        """True where the gradient is out of budget."""
        return ~((self.got - self.expected).abs() <= self.found.bound) & self.expected.isfinite()

    @property
    def right(self) -> torch.Tensor:
        """True where the gradient is right and says so: where nothing is expected, nothing is no achievement."""
        says = torch.maximum(self.expected.abs(), self.got.abs()) > self.found.bound
        return ~self.wrong & self.expected.isfinite() & says

    @property
    def leaf(self) -> torch.Tensor | None:
        """The primal that this is the gradient of; None if the label names an output."""
        labels = self.case.primals.labels
        return self.case.primals.leaves[labels.index(self.found.label)] if self.found.label in labels else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen of one fault.

    Attributes:
        setting: For calling the subject and its oracles again.
        check: Name of the check that failed.
        samples: Failing cases, the one to be explained first; all for the same gradient.
        passing: Cases on which the same check passed.
        right: Some of them, with the gradient that came and is therefore right.
    """

    setting: Setting
    check: str
    samples: tuple[Sample, ...]
    passing: tuple[Case, ...] = ()
    right: tuple[Sample, ...] = ()

    @property
    def first(self) -> Sample:
        """The case to be explained."""
        return self.samples[0]

    @property
    def label(self) -> str:
        """The gradient or output in question."""
        return self.first.found.label


def right_samples(setting: Setting, label: str, passing: Iterable[Case]) -> tuple[Sample, ...]:
    """Passing cases as samples: the gradient that came is the one that is expected."""
    found = []
    for case in passing:
        if label not in case.primals.labels or case.empty:
            continue
        try:
            gradients = setting.subject.linearize(case.primals).pullback(case.cotangents)
        except SubjectError:
            continue
        number = case.primals.labels.index(label)
        g = gradients[number]
        g = torch.zeros_like(case.primals.leaves[number]) if g is None else g
        found.append(Sample(case, Discrepancy(label=label, got=g, expected=g, excess=0.0)))
    return tuple(found)


def _always(_sample: Sample) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Explanation:
    """A hypothesis that explains everything seen.

    Attributes:
        fault: Kind of fault.
        message: One sentence.
        details: Further sentences of evidence.
        holds: Whether it explains another failing sample too; a smaller witness has to satisfy it.
        everywhere: Whether it speaks of all cases, so that it has to hold where the gradient is right as well.
        retold: The sentence for another sample, where it has particulars of the case in it.
    """

    fault: Fault
    message: str
    details: tuple[str, ...] = ()
    holds: Callable[[Sample], bool] = _always
    everywhere: bool = False
    retold: Callable[[Sample], str] | None = None


def close(got: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor | float = 0.0) -> bool:
    """Whether a hypothesis reproduces a gradient, to its own accuracy or the oracle's bound."""
    if got.shape != expected.shape:
        return False
    size = expected.abs()
    allowed = _EXPLAINED * (float(size.max()) if size.numel() else 0.0)
    return bool(((got - expected).abs() <= allowed + bound).all())
